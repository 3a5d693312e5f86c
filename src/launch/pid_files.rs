//! The pid files of an Airflow service: one that an unclean stop has left on a kept file system keeps it from starting ever again.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::commands::Command;
use crate::mounts::{self, Persistence};

/// One that the command would stumble over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PidFile {
    pub path: PathBuf,
    /// What stands in the command line of a process that owns it.
    pub role: &'static str,
    /// Whether other containers may have it too.
    pub shared: bool,
}

/// Who has the number that a pid file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Nobody,
    /// This process, or one that it descends from.
    Us,
    /// A process with this command line.
    Process(String),
}

/// What to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is left.
    Keep(String),
    /// It is removed.
    Remove(String),
}

/// Names of pid files by command: `setup_locations` in `airflow/cli/commands` (2.x, 3.x) and `airflow/bin/cli.py` (1.10).
const FILES: [(&str, &[&str]); 8] = [
    ("api-server", &["api_server"]),
    ("dag-processor", &["dag-processor"]),
    ("flower", &["flower"]),
    ("kerberos", &["kerberos"]),
    ("scheduler", &["scheduler"]),
    ("triggerer", &["triggerer"]),
    ("webserver", &["webserver", "webserver-monitor"]),
    ("worker", &["worker"]),
];

/// Those of a command of Airflow.
pub(crate) fn of(command: &Command, home: &Path, mountinfo: &str) -> Vec<PidFile> {
    // `celery worker` and `edge worker` have two words.
    let names = command.words.iter().skip(1).take(2).filter_map(|word| word.to_str());
    let Some((role, files)) = names
        .filter_map(|name| FILES.iter().find(|(role, _)| *role == name))
        .next()
        .filter(|_| command.words[0] == "airflow")
    else {
        return Vec::new();
    };
    let defaults = files.iter().map(|file| home.join(format!("airflow-{file}.pid")));
    let paths = match option(&command.words) {
        Some(path) => vec![path],
        None => defaults.collect(),
    };
    let shared = |path: &Path| mounts::persistence(mountinfo, path) == Persistence::Persistent;
    paths.into_iter().map(|path| PidFile { shared: shared(&path), path, role }).collect()
}

/// The value of `--pid`.
fn option(words: &[OsString]) -> Option<PathBuf> {
    let index = words.iter().position(|word| word.to_string_lossy().split('=').next() == Some("--pid"))?;
    let path = match words[index].to_string_lossy().split_once('=') {
        Some((_, path)) => PathBuf::from(path),
        None => words.get(index + 1)?.into(),
    };
    path.is_absolute().then_some(path)
}

impl PidFile {
    /// Decides by what the file holds, and by who has that number.
    pub(crate) fn judge(&self, content: &str, owner: impl Fn(i32) -> Owner) -> Verdict {
        let path = self.path.display();
        let elsewhere =
            if self.shared { "; a process of another container with this volume cannot be seen from here" } else { "" };
        let remove = |why: String| Verdict::Remove(format!("removed the stale pid file `{path}`: {why}{elsewhere}"));
        let Some(pid) = content.trim().parse().ok().filter(|&pid: &i32| pid > 0) else {
            return remove("it holds no number of a process".to_owned());
        };
        match owner(pid) {
            Owner::Nobody => remove(format!("process {pid} is gone")),
            Owner::Us => remove(format!("process {pid} is this one")),
            Owner::Process(words) if self.owns(&words) => {
                Verdict::Keep(format!("left the pid file `{path}`: process {pid} runs, and is such a {}", self.role))
            }
            Owner::Process(_) => remove(format!("process {pid} is another program")),
        }
    }

    /// Whether a process with this command line may own it. Celery and gunicorn give themselves titles.
    fn owns(&self, words: &str) -> bool {
        words.contains(self.role) || self.role == "worker" && words.contains("celeryd")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::Class;

    fn files(words: &str) -> Vec<String> {
        let words = words.split(' ').map(OsString::from).collect();
        let command = Command { class: Class::Service, words, note: None, said_webserver: false };
        of(&command, Path::new("/home"), "").into_iter().map(|file| file.path.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn e08_the_files_of_a_command() {
        assert_eq!(
            files("airflow webserver -p 1"),
            ["/home/airflow-webserver.pid", "/home/airflow-webserver-monitor.pid"]
        );
        assert_eq!(files("airflow celery worker"), ["/home/airflow-worker.pid"]);
        assert_eq!(files("airflow worker"), ["/home/airflow-worker.pid"]);
        assert_eq!(files("airflow api-server"), ["/home/airflow-api_server.pid"]);
        assert_eq!(files("airflow scheduler --pid /run/s.pid -n 1"), ["/run/s.pid"]);
        assert_eq!(files("airflow scheduler --pid=/run/s.pid"), ["/run/s.pid"]);
        assert_eq!(files("airflow connections list"), Vec::<String>::new());
        assert_eq!(files("mycmd scheduler"), Vec::<String>::new());
    }

    #[test]
    fn e08_a_live_peer_is_left_alone() {
        let file = PidFile { path: "/x.pid".into(), role: "worker", shared: false };
        let judge = |content: &str, owner: Owner| match file.judge(content, |_| owner.clone()) {
            Verdict::Keep(_) => "keep",
            Verdict::Remove(_) => "remove",
        };
        let process = |words: &str| Owner::Process(words.to_owned());
        assert_eq!(judge("7\n", process("python airflow celery worker")), "keep");
        assert_eq!(judge("7", process("[celeryd: celery@host:MainProcess]")), "keep");
        assert_eq!(judge("7", process("python airflow scheduler")), "remove");
        assert_eq!(judge("7", Owner::Nobody), "remove");
        assert_eq!(judge(" 1 \n", Owner::Us), "remove");
        for content in ["", "x", "-1", "0", "99999999999"] {
            assert_eq!(judge(content, process("worker")), "remove", "{content:?}");
        }
    }
}
