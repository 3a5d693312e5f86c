//! Whether a key reads a Fernet token, judged by the token's signature.
//!
//! The signature (HMAC-SHA256 with the first half of the key) is over all of the token, so whoever made it had the key, and what
//! is inside is what that one put there: nothing is decrypted, and no plaintext is ever in our memory. Airflow's own reader would
//! still refuse a padding that the key's owner has made wrong, which no writer of tokens does.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use fernet::Fernet;
use hkdf::hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

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
        self.key_of(token).is_some()
    }

    /// Which of the keys made this token, counted from 0.
    pub(crate) fn key_of(&mut self, token: &str) -> Option<usize> {
        self.bytes.clear();
        if URL_SAFE.decode_vec(token, &mut self.bytes).is_err() {
            let Ok((bytes, _)) = decode(token.as_bytes()) else { return None };
            self.bytes.clear();
            self.bytes.extend_from_slice(&bytes);
        }
        let (signed, signature) = self.bytes.split_last_chunk::<SIGNATURE>()?;
        let length = signed.len().checked_sub(HEAD)?;
        if length == 0 || length % BLOCK != 0 || signed.first() != Some(&VERSION) {
            return None;
        }
        self.keys.iter().position(|key| key.clone().chain_update(signed).verify_slice(signature).is_ok())
    }
}

/// Encrypts tokens anew with the first key of a list, as `MultiFernet.rotate` does: a token keeps its own time.
pub(crate) struct Renewer {
    reader: Reader,
    keys: Vec<Fernet>,
}

/// What a token is to a list of keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Renewal {
    /// The first key made it.
    Current,
    /// An older key made it; the same under the first one.
    Renewed(String),
    /// None of them reads it.
    Unread,
}

impl Renewer {
    pub(crate) fn new(keys: &FernetKeys) -> Result<Self, Error> {
        let bug = || Error::Bug { what: "a Fernet key that is none".to_owned() };
        let each: Option<Vec<_>> = keys.each().map(|key| Fernet::new(&key.canonical())).collect();
        Ok(Self { reader: Reader::new(keys)?, keys: each.ok_or_else(bug)? })
    }

    pub(crate) fn renew(&mut self, token: &str) -> Renewal {
        match self.reader.key_of(token) {
            None => Renewal::Unread,
            Some(0) => Renewal::Current,
            Some(index) => self.renewed(index).map_or(Renewal::Unread, Renewal::Renewed),
        }
    }

    /// The token that was just read, under the first key; none where what is signed is no text of AES-CBC's.
    fn renewed(&self, index: usize) -> Option<String> {
        let bytes = &self.reader.bytes;
        let made = u64::from_be_bytes(bytes.get(1..9)?.try_into().ok()?);
        let plain = Zeroizing::new(self.keys.get(index)?.decrypt_at_time(&URL_SAFE.encode(bytes), None, made).ok()?);
        let first = self.keys.first()?;
        let renewed = first.encrypt_at_time(&plain, made);
        (Zeroizing::new(first.decrypt_at_time(&renewed, None, made).ok()?) == plain).then_some(renewed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
    const OTHER: &str = "7qmma0wOpce2BrpK8rdF8708-tO0ikF09KaKpnOyE9I=";
    const FOREIGN: &str = "Zm9yZWlnbmZvcmVpZ25mb3JlaWduZm9yZWlnbmZvcmU=";

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

    #[test]
    fn a_renewed_token_is_the_same_under_the_first_key() {
        let (old, new) = (KEY, OTHER);
        let list = FernetKeys::parse(format!("{new},{old}").as_bytes()).unwrap();
        let mut renewer = Renewer::new(&list).unwrap();
        for text in ["", "x", "Grüße, 世界", &"long".repeat(16_384)] {
            let token = Fernet::new(old).unwrap().encrypt_at_time(text.as_bytes(), 1_234_567_890);
            // Python's base64 passes over what is none.
            for written in [token.clone(), format!("\"{token}\"\n")] {
                let Renewal::Renewed(renewed) = renewer.renew(&written) else { panic!("{written:?}") };
                assert_eq!(Fernet::new(new).unwrap().decrypt(&renewed).unwrap(), text.as_bytes());
                assert!(Fernet::new(old).unwrap().decrypt(&renewed).is_err());
                assert_eq!(URL_SAFE.decode(&renewed).unwrap()[1..9], 1_234_567_890_u64.to_be_bytes());
                assert_eq!(renewer.renew(&renewed), Renewal::Current);
            }
        }
        let ahead = Fernet::new(old).unwrap().encrypt_at_time(b"x", 1 << 40);
        assert!(matches!(renewer.renew(&ahead), Renewal::Renewed(_)));
        assert_eq!(renewer.renew(&Fernet::new(FOREIGN).unwrap().encrypt(b"x")), Renewal::Unread);
        assert_eq!(renewer.renew("{\"plain\": 1}"), Renewal::Unread);
    }
}
