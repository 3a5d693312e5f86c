//! What a Fernet key is: parsed as leniently as Python's `cryptography` does, handed on in its canonical form.
//!
//! Knows nothing of files or variables; never shows a key, only its fingerprint.

pub(crate) mod fernet_tokens;
pub(crate) mod forgetting;
pub(crate) mod rotation;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use zeroize::{Zeroize, Zeroizing};

use crate::secret::fingerprint;

/// The bytes of a Fernet key: 16 to sign, 16 to encrypt (Fernet specification, "Key Format").
const KEY_BYTES: usize = 32;

/// One or more Fernet keys, newest first: the first encrypts, all decrypt (`MultiFernet`).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct FernetKeys(Vec<FernetKey>);

/// One key, as its 32 bytes. Wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
struct FernetKey([u8; KEY_BYTES]);

/// Why a text is not a list of Fernet keys. Never holds the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyProblem {
    /// An element of a list is none.
    #[error("{problem} at position {position}")]
    At {
        problem: Box<Self>,
        /// Counted from 1.
        position: usize,
    },
    /// An element between two commas, or the whole, has nothing in it.
    #[error("expected keys joined by single commas, found an empty element at position {position}")]
    EmptyElement {
        /// Counted from 1.
        position: usize,
    },
    /// Base64 text that ends in the middle of a byte.
    #[error(
        "expected {KEY_BYTES} bytes in url-safe base64 (44 characters), found {characters} characters that end in the middle of a byte"
    )]
    Incomplete {
        /// Characters of the base64 alphabets, padding not counted.
        characters: usize,
    },
    /// Sound base64 of another length.
    #[error("expected {KEY_BYTES} bytes in url-safe base64 (44 characters), found {bytes} bytes")]
    Length {
        /// What was decoded.
        bytes: usize,
    },
    /// Airflow would silently use the first key alone (`base64` stops at the first padding).
    #[error("found two keys without a comma between them")]
    TwoKeys,
}

impl FernetKeys {
    /// Reads keys joined by commas. Takes what Python's `base64.urlsafe_b64decode` takes (blanks, quotes, line ends, a
    /// byte-order mark, both alphabets) and also a key whose padding is missing.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, KeyProblem> {
        let elements = text.split(|byte| *byte == b',');
        let several = text.contains(&b',');
        elements
            .enumerate()
            .map(|(index, element)| {
                if several && element.iter().all(u8::is_ascii_whitespace) {
                    return Err(KeyProblem::EmptyElement { position: index + 1 });
                }
                FernetKey::parse(element).map_err(|problem| match several {
                    true => KeyProblem::At { problem: Box::new(problem), position: index + 1 },
                    false => problem,
                })
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// What Airflow is given: canonical url-safe base64, joined by commas, no blanks.
    pub(crate) fn canonical(&self) -> Zeroizing<String> {
        let mut text = String::with_capacity(self.0.len() * 45);
        for key in &self.0 {
            if !text.is_empty() {
                text.push(',');
            }
            URL_SAFE.encode_string(key.0, &mut text);
        }
        Zeroizing::new(text)
    }

    /// The fingerprints of the keys in order, joined by commas.
    pub(crate) fn fingerprints(&self) -> String {
        self.0.iter().map(|key| fingerprint(&key.0)).collect::<Vec<_>>().join(",")
    }

    /// These keys, and behind them those of `older` that are not among them.
    pub(crate) fn followed_by(&self, older: &Self) -> Self {
        let mut all = self.clone();
        all.0.extend(older.0.iter().filter(|key| !self.0.contains(key)).cloned());
        all
    }

    /// Whether every key of `other` is among these.
    pub(crate) fn hold(&self, other: &Self) -> bool {
        other.0.iter().all(|key| self.0.contains(key))
    }

    /// Each key alone, in order.
    pub(crate) fn each(&self) -> impl ExactSizeIterator<Item = Self> {
        self.0.iter().map(|key| Self(vec![key.clone()]))
    }

    /// The key of this fingerprint in front, and the others as they are; none where it is not among them.
    pub(crate) fn promoted(&self, print: &str) -> Option<Self> {
        let promoted = self.each().find(|key| key.fingerprints() == print)?;
        Some(promoted.followed_by(self))
    }

    /// The half of each key that signs (Fernet specification, "Key Format").
    pub(crate) fn signing_keys(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|key| &key.0[..KEY_BYTES / 2])
    }

    /// The bytes of the oldest key: what the other secrets are derived from, since a rotation in front keeps it.
    pub(crate) fn oldest(&self) -> &[u8] {
        self.0.last().map_or(&[], |key| &key.0)
    }
}

impl fmt::Debug for FernetKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "FernetKeys({})", self.fingerprints())
    }
}

impl FernetKey {
    fn parse(text: &[u8]) -> Result<Self, KeyProblem> {
        let (bytes, rest) = decode(text)?;
        match <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
            Ok(key) => {
                // Python ignores what follows; a whole second key there is a comma forgotten, not decoration.
                if decode(rest).is_ok_and(|(more, _)| more.len() >= KEY_BYTES) {
                    return Err(KeyProblem::TwoKeys);
                }
                Ok(Self(key))
            }
            Err(_) => Err(KeyProblem::Length { bytes: bytes.len() }),
        }
    }
}

impl Drop for FernetKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

/// Decodes as CPython's `binascii.a2b_base64` does when not strict: characters outside the alphabet are passed over, and
/// the first complete padding ends it. Returns the bytes and the text behind the padding.
pub(crate) fn decode(text: &[u8]) -> Result<(Zeroizing<Vec<u8>>, &[u8]), KeyProblem> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
    let (mut quantum, mut held, mut padding, mut characters) = (0, 0u8, 0, 0);
    for (index, byte) in text.iter().enumerate() {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'-' | b'+' => 62,
            b'_' | b'/' => 63,
            b'=' if quantum >= 2 => {
                padding += 1;
                if quantum + padding >= 4 {
                    return Ok((bytes, &text[index + 1..]));
                }
                continue;
            }
            _ => continue,
        };
        padding = 0;
        characters += 1;
        match quantum {
            0 => {}
            1 => bytes.push(held << 2 | value >> 4),
            2 => bytes.push(held << 4 | value >> 2),
            _ => bytes.push(held << 6 | value),
        }
        held = value;
        quantum = (quantum + 1) % 4;
    }
    match quantum {
        0 => Ok((bytes, &[])),
        // Python refuses a missing padding; the bytes are whole all the same.
        3 if bytes.len() == KEY_BYTES => Ok((bytes, &[])),
        _ => Err(KeyProblem::Incomplete { characters }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
    const SECOND: &str = "7qmma0wOpce2BrpK8rdF8708-tO0ikF09KaKpnOyE9I=";

    fn canonical(text: &str) -> Result<String, KeyProblem> {
        FernetKeys::parse(text.as_bytes()).map(|keys| keys.canonical().to_string())
    }

    #[test]
    fn recorded_vectors() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../tests/vectors/fernet_keys.json")).unwrap();
        let cases = vectors["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 29);
        for case in cases {
            let (name, input) = (case["name"].as_str().unwrap(), case["input"].as_str().unwrap());
            let ours = canonical(input);
            match case["canonical"].as_str() {
                Some(expected) => assert_eq!(ours.as_deref(), Ok(expected), "{name}"),
                // The one thing that we take and Python does not.
                None if name == "padding missing" => assert_eq!(ours.as_deref(), Ok(FIRST), "{name}"),
                None => assert!(ours.is_err(), "{name}: {ours:?}"),
            }
        }
    }

    #[test]
    fn k10_lists_are_canonical_and_keep_their_order() {
        let list = format!("{FIRST},{SECOND}");
        for text in [
            list.clone(),
            format!("{FIRST}, {SECOND}"),
            format!("{FIRST} ,\n{SECOND}\r\n"),
            format!("\"{FIRST}\",'{SECOND}'"),
        ] {
            assert_eq!(canonical(&text), Ok(list.clone()), "{text:?}");
        }
        assert_eq!(canonical(&format!("{SECOND},{FIRST}")), Ok(format!("{SECOND},{FIRST}")));
    }

    #[test]
    fn lists_with_an_empty_element_are_refused() {
        for (text, position) in
            [(format!("{FIRST},"), 2), (format!(",{FIRST}"), 1), (format!("{FIRST},,{SECOND}"), 2), (",".to_owned(), 1)]
        {
            assert_eq!(canonical(&text), Err(KeyProblem::EmptyElement { position }), "{text:?}");
        }
    }

    #[test]
    fn two_keys_without_a_comma_are_refused() {
        for between in ["", " ", ";", "\n", " # ", "\" \""] {
            assert_eq!(canonical(&format!("{FIRST}{between}{SECOND}")), Err(KeyProblem::TwoKeys), "{between:?}");
        }
        // Without its own padding the second one is still a whole key.
        assert_eq!(canonical(&format!("{FIRST}{}", SECOND.trim_end_matches('='))), Err(KeyProblem::TwoKeys));
        // A comment is not a key.
        assert_eq!(canonical(&format!("{FIRST} # made on a Monday")), Ok(FIRST.to_owned()));
    }

    #[test]
    fn k04_problems_say_what_was_found() {
        let hex = "ab".repeat(32);
        for (text, problem) in [
            ("deadbeef", "expected 32 bytes in url-safe base64 (44 characters), found 6 bytes"),
            (hex.as_str(), "expected 32 bytes in url-safe base64 (44 characters), found 48 bytes"),
            ("   ", "expected 32 bytes in url-safe base64 (44 characters), found 0 bytes"),
            (
                "abcde",
                "expected 32 bytes in url-safe base64 (44 characters), found 5 characters that end in the middle of a byte",
            ),
            (
                &format!("{FIRST},deadbeef"),
                "expected 32 bytes in url-safe base64 (44 characters), found 6 bytes at position 2",
            ),
        ] {
            assert_eq!(canonical(text).map_err(|problem| problem.to_string()), Err(problem.to_owned()));
        }
    }

    #[test]
    fn k14_debug_shows_fingerprints_alone() {
        let keys = FernetKeys::parse(FIRST.as_bytes()).unwrap();
        let shown = format!("{keys:?}");
        assert_eq!(shown, format!("FernetKeys({})", keys.fingerprints()));
        assert!(!shown.contains("46BK"));
        assert_eq!(keys.fingerprints().len(), 8);
    }
}
