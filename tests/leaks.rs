//! The search for secrets, after every run: nobody but Airflow sees what the key folder holds or what the variables of the run held.

use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose as Decoder};

/// Shorter values are words, that may be anywhere.
const SHORTEST: usize = 8;

/// A run's secrets, and where they may not be.
pub(crate) struct Search {
    /// The sandbox.
    root: PathBuf,
    variables: HashMap<String, String>,
    started: SystemTime,
}

/// A text that must not be seen, with the name of what holds it.
type Secret = (String, String);

impl Search {
    /// For a command that has not been started.
    pub(crate) fn new(command: &Command, root: &Path) -> Self {
        let text = |text: &OsStr| text.to_str().map(str::to_owned);
        let variables = command.get_envs().filter_map(|(name, value)| Some((text(name)?, text(value?)?))).collect();
        Self { root: root.to_owned(), variables, started: SystemTime::now() }
    }

    /// Where a secret is found: whose, and in what. `shown` is what the run has said.
    pub(crate) fn find(&self, shown: &str) -> Option<String> {
        let secrets = self.secrets();
        let calls = text(&fs::read(self.root.join("calls")).unwrap_or_default());
        let mut places = vec![
            ("what it says", shown.to_owned()),
            ("the words of a call", calls),
            ("the arguments of a process", text(&self.command_lines())),
        ];
        if self.variables.get("ENTRYPOINT_SECRETS").is_some_and(|how| how == "cmd") {
            places.extend(self.environments().map(|text| ("the environment of a call", text)));
            let config = text(&fs::read(self.root.join("home/airflow.cfg")).unwrap_or_default());
            places.push(("airflow.cfg", self.without_what_must_be_there(config.lines())));
        }
        places.iter().find_map(|(place, text)| {
            let (name, _) = secrets.iter().find(|(_, secret)| text.contains(secret.as_str()))?;
            Some(format!("a secret of `{name}` is in {place}"))
        })
    }

    /// Those of the key folder and of the variables, in each form that one of them may have.
    fn secrets(&self) -> BTreeSet<Secret> {
        let mut secrets = BTreeSet::new();
        let folders = [Some(self.root.join("keys")), self.variables.get("ENTRYPOINT_KEY_DIR").map(PathBuf::from)];
        for folder in folders.into_iter().flatten() {
            for name in ["fernet.key", "jwt_secret.key", "web_secret.key"] {
                add_all(&mut secrets, name, &file(&folder.join(name)));
            }
        }
        for (name, value) in &self.variables {
            match name.strip_suffix("_FILE") {
                Some(named) if is_secret(named) => add_all(&mut secrets, name, &file(Path::new(value))),
                None if is_secret(name) => add_all(&mut secrets, name, value),
                _ => {}
            }
            if let Some(password) = password(value) {
                add_all(&mut secrets, name, password);
            }
        }
        secrets
    }

    /// What the programs have seen of the arguments of those that started them, since the last look.
    fn command_lines(&self) -> Vec<u8> {
        static SEEN: Mutex<Option<HashMap<PathBuf, u64>>> = Mutex::new(None);
        let path = self.root.join("cmdlines");
        let mut bytes = Vec::new();
        let Ok(mut file) = File::open(&path) else { return bytes };
        let mut seen = SEEN.lock().unwrap();
        let from = seen.get_or_insert_default().entry(path).or_default();
        file.seek(SeekFrom::Start(*from)).unwrap();
        *from += file.read_to_end(&mut bytes).unwrap() as u64;
        bytes
    }

    /// The environments of the calls of this run.
    fn environments(&self) -> impl Iterator<Item = String> {
        let entries = fs::read_dir(self.root.join("seen")).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.metadata().and_then(|data| data.modified()).is_ok_and(|time| time >= self.started))
            .map(|entry| self.without_what_must_be_there(file(&entry.path()).split('\0')))
    }

    /// Variables or options without those for which this Airflow has no `..._CMD`.
    fn without_what_must_be_there<'a>(&self, lines: impl Iterator<Item = &'a str>) -> String {
        let mut must = vec!["AIRFLOW_CONN_", "AIRFLOW_VAR_"];
        if self.root.join("prefix/lib/python3.11/site-packages/airflow/version.py").exists() {
            must.extend(["AIRFLOW__WEBSERVER__SECRET_KEY=", "secret_key = "]);
        }
        lines.filter(|line| !must.iter().any(|start| line.starts_with(start))).collect::<Vec<_>>().join("\n")
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The text of a file; what is none may be a pipe, which would be waited for.
fn file(path: &Path) -> String {
    if !path.is_file() {
        return String::new();
    }
    text(&fs::read(path).unwrap_or_default())
}

/// Whether a variable of that name holds a secret itself, and not the way to one.
fn is_secret(name: &str) -> bool {
    let way = name.ends_with("_CMD") || name.ends_with("_KEY_SECRET") || name.ends_with("_CONN_SECRET");
    !way && !name.starts_with("ENTRYPOINT_")
        && ["KEY", "PASSWORD", "SECRET", "TOKEN"].iter().any(|part| name.contains(part))
}

/// The password of a URL.
fn password(url: &str) -> Option<&str> {
    let (user, _) = url.split_once("://")?.1.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
}

/// The value as it is, its elements, and what they are when decoded and written canonically.
fn add_all(secrets: &mut BTreeSet<Secret>, name: &str, value: &str) {
    let mut add = |form: String| {
        if form.chars().count() >= SHORTEST {
            secrets.insert((name.to_owned(), form));
        }
    };
    add(value.trim().to_owned());
    add(percent_encoded(value));
    add(percent_decoded(value));
    for element in value.split([',', '\n']) {
        add(element.trim().to_owned());
        let letters: String = element.chars().filter(|c| c.is_ascii_alphanumeric() || "+/-_".contains(*c)).collect();
        let letters = letters.replace('+', "-").replace('/', "_");
        const CONFIG: GeneralPurposeConfig =
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
        let decoder: Decoder = GeneralPurpose::new(&base64::alphabet::URL_SAFE, CONFIG);
        if let Ok(bytes) = decoder.decode(letters)
            && bytes.len() >= 32
        {
            add(URL_SAFE.encode(&bytes).trim_end_matches('=').to_owned());
            add(STANDARD.encode(&bytes).trim_end_matches('=').to_owned());
        }
    }
}

fn percent_encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        let code = behind.get(..2).and_then(|hex| u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok());
        match (first, code) {
            (b'%', Some(code)) => (bytes.push(code), rest = &behind[2..]).1,
            _ => (bytes.push(*first), rest = behind).1,
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The controls: a secret in each of the places is found, also in another form than it was given in.
mod controls {
    use crate::sandbox::{Sandbox, V2, V3, new_key};

    const PASSWORD: &str = "p@ss/w0rd%";

    #[test]
    #[should_panic(expected = "a secret of `jwt_secret.key` is in what it says")]
    fn k14_a_secret_of_the_key_folder_that_is_shown_is_found() {
        let sandbox = Sandbox::new(V3);
        sandbox.run(&["scheduler"]).succeeds();
        sandbox.run(&["--", "sh", "-c", &format!("cat {} >&2", sandbox.text("keys/jwt_secret.key"))]);
    }

    #[test]
    #[should_panic(expected = "a secret of `POSTGRES_PASSWORD` is in what it says")]
    fn k14_a_given_password_that_is_shown_is_found() {
        let sandbox = Sandbox::new(V2).with("POSTGRES_PASSWORD", PASSWORD);
        sandbox.run(&["--", "sh", "-c", "echo p%40ss%2Fw0rd%25 >&2"]);
    }

    #[test]
    #[should_panic(expected = "a secret of `FERNET_KEY` is in the words of a call")]
    fn k14_a_given_key_in_the_words_of_a_call_is_found() {
        let key = new_key();
        let sandbox = Sandbox::new(V2).with("FERNET_KEY", format!("\"{key}\""));
        sandbox.run(&["mycmd", &key]);
    }

    #[test]
    #[should_panic(expected = "a secret of `FERNET_KEY_FILE` is in the arguments of a process")]
    fn k14_a_given_key_in_the_arguments_of_another_process_is_found() {
        let key = new_key();
        let sandbox = Sandbox::new(V2).with_path("FERNET_KEY_FILE", "given");
        sandbox.write("given", &key);
        // A parent that stays.
        sandbox.behind(&["sh", "-c", "\"$@\"; exit", &key]).run(&["mycmd"]);
    }

    #[test]
    #[should_panic(expected = "a secret of `AIRFLOW__CELERY__BROKER_URL` is in the environment of a call")]
    fn x08_a_password_in_the_environment_beside_the_command_is_found() {
        let sandbox = Sandbox::new(V2)
            .with("ENTRYPOINT_SECRETS", "cmd")
            .with("AIRFLOW__CELERY__BROKER_URL", "redis://:p%40ss%2Fw0rd%25@redis/1")
            .with("ANOTHER", PASSWORD);
        sandbox.run(&["mycmd"]);
    }

    #[test]
    #[should_panic(expected = "a secret of `fernet.key` is in airflow.cfg")]
    fn x08_a_key_in_the_file_beside_the_command_is_found() {
        let sandbox = Sandbox::new(V2).with("ENTRYPOINT_SECRETS", "cmd");
        let script = format!("cat {} >> {}", sandbox.text("keys/fernet.key"), sandbox.text("home/airflow.cfg"));
        sandbox.behave("airflow-scheduler", &script);
        sandbox.run(&["scheduler"]);
    }

    /// Without a secret in any of them there is nothing to be found, though they are all looked at.
    #[test]
    fn k14_what_is_no_secret_is_not_found() {
        let sandbox = Sandbox::new(V2)
            .with("ENTRYPOINT_SECRETS", "cmd")
            .with("POSTGRES_PASSWORD", PASSWORD)
            .with("FERNET_KEY", new_key())
            .with("ANOTHER", "p@ss");
        sandbox.behind(&["sh", "-c", "\"$@\"; exit", "p@ss"]).run(&["mycmd", "p@ss"]).succeeds();
    }
}
