//! Commands of this machine, started where the sources are.

use std::ffi::OsString;
use std::fmt;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where the sources are.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a command said and how it ended.
pub(crate) struct Said {
    pub status: i32,
    pub stdout: String,
    pub stderr: String,
    command: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "$ {}\nstatus {}\n{}{}", self.command, self.status, self.stdout, self.stderr)
    }
}

impl Said {
    #[track_caller]
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.status, 0, "{self}");
        self
    }
}

/// Runs a command for fourteen minutes at most: on a busy machine a compiler in a container takes them.
pub(crate) fn run(command: &mut Command) -> Said {
    run_with_input(command, "")
}

/// The same with this as its standard input.
pub(crate) fn run_with_input(command: &mut Command, input: &str) -> Said {
    let text = format!("{command:?}");
    let mut bounded = Command::new("timeout");
    bounded
        .arg("840")
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(repository())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    // What the runner says of this package would have a build that the command begins compile everything again.
    let of_package = |name: &OsString| {
        let name = name.to_string_lossy();
        ["CARGO_BIN_", "CARGO_CRATE_", "CARGO_MANIFEST_", "CARGO_PKG_"].iter().any(|start| name.starts_with(start))
    };
    for name in std::env::vars_os().map(|(name, _)| name).filter(of_package) {
        bounded.env_remove(name);
    }
    bounded.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let mut child = bounded.spawn().unwrap();
    // Who ends without reading it needs none.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Said {
        status: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: text,
    }
}
