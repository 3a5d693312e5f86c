//! An Airflow's Python that has imported what Airflow needs: the server in `probes/referee.py`, one for each virtual environment. It
//! stays for the whole run if that has a folder (`AIRFLOW_ENTRYPOINT_RUN`), and for this process otherwise.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{LazyLock, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const SERVER: &str = include_str!("probes/referee.py");
/// More than the server gives to a question.
const PATIENCE: Duration = Duration::from_secs(330);

/// A program for an Airflow's Python.
pub(crate) struct Question<'q> {
    pub(crate) program: &'q str,
    pub(crate) arguments: &'q [&'q str],
    pub(crate) stdin: &'q str,
    /// The whole environment.
    pub(crate) environment: HashMap<String, String>,
    pub(crate) folder: &'q Path,
}

/// What such a program did.
pub(crate) struct Answer {
    pub(crate) status: i64,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs a program as `python -c` would in this virtual environment.
pub(crate) fn ask(venv: &Path, question: &Question) -> Answer {
    let mut stream = connect(venv);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let text = json!({
        "program": question.program, "arguments": question.arguments, "stdin": question.stdin,
        "environment": question.environment, "folder": question.folder,
    });
    stream.write_all(text.to_string().as_bytes()).unwrap();
    stream.shutdown(Shutdown::Write).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    let text = |name: &str| answer[name].as_str().unwrap().to_owned();
    Answer { status: answer["status"].as_i64().unwrap(), stdout: text("stdout"), stderr: text("stderr") }
}

/// A connection to the server of this virtual environment. Who comes first starts it.
#[allow(clippy::zombie_processes, reason = "it stays for other tests, or ends with this process")]
fn connect(venv: &Path) -> UnixStream {
    static OWN: LazyLock<PathBuf> = LazyLock::new(|| {
        tempfile::Builder::new().prefix("airflow-entrypoint-warm-").tempdir_in("/var/tmp").unwrap().keep()
    });
    static ONE: Mutex<()> = Mutex::new(());
    let run = std::env::var_os("AIRFLOW_ENTRYPOINT_RUN").filter(|path| !path.is_empty()).map(PathBuf::from);
    let name = venv.file_name().unwrap().to_str().unwrap();
    let folder = run.clone().unwrap_or_else(|| OWN.clone());
    let socket = folder.join(format!("{name}.socket"));
    fs::create_dir_all(&folder).unwrap();
    let (_one, lock) = (ONE.lock(), File::create(folder.join(format!("{name}.lock"))).unwrap());
    lock.lock().unwrap();
    if let Ok(stream) = UnixStream::connect(&socket) {
        return stream;
    }
    let log = File::create(folder.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new("setpriv");
    if run.is_none() {
        // It ends with the thread that has started it, and removes the folder.
        command.args(["--pdeathsig", "TERM"]);
    }
    command.arg("--").arg(venv.join("bin/python")).args(["-c", SERVER]).arg(&socket);
    command.args(run.is_none().then_some("own"));
    command.env_clear().env("PATH", "/usr/bin:/bin").process_group(0);
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
    let _ = fs::remove_file(&socket);
    let mut server = command.spawn().unwrap();
    if let Some(run) = run {
        fs::create_dir_all(run.join("pids")).unwrap();
        fs::write(run.join("pids").join(name), format!("{}\n", server.id())).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Ok(stream) = UnixStream::connect(&socket) {
            return stream;
        }
        let said = || fs::read_to_string(folder.join(format!("{name}.log"))).unwrap();
        assert!(server.try_wait().unwrap().is_none(), "the referee of {name} has ended: {}", said());
        assert!(Instant::now() < deadline, "the referee of {name} does not start: {}", said());
        thread::sleep(Duration::from_millis(20));
    }
}
