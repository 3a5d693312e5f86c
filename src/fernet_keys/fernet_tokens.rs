//! Whether a key reads a Fernet token, judged by the token's signature.
//!
//! The signature (HMAC-SHA256 with the first half of the key) is over all of the token, so whoever made it had the key, and what
//! is inside is what that one put there: nothing is decrypted, and no plaintext is ever in our memory. Airflow's own reader would
//! still refuse a padding that the key's owner has made wrong, which no writer of tokens does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use hkdf::hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::error::Error;
use crate::fernet_keys::{FernetKeys, decode};

/// The first byte of each token (Fernet specification, "Token Format").
const VERSION: u8 = 0x80;
/// Version, time stamp and initialization vector.
const HEAD: usize = 1 + 8 + 16;
/// AES-CBC encrypts whole blocks.
const BLOCK: usize = 16;
const SIGNATURE: usize = 32;

/// Reads tokens with any key of a list, as `MultiFernet` does.
pub(crate) struct Reader {
    /// Each key's signature, begun.
    keys: Vec<Hmac<Sha256>>,
    /// The token at hand; kept, so that not each one needs memory of its own.
    bytes: Vec<u8>,
}

impl Reader {
    pub(crate) fn new(keys: &FernetKeys) -> Result<Self, Error> {
        let begun = keys.signing_keys().map(<Hmac<Sha256> as Mac>::new_from_slice).collect::<Result<_, _>>();
        let keys = begun.map_err(|problem| Error::Bug { what: problem.to_string() })?;
        Ok(Self { keys, bytes: Vec::new() })
    }

    /// Whether one of the keys made this token. Its base64 is read as leniently as Python reads it.
    pub(crate) fn reads(&mut self, token: &str) -> bool {
        self.bytes.clear();
        if URL_SAFE.decode_vec(token, &mut self.bytes).is_err() {
            let Ok((bytes, _)) = decode(token.as_bytes()) else { return false };
            self.bytes.clear();
            self.bytes.extend_from_slice(&bytes);
        }
        let Some((signed, signature)) = self.bytes.split_last_chunk::<SIGNATURE>() else { return false };
        let blocks = signed.len().checked_sub(HEAD).filter(|length| *length > 0 && length % BLOCK == 0);
        blocks.is_some()
            && signed.first() == Some(&VERSION)
            && self.keys.iter().any(|key| key.clone().chain_update(signed).verify_slice(signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
    const OTHER: &str = "7qmma0wOpce2BrpK8rdF8708-tO0ikF09KaKpnOyE9I=";

    fn token(text: &str) -> String {
        fernet::Fernet::new(KEY).unwrap().encrypt(text.as_bytes())
    }

    fn reader(keys: &str) -> Reader {
        Reader::new(&FernetKeys::parse(keys.as_bytes()).unwrap()).unwrap()
    }

    #[test]
    fn any_key_of_a_list_reads_and_no_other_does() {
        for text in ["", "x", "Grüße, 世界", &"long".repeat(16_384)] {
            let token = token(text);
            assert!(reader(KEY).reads(&token) && reader(&format!("{OTHER},{KEY}")).reads(&token));
            assert!(!reader(OTHER).reads(&token));
        }
    }

    #[test]
    fn decoration_is_passed_over_as_python_does() {
        let (token, mut reader) = (token("value"), reader(KEY));
        let standard = token.replace('-', "+").replace('_', "/");
        for token in
            [format!("{token}\n"), format!(" {token}"), format!("\"{token}\""), standard, format!("{token}====")]
        {
            assert!(reader.reads(&token), "{token:?}");
        }
    }

    #[test]
    fn what_is_no_whole_token_is_not_read() {
        let (token, mut reader) = (token("value"), reader(KEY));
        let mut bytes = URL_SAFE.decode(&token).unwrap();
        for text in ["", "plain text", "gAAAAA", &token[..token.len() - 4], &token[4..]] {
            assert!(!reader.reads(text), "{text:?}");
        }
        for index in [0, 5, 12, 30, bytes.len() - 1] {
            bytes[index] ^= 1;
            assert!(!reader.reads(&URL_SAFE.encode(&bytes)), "byte {index}");
            bytes[index] ^= 1;
        }
        // The control.
        assert!(reader.reads(&URL_SAFE.encode(&bytes)));
    }
}
