//! The secrets that Airflow must not lose: which there are, and a value that shows its fingerprint and nothing else.

pub(crate) mod export;

use std::fmt;

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::airflow_version::{AirflowOption, Version};
use crate::error::Error;
use crate::fernet_keys::FernetKeys;

/// A secret that all containers of a deployment must share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SecretKind {
    /// Encrypts connections and variables in the metadata database.
    Fernet,
    /// Signs the tokens of tasks and API clients (Airflow 3).
    Jwt,
    /// Signs sessions and the requests for task logs.
    Web,
}

impl SecretKind {
    /// The secrets that this Airflow reads, in the order in which they are settled (the Fernet key first: others may
    /// be derived from it).
    pub(crate) fn of(version: Version) -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(move |kind| kind.option(version).is_some())
    }

    /// The option under which this Airflow reads it, if it does.
    pub(crate) fn option(self, version: Version) -> Option<AirflowOption> {
        match self {
            Self::Fernet => Some(AirflowOption::FERNET_KEY),
            Self::Jwt => version.has_jwt_secret().then_some(AirflowOption::JWT_SECRET),
            Self::Web => Some(version.web_secret()),
        }
    }

    /// Its file in the key folder.
    pub(crate) fn file_name(self) -> &'static str {
        match self {
            Self::Fernet => "fernet.key",
            Self::Jwt => "jwt_secret.key",
            Self::Web => "web_secret.key",
        }
    }

    /// All of them.
    pub(crate) const ALL: [Self; 3] = [Self::Fernet, Self::Web, Self::Jwt];

    /// Our own variables for it, besides Airflow's.
    pub(crate) fn aliases(self) -> &'static [&'static str] {
        match self {
            Self::Fernet => &["FERNET_KEY"],
            Self::Jwt | Self::Web => &[],
        }
    }

    /// Values that were published as defaults and protect nothing (1.10.9 writes `temporary_key`).
    pub(crate) fn is_known_default(self, text: &str) -> bool {
        self == Self::Web && matches!(text, "temporary_key" | "this is the secret key")
    }

    /// Separates the derived secrets from each other and from the Fernet key (HKDF's `info`).
    fn derivation_label(self) -> &'static [u8] {
        match self {
            Self::Fernet => b"",
            Self::Jwt => b"airflow-entrypoint jwt secret 1",
            Self::Web => b"airflow-entrypoint web secret 1",
        }
    }
}

impl fmt::Display for SecretKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Fernet => "Fernet key",
            Self::Jwt => "JWT secret",
            Self::Web => "web secret",
        })
    }
}

/// A secret's value. Both `Debug` and `Display` show its fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Secret {
    /// One or more Fernet keys.
    Fernet(FernetKeys),
    /// Any other secret, as the text that Airflow gets.
    Text(Zeroizing<String>),
}

impl Secret {
    /// Reads the text of a source. The error says what is wrong with it, never what it is.
    pub(crate) fn parse(kind: SecretKind, text: &[u8]) -> Result<Self, String> {
        if kind == SecretKind::Fernet {
            return FernetKeys::parse(text).map(Self::Fernet).map_err(|problem| problem.to_string());
        }
        let text = str::from_utf8(text).map_err(|_| "expected UTF-8 text".to_owned())?.trim();
        if text.is_empty() {
            return Err("expected a secret, found nothing".to_owned());
        }
        if text.chars().any(char::is_control) {
            return Err("expected one line of text, found control characters".to_owned());
        }
        Ok(Self::Text(Zeroizing::new(text.to_owned())))
    }

    /// The secret of this kind that follows from a Fernet key list: HKDF-SHA256 over its oldest key.
    pub(crate) fn derive(kind: SecretKind, keys: &FernetKeys) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new([0; 64]);
        Hkdf::<Sha256>::new(None, keys.oldest())
            .expand(kind.derivation_label(), &mut *bytes)
            .map_err(|problem| Error::Bug { what: problem.to_string() })?;
        let text = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, *bytes);
        Ok(Self::Text(Zeroizing::new(text)))
    }

    /// Whether whoever has this one has the other too.
    pub(crate) fn holds(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Fernet(keys), Self::Fernet(others)) => keys.hold(others),
            _ => self == other,
        }
    }

    /// Whether whoever was given this one can go on with it when it is the other one now: it reads all that others write, and writes what
    /// they expect. Keys that have been retired are no harm.
    pub(crate) fn passes_for(&self, now: &Self) -> bool {
        match (self, now) {
            (Self::Fernet(ours), Self::Fernet(keys)) => ours.hold(keys) && ours.each().next() == keys.each().next(),
            _ => self == now,
        }
    }

    /// The value itself: for Airflow and for the key file, never for people.
    pub(crate) fn reveal(&self) -> Zeroizing<String> {
        match self {
            Self::Fernet(keys) => keys.canonical(),
            Self::Text(text) => text.clone(),
        }
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fernet(keys) => formatter.write_str(&keys.fingerprints()),
            Self::Text(text) => formatter.write_str(&fingerprint(text.as_bytes())),
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secret({self})")
    }
}

/// The name of a secret that may be shown: the first 8 hex digits of SHA-256 over its bytes.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}
