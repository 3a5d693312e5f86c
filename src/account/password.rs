//! Passwords as the web server's accounts keep them: the hashes of werkzeug (`werkzeug/security.py`), `METHOD$SALT$HEX`.

use pbkdf2::pbkdf2_hmac;
use scrypt::Params;
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// How often a new hash is made over; werkzeug 3 does the same with this method, and every older one reads it.
const ITERATIONS: u32 = 600_000;
/// The most memory that a hash may want, in bytes. That of werkzeug wants 32 MiB.
const MOST_MEMORY: u64 = 1 << 30;

/// Whether a hash is that of this password. One of a kind that we do not know is not.
pub(crate) fn fits(stored: &str, password: &str) -> bool {
    let mut parts = stored.splitn(3, '$');
    let (Some(method), Some(salt), Some(hash)) = (parts.next(), parts.next(), parts.next()) else { return false };
    hashed(method, salt, password).is_some_and(|bytes| hex(&bytes).as_bytes().ct_eq(hash.as_bytes()).into())
}

/// A new hash of a password. The salt is a random text without `$`.
pub(crate) fn hash(password: &str, salt: &str) -> String {
    let mut bytes = [0; 32];
    pbkdf2_hmac::<Sha256>(password.as_bytes(), salt.as_bytes(), ITERATIONS, &mut bytes);
    format!("pbkdf2:sha256:{ITERATIONS}${salt}${}", hex(&bytes))
}

fn hashed(method: &str, salt: &str, password: &str) -> Option<Vec<u8>> {
    let mut words = method.split(':');
    let name = words.next()?;
    let numbers = |words: std::str::Split<'_, char>| -> Option<Vec<u32>> {
        words.map(|word| word.parse().ok().filter(|number| *number > 0)).collect()
    };
    match name {
        "pbkdf2" if words.next() == Some("sha256") => {
            let [iterations] = numbers(words)?[..] else { return None };
            let mut bytes = vec![0; 32];
            pbkdf2_hmac::<Sha256>(password.as_bytes(), salt.as_bytes(), iterations, &mut bytes);
            Some(bytes)
        }
        "scrypt" => {
            let [n, r, p] = numbers(words)?[..] else { return None };
            let fits = n.is_power_of_two() && 128 * u64::from(n) * u64::from(r) <= MOST_MEMORY;
            let log_n = u8::try_from(n.trailing_zeros()).ok().filter(|_| fits)?;
            let mut bytes = vec![0; 64];
            let parameters = Params::new(log_n, r, p, bytes.len()).ok()?;
            scrypt::scrypt(password.as_bytes(), salt.as_bytes(), &parameters, &mut bytes).ok()?;
            Some(bytes)
        }
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn u06_hashes_of_werkzeug_fit_their_password_alone() {
        // Made by `generate_password_hash` of werkzeug 3, at less cost than its default.
        for stored in [
            "scrypt:1024:8:1$TEJHDnmCVZgRl1Qx$001863dd3d8c53a8194f98889c796e40f25f90bc5aa7f4adf74455d26eaac3ca47bb41c6937bfd82d6ce72ffe4e807982c5deaa3b80eed22812da144300fd611",
            "pbkdf2:sha256:1000$Ir3nXdPKaj9ZkRqy$84ab57758ad6a39ca3e1a311664d716602a9133c3ca451f1addc2e6d810bb9b6",
        ] {
            assert!(fits(stored, "a päss"), "{stored}");
            assert!(!fits(stored, "a pass"), "{stored}");
        }
        for stored in ["", "plain", "md5$a$b", "pbkdf2:sha256$a$b", "scrypt:3:8:1$a$b", "scrypt:1073741824:8:1$a$b"] {
            assert!(!fits(stored, "a päss"), "{stored}");
        }
    }
}
