//! A first start is killed before each of its system calls, on every kind of file system: the key folder is as it was, or has one
//! whole key more, and the next start makes the rest. And many first starts at the same moment agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::thread;

use crate::namespace::present;
use crate::outcome::Outcome;
use crate::refused_calls::{
    NAMELESS_WITHOUT_LINKS, NO_LINKS, NO_LINKS_NO_MODES, NO_NAMELESS_FILES, refusing, refusing_works,
};
use crate::running::Running;
use crate::sandbox::{Sandbox, V3, fingerprint, text_fingerprint};

const FILES: [(&str, &str, usize); 3] =
    [("fernet.key", "Fernet key", 45), ("jwt_secret.key", "JWT secret", 87), ("web_secret.key", "web secret", 87)];

fn sandbox() -> Sandbox {
    Sandbox::new(V3).with("ENTRYPOINT_PREPARE", "always")
}

fn strace_works() -> bool {
    present("strace", Command::new("strace").arg("-V").output().is_ok())
}

/// The system calls of a first start up to that by which it becomes the command: each with how many of its name there were.
fn calls(front: &[&str]) -> Vec<(String, usize)> {
    let sandbox = sandbox();
    let trace = sandbox.text("trace");
    sandbox.try_run_behind(&[front, &["strace", "-qq", "-o", &trace]].concat(), &["mycmd"]).succeeds();
    let trace = sandbox.read("trace");
    let mut seen = BTreeMap::new();
    // The first one starts the program, the next of its name starts the command.
    let names = trace.lines().filter_map(|line| line.split_once('(')).map(|(name, _)| name.to_owned()).skip(1);
    names
        .take_while(|name| *name != "execve")
        .map(|name| {
            let count: &mut usize = seen.entry(name.clone()).or_default();
            *count += 1;
            (name, *count)
        })
        .collect()
}

/// What the folder holds: the whole keys, and the names of all else.
fn state(sandbox: &Sandbox) -> (BTreeMap<String, String>, Vec<String>) {
    let (keys, others): (Vec<_>, Vec<_>) =
        sandbox.names("keys").into_iter().partition(|name| FILES.iter().any(|(file, ..)| file == name));
    (keys.into_iter().map(|name| (name.clone(), sandbox.read(&format!("keys/{name}")))).collect(), others)
}

fn is_whole(name: &str, text: &str) -> bool {
    let size = FILES.iter().find(|(file, ..)| *file == name).map(|(.., size)| *size);
    Some(text.len()) == size && text.ends_with('\n') && (name != "fernet.key" || fingerprint(text).len() == 8)
}

/// Kills at one point, starts again, and judges. Returns how many keys there were in between, and what else.
fn kill_at(front: &[&str], (name, number): &(String, usize)) -> (usize, Vec<String>) {
    let inject = format!("inject={name}:signal=KILL:when={number}");
    let sandbox = sandbox();
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
    let killed = sandbox.try_run_behind(&[front, &strace].concat(), &["mycmd"]);
    killed.check(killed.code() == 137, "it was not killed").same(sandbox.calls(), vec![]);
    let (before, others) = state(&sandbox);
    for (file, text) in &before {
        killed.check(is_whole(file, text), &format!("killed before {name} {number}: `{file}` is not whole"));
    }
    let next = sandbox.try_run_behind(&[front, &["env"]].concat(), &["mycmd"]);
    next.succeeds().same(sandbox.calls(), vec!["mycmd".to_owned()]);
    let (after, others_after) = state(&sandbox);
    next.same(after.len(), FILES.len()).same(&others_after, &others);
    for (file, text) in &after {
        next.check(is_whole(file, text), &format!("`{file}` is not whole"));
        next.check(before.get(file).is_none_or(|kept| kept == text), &format!("`{file}` was replaced"));
    }
    (before.len(), others)
}

/// Kills at every point, several at a time. Returns what else than keys was left behind, by the point.
fn kill_everywhere(what: &str, front: &[&str]) -> Vec<(String, Vec<String>)> {
    let points = Mutex::new(calls(front).into_iter());
    let (counts, left, tried) = (Mutex::new(BTreeSet::new()), Mutex::new(Vec::new()), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(point) = points.lock().unwrap().next() else { return };
                    let (keys, others) = kill_at(front, &point);
                    counts.lock().unwrap().insert(keys);
                    *tried.lock().unwrap() += 1;
                    if !others.is_empty() {
                        left.lock().unwrap().push((format!("{} {}", point.0, point.1), others));
                    }
                }
            });
        }
    });
    println!("killed at {} points ({what})", tried.into_inner().unwrap());
    // The control: there was something to be killed between.
    assert_eq!(counts.into_inner().unwrap(), BTreeSet::from([0, 1, 2, 3]));
    left.into_inner().unwrap()
}

#[test]
fn a_kill_leaves_a_whole_key_or_none() {
    if strace_works() {
        assert_eq!(kill_everywhere("on a disk", &[]), []);
    }
}

/// Without files that have no name yet, what is unfinished has one: hidden, for its owner only, in nobody's way.
#[test]
fn a_kill_without_nameless_files_leaves_a_whole_key_or_none() {
    if !strace_works() || !refusing_works() {
        return;
    }
    let left = kill_everywhere("without nameless files", &refusing(NO_NAMELESS_FILES));
    println!("left behind at {} points: {left:?}", left.len());
    for (point, names) in left {
        assert!(matches!(&*names, [name] if name.starts_with('.')), "killed before {point}: {names:?}");
    }
}

#[test]
fn a_kill_without_hard_links_leaves_a_whole_key_or_none() {
    if !strace_works() || !refusing_works() {
        return;
    }
    let left = kill_everywhere("without hard links", &refusing(NO_LINKS));
    println!("left behind at {} points: {left:?}", left.len());
    for (point, names) in left {
        assert!(matches!(&*names, [name] if name.starts_with('.')), "killed before {point}: {names:?}");
    }
}

/// Starts two hundred at the same moment: all wait for one lock, and each says when it does.
fn two_hundred(front: &[&str]) -> (Sandbox, Vec<Outcome>) {
    let sandbox = sandbox();
    let gate = File::create(sandbox.path("gate")).unwrap();
    gate.lock().unwrap();
    let script = format!("exec 9<{}; echo at the gate >&2; flock -s 9; exec 9<&-; exec \"$@\"", sandbox.text("gate"));
    let sandbox = sandbox.behind(&[front, &["sh", "-c", &script, "sh"]].concat());
    let running: Vec<_> = (0..200).map(|_| sandbox.start(&["mycmd"])).collect();
    running.iter().for_each(|running| {
        running.until_stderr("at the gate\n");
    });
    gate.unlock().unwrap();
    let outcomes = running.into_iter().map(Running::finish).collect();
    (sandbox, outcomes)
}

fn all_agree(sandbox: &Sandbox, outcomes: &[Outcome]) {
    for outcome in outcomes {
        outcome.succeeds();
    }
    for (file, name, _) in FILES {
        let text = sandbox.read(&format!("keys/{file}"));
        assert!(is_whole(file, &text), "`{file}` is not whole: {} bytes", text.len());
        let print =
            if file == "fernet.key" { fingerprint(&text) } else { text_fingerprint(text.trim_end().as_bytes()) };
        let path = sandbox.text(&format!("keys/{file}"));
        let line = |how: &str| format!("airflow-entrypoint: info: {name}: {how} `{path}`, fingerprint {print}");
        let (made, read) = (line("made, and kept in"), line("from"));
        let count = |line: &str| outcomes.iter().filter(|o| o.stderr.lines().any(|said| said == line)).count();
        assert_eq!((count(&made), count(&read)), (1, 199), "{name}");
    }
    assert_eq!(sandbox.names("keys"), FILES.map(|(file, ..)| file));
}

#[test]
fn k02_two_hundred_first_starts_use_one_key() {
    let (sandbox, outcomes) = two_hundred(&[]);
    all_agree(&sandbox, &outcomes);
    // The control: another folder, another key.
    let other = self::sandbox();
    other.run(&["mycmd"]).succeeds();
    assert_ne!(other.read("keys/fernet.key"), sandbox.read("keys/fernet.key"));
}

#[test]
fn k02_two_hundred_first_starts_use_one_key_without_nameless_files() {
    if refusing_works() {
        let (sandbox, outcomes) = two_hundred(&refusing(NO_NAMELESS_FILES));
        all_agree(&sandbox, &outcomes);
    }
}

#[test]
fn k02_two_hundred_first_starts_use_one_key_without_hard_links() {
    if refusing_works() {
        let (sandbox, outcomes) = two_hundred(&refusing(NO_LINKS));
        all_agree(&sandbox, &outcomes);
    }
}

/// vfat refuses a mode that it cannot keep; that is no reason to have no key.
#[test]
fn a_key_is_made_where_no_mode_can_be_set() {
    if refusing_works() {
        let sandbox = sandbox();
        sandbox.try_run_behind(&refusing(NO_LINKS_NO_MODES), &["mycmd"]).succeeds();
        let before = state(&sandbox);
        assert_eq!((before.0.len(), before.1.len()), (3, 0));
        sandbox.try_run_behind(&refusing(NO_LINKS_NO_MODES), &["mycmd"]).succeeds();
        assert_eq!(state(&sandbox), before);
    }
}

/// Some FUSE file systems have files without a name and no way to give them one.
#[test]
fn a_key_is_made_where_a_nameless_file_cannot_be_named() {
    if refusing_works() {
        let sandbox = sandbox();
        sandbox.try_run_behind(&refusing(NAMELESS_WITHOUT_LINKS), &["mycmd"]).succeeds();
        let (keys, others) = state(&sandbox);
        assert_eq!((keys.len(), others.len()), (3, 0));
    }
}
