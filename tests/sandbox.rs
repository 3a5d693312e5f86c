//! A container's worth of world in a temporary folder: a home, a key folder, programs on `PATH` that log how they were called, and
//! an environment that holds nothing else.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use base64::Engine;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::outcome::Outcome;
use crate::running::Running;

/// The program: the one that this names (`make test` builds the release executable first), otherwise that of the tests' own build.
pub(crate) const BINARY: &str = match option_env!("AIRFLOW_ENTRYPOINT_BINARY") {
    Some(path) => path,
    None => env!("CARGO_BIN_EXE_airflow-entrypoint"),
};
/// One release of each line.
pub(crate) const V1: &str = "1.10.15";
pub(crate) const V2: &str = "2.11.2";
pub(crate) const V3: &str = "3.3.2";
pub(crate) const LINES: [&str; 3] = [V1, V2, V3];
/// Makes the process PID 1 of a namespace of its own, which ends with it.
pub(crate) const PID_1: [&str; 4] = ["unshare", "-pf", "--mount-proc", "--kill-child"];
/// A user that owns nothing.
pub(crate) const NOBODY: u32 = 65_534;

/// What every program does first: it notes the arguments of itself and of all that it was started by, and its environment, appends
/// its words to the log in one write, and then does as it was told (`behave`). Not those of all processes: to read the arguments of
/// one that is stuck takes as long as that is stuck.
const STUB: &str = r#"#!/bin/sh
name=${0##*/}
case $1 in */*) key=$name ;; *) key=$name${1:+-$1} ;; esac
record=$(printf '%s\037' "$name" "$@")
note_arguments() {
    set -- && pid=$$
    while [ "$pid" -gt 0 ] && read -r _ _ _ parent _ < "/proc/$pid/stat"; do
        set -- "$@" "/proc/$pid/cmdline" && pid=$parent
    done
    cat "$@" >> HERE/cmdlines
}
note_arguments 2>/dev/null
env -0 > "HERE/seen/.$key.$$" && mv "HERE/seen/.$key.$$" "HERE/seen/$key"
printf '%s\036' "$record" >> HERE/calls
if [ -e "HERE/behaviour/$key" ]; then . "HERE/behaviour/$key"; fi
"#;

/// The world of one container, or of several that share what is in it.
pub(crate) struct Sandbox {
    root: TempDir,
    variables: BTreeMap<String, OsString>,
    /// What stands in front of the program.
    wrapper: Vec<String>,
    user: Option<(u32, u32)>,
    binary: String,
}

impl Sandbox {
    /// With this Airflow installed; none for an empty version. The folder is on a disk, where that of temporary files may be in
    /// memory: what is there must count as kept.
    pub(crate) fn new(version: &str) -> Self {
        let root = tempfile::Builder::new().prefix("airflow-entrypoint-test-").tempdir_in("/var/tmp").unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let sandbox =
            Self { root, variables: BTreeMap::new(), wrapper: Vec::new(), user: None, binary: BINARY.to_owned() };
        for folder in ["home", "keys", "tmp", "prefix/bin", "seen", "behaviour"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        fs::set_permissions(sandbox.path("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        sandbox.write("calls", "");
        sandbox.write("cmdlines", "");
        // Whoever the programs run as.
        fs::set_permissions(sandbox.path("cmdlines"), fs::Permissions::from_mode(0o666)).unwrap();
        sandbox.write("entrypoint.toml", "");
        for program in ["airflow", "pip", "mycmd"] {
            sandbox.program(program, &STUB.replace("HERE", &sandbox.root.path().display().to_string()));
        }
        let package = "prefix/lib/python3.11/site-packages/airflow";
        match version.split('.').next() {
            None | Some("") => {}
            Some("1") => sandbox.write(&format!("{package}/version.py"), format!("version = '{version}'\n")),
            _ => sandbox.write(&format!("{package}/__init__.py"), format!("__version__ = \"{version}\"\n")),
        }
        let path = format!("{}:/usr/bin:/bin", sandbox.path("prefix/bin").display());
        sandbox
            .with("PATH", path)
            .with_path("AIRFLOW_HOME", "home")
            .with_path("TMPDIR", "tmp")
            .with_path("ENTRYPOINT_KEY_DIR", "keys")
            .with_path("ENTRYPOINT_REQUIREMENTS", "requirements.txt")
            .with_path("ENTRYPOINT_SETTINGS_FILE", "entrypoint.toml")
    }

    /// With this variable.
    pub(crate) fn with(mut self, name: &str, value: impl Into<OsString>) -> Self {
        self.set(name, value);
        self
    }

    /// With this variable, which names a file of the sandbox.
    pub(crate) fn with_path(self, name: &str, relative: &str) -> Self {
        let path = self.path(relative);
        self.with(name, path)
    }

    /// Without this variable.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.variables.remove(name);
        self
    }

    /// From now on with this variable.
    pub(crate) fn set(&mut self, name: &str, value: impl Into<OsString>) {
        self.variables.insert(name.to_owned(), value.into());
    }

    /// Started behind these words.
    pub(crate) fn behind(mut self, words: &[&str]) -> Self {
        self.wrapper = words.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Whether anything stands in front of the program.
    pub(crate) fn is_behind(&self) -> bool {
        !self.wrapper.is_empty()
    }

    /// Started by another user and group, who own the folders.
    pub(crate) fn owned_by(mut self, uid: u32, gid: u32) -> Self {
        for folder in ["", "home", "keys", "seen", "calls"] {
            std::os::unix::fs::chown(self.path(folder), Some(uid), Some(gid)).unwrap();
        }
        self.user = Some((uid, gid));
        self
    }

    /// With the program where everybody may run it; that of the build may be in a home.
    pub(crate) fn made_executable(mut self) -> Self {
        fs::copy(BINARY, self.path("program")).unwrap();
        fs::set_permissions(self.path("program"), fs::Permissions::from_mode(0o755)).unwrap();
        self.binary = self.text("program");
        self
    }

    /// A program on `PATH`.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = format!("prefix/bin/{name}");
        self.write(&path, text);
        fs::set_permissions(self.path(&path), fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What a program does after it has logged its call, in shell; `call` is like `airflow-initdb`, for its first argument.
    pub(crate) fn behave(&self, call: &str, script: &str) {
        self.write(&format!("behaviour/{call}"), script);
    }

    /// A path in the sandbox.
    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        if relative.is_empty() { self.root.path().to_owned() } else { self.root.path().join(relative) }
    }

    /// The same as text.
    pub(crate) fn text(&self, relative: &str) -> String {
        self.path(relative).to_str().unwrap().to_owned()
    }

    /// Writes a file; one of the key folder so that nobody else may read it, and that nobody seems to be just writing.
    pub(crate) fn write(&self, relative: &str, text: impl AsRef<[u8]>) {
        let path = self.path(relative);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        if relative.starts_with("keys/") {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let file = fs::File::options().write(true).open(path).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        }
    }

    /// The text of a file; empty when it is not there. What is not UTF-8 shows as `\u{fffd}`.
    pub(crate) fn read(&self, relative: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(relative)).unwrap_or_default()).into_owned()
    }

    /// The names in a folder.
    pub(crate) fn names(&self, relative: &str) -> Vec<String> {
        let entries = fs::read_dir(self.path(relative)).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The permissions of a file.
    pub(crate) fn mode(&self, relative: &str) -> u32 {
        fs::metadata(self.path(relative)).unwrap().permissions().mode() & 0o7777
    }

    /// The command line, ready to be started.
    pub(crate) fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut words = self.wrapper.iter().map(String::as_str).chain([self.binary.as_str()]);
        let mut command = Command::new(words.next().unwrap());
        command.args(words).args(arguments).env_clear().envs(&self.variables).current_dir(self.root.path());
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Starts it.
    pub(crate) fn start(&self, arguments: &[impl AsRef<OsStr>]) -> Running {
        self.start_command(self.command(arguments))
    }

    /// Starts a command that was altered.
    pub(crate) fn start_command(&self, command: Command) -> Running {
        Running::start(command, self.root.path())
    }

    /// Starts a command with this as its standard input.
    pub(crate) fn start_with_input(&self, command: Command, input: Stdio) -> Running {
        Running::start_with_input(command, input, self.root.path())
    }

    /// Runs it to its end.
    #[track_caller]
    pub(crate) fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        self.start(arguments).finish()
    }

    /// The same with one more variable.
    #[track_caller]
    pub(crate) fn run_with(&self, name: &str, value: &str, arguments: &[impl AsRef<OsStr>]) -> Outcome {
        let mut command = self.command(arguments);
        command.env(name, value);
        self.start_command(command).finish()
    }

    /// The same behind these words, by which it may be killed.
    pub(crate) fn try_run_behind(&self, words: &[&str], arguments: &[&str]) -> Outcome {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&self.binary).args(arguments).env_clear().envs(&self.variables);
        self.start_command(command).ends()
    }

    /// The calls so far, each as its words.
    pub(crate) fn call_words(&self) -> Vec<Vec<String>> {
        let log = self.read("calls");
        log.split_terminator('\x1e').map(|call| call.split_terminator('\x1f').map(str::to_owned).collect()).collect()
    }

    /// The calls so far, each with its words joined by blanks.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.call_words().iter().map(|words| words.join(" ")).collect()
    }

    /// The environment in the last such call (`airflow-scheduler`).
    #[track_caller]
    pub(crate) fn seen(&self, call: &str) -> BTreeMap<String, String> {
        let text = self.read(&format!("seen/{call}"));
        assert!(!text.is_empty(), "no call `{call}` among {:?}", self.calls());
        let pairs = text.split_terminator('\0').filter_map(|pair| pair.split_once('='));
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// One variable in the last such call.
    #[track_caller]
    pub(crate) fn variable(&self, call: &str, name: &str) -> Option<String> {
        self.seen(call).remove(name)
    }
}

/// A new Fernet key.
pub(crate) fn new_key() -> String {
    fernet::Fernet::generate_key()
}

/// The name by which a Fernet key is shown.
pub(crate) fn fingerprint(key: &str) -> String {
    let bytes = base64::engine::general_purpose::URL_SAFE.decode(key.trim()).unwrap();
    text_fingerprint(&bytes)
}

/// The name by which another secret is shown.
pub(crate) fn text_fingerprint(bytes: &[u8]) -> String {
    Sha256::digest(bytes)[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The mode of a new key file.
pub(crate) fn key_mode() -> u32 {
    if nix::unistd::getegid().as_raw() == 0 { 0o640 } else { 0o600 }
}

/// The modification time of a file.
pub(crate) fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}
