//! A first start is killed before each of its system calls, on every kind of file system: the key folder is as it was, or has one
//! whole key more, and the next start makes the rest. And many first starts at the same moment agree.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Command;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, SystemTime};

use crate::namespace::present;
use crate::outcome::Outcome;
use crate::points::{chosen, does_name, matter};
use crate::refused_calls::{
    NAMELESS_WITHOUT_LINKS, NO_LINKS, NO_LINKS_NO_MODES, NO_NAMELESS_FILES, refusing, refusing_works,
};
use crate::running::Running;
use crate::sandbox::{Sandbox, V3, fingerprint, key_mode, text_fingerprint};

const FILES: [(&str, &str, usize); 3] =
    [("fernet.key", "Fernet key", 45), ("jwt_secret.key", "JWT secret", 87), ("web_secret.key", "web secret", 87)];

/// Makes the world of a first start.
pub(crate) type New<'a> = dyn Fn() -> Sandbox + Sync + 'a;

/// The world of a first start on a disk.
pub(crate) fn sandbox() -> Sandbox {
    Sandbox::new(V3).with("ENTRYPOINT_PREPARE", "always")
}

pub(crate) fn strace_works() -> bool {
    present("strace", Command::new("strace").arg("-V").output().is_ok())
}

/// Where kills begin.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum From {
    /// At the first system call.
    Start,
    /// At the first that would write to the key folder. What is before is the same on every file system.
    FirstWrite,
}

/// The system calls of a first start up to that by which it becomes the command: each with how many of its name there were. Those to be
/// killed before, and how many there are.
fn calls(front: &[&str], new: &New<'_>, from: From) -> (Vec<(String, usize)>, usize) {
    let sandbox = new();
    let trace = sandbox.text("trace");
    sandbox.try_run_behind(&[front, &["strace", "-qq", "-o", &trace]].concat(), &["mycmd"]).succeeds();
    let trace = sandbox.read("trace");
    let mut seen = BTreeMap::new();
    // The first one starts the program, the next of its name starts the command.
    let lines = trace.lines().filter_map(|line| line.split_once('(')).skip(1);
    let all: Vec<_> = lines
        .take_while(|(name, _)| *name != "execve")
        .map(|(name, arguments)| {
            let count: &mut usize = seen.entry(name.to_owned()).or_default();
            *count += 1;
            (name.to_owned(), *count, arguments)
        })
        .skip_while(|(.., arguments)| from == From::FirstWrite && !arguments.contains("O_TMPFILE"))
        .collect();
    let matter = matter(all.iter().map(|(name, _, arguments)| does_name(name, arguments)));
    let chosen = chosen(&matter).into_iter().map(|index| (all[index].0.clone(), all[index].1)).collect();
    (chosen, all.len())
}

/// What the folder holds: the keys, and the names of all else. A key may be a link to what is beside it.
pub(crate) fn state(sandbox: &Sandbox) -> (BTreeMap<String, String>, Vec<String>) {
    let (keys, mut others): (Vec<_>, Vec<_>) =
        sandbox.names("keys").into_iter().partition(|name| FILES.iter().any(|(file, ..)| file == name));
    let targets: Vec<_> = keys.iter().filter_map(|key| sandbox.path("keys").join(key).read_link().ok()).collect();
    others.retain(|name| !targets.iter().any(|target| target.as_os_str() == name.as_str()));
    (keys.into_iter().map(|name| (name.clone(), sandbox.read(&format!("keys/{name}")))).collect(), others)
}

fn is_whole(name: &str, text: &str) -> bool {
    let size = FILES.iter().find(|(file, ..)| *file == name).map(|(.., size)| *size);
    Some(text.len()) == size && text.ends_with('\n') && (name != "fernet.key" || fingerprint(text).len() == 8)
}

/// What kills at every point have left behind, by the point.
#[derive(Debug, Default)]
pub(crate) struct Left {
    /// Names of all else than keys.
    pub(crate) others: Vec<(String, Vec<String>)>,
    /// Where a key file was empty, the next start said so.
    pub(crate) empty: Vec<String>,
}

/// Kills at one point, starts again, and judges. Returns how many keys there were in between, or that one was empty, and what else.
fn kill_at(front: &[&str], new: &New<'_>, (name, number): &(String, usize)) -> (Option<usize>, Vec<String>) {
    let inject = format!("inject={name}:signal=KILL:when={number}");
    let sandbox = new();
    let strace = ["strace", "-qq", "-o", "/dev/null", "-e", &inject];
    let killed = sandbox.try_run_behind(&[front, &strace].concat(), &["mycmd"]);
    killed.check(killed.code() == 137, "it was not killed").same(sandbox.calls(), vec![]);
    let (before, others) = state(&sandbox);
    if let Some((empty, _)) = before.iter().find(|(_, text)| text.is_empty()) {
        // Later, when nobody can be writing it any more.
        let file = File::options().write(true).open(sandbox.path("keys").join(empty)).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
        let next = sandbox.try_run_behind(&[front, &["env"]].concat(), &["mycmd"]);
        let error = "<lines>airflow-entrypoint: error: cannot use the <any> of `<any>`: expected <any> (0 bytes, owner <any>)\n<lines>";
        next.fails(78, error).same(sandbox.calls(), vec![]).same(state(&sandbox), (before, others.clone()));
        return (None, others);
    }
    for (file, text) in &before {
        killed.check(is_whole(file, text), &format!("killed before {name} {number}: `{file}` is not whole"));
        killed.same(sandbox.mode(&format!("keys/{file}")), key_mode());
    }
    let next = sandbox.try_run_behind(&[front, &["env"]].concat(), &["mycmd"]);
    next.succeeds().same(sandbox.calls(), vec!["mycmd".to_owned()]);
    let (after, others_after) = state(&sandbox);
    next.same(after.len(), FILES.len()).same(&others_after, &others);
    for (file, text) in &after {
        next.check(is_whole(file, text), &format!("`{file}` is not whole"));
        next.check(before.get(file).is_none_or(|kept| kept == text), &format!("`{file}` was replaced"));
    }
    (Some(before.len()), others)
}

/// Kills at every point, several at a time.
pub(crate) fn kill_everywhere(what: &str, front: &[&str], new: &New<'_>, from: From) -> Left {
    let (points, all) = calls(front, new, from);
    let points = Mutex::new(points.into_iter());
    let (counts, left, tried) = (Mutex::new(BTreeSet::new()), Mutex::new(Left::default()), Mutex::new(0));
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let Some(point) = points.lock().unwrap().next() else { return };
                    let (keys, others) = kill_at(front, new, &point);
                    let at = format!("{} {}", point.0, point.1);
                    *tried.lock().unwrap() += 1;
                    match keys {
                        Some(keys) => _ = counts.lock().unwrap().insert(keys),
                        None => left.lock().unwrap().empty.push(at.clone()),
                    }
                    if !others.is_empty() {
                        left.lock().unwrap().others.push((at, others));
                    }
                }
            });
        }
    });
    let left = left.into_inner().unwrap();
    println!("killed at {} of {all} points ({what}): {left:?}", tried.into_inner().unwrap());
    // The control: there was something to be killed between.
    assert_eq!(counts.into_inner().unwrap(), BTreeSet::from([0, 1, 2, 3]));
    left
}

/// What is unfinished is hidden, and in nobody's way.
pub(crate) fn is_hidden(left: &Left) {
    for (point, names) in &left.others {
        assert!(matches!(&**names, [name] if name.starts_with('.')), "killed before {point}: {names:?}");
    }
}

#[test]
fn a_kill_leaves_a_whole_key_or_none() {
    if strace_works() {
        let left = kill_everywhere("on a disk", &[], &sandbox, From::Start);
        assert!(left.others.is_empty() && left.empty.is_empty(), "{left:?}");
    }
}

/// Without files that have no name yet, what is unfinished has one: hidden, for its owner only, in nobody's way.
#[test]
fn a_kill_without_nameless_files_leaves_a_whole_key_or_none() {
    if strace_works() && refusing_works() {
        let left = kill_everywhere("without nameless files", &refusing(NO_NAMELESS_FILES), &sandbox, From::FirstWrite);
        is_hidden(&left);
        assert_eq!(left.empty, [""; 0]);
    }
}

#[test]
fn a_kill_without_hard_links_leaves_a_whole_key_or_none() {
    if strace_works() && refusing_works() {
        let left = kill_everywhere("without hard links", &refusing(NO_LINKS), &sandbox, From::FirstWrite);
        is_hidden(&left);
        assert_eq!(left.empty, [""; 0]);
    }
}

/// Starts as many at the same moment, in turn with each of these key folders: all wait for one lock, and each says when it does.
pub(crate) fn start_at_once(
    count: usize,
    sandbox: Sandbox,
    front: &[&str],
    folders: &[&str],
) -> (Sandbox, Vec<Outcome>) {
    let gate = File::create(sandbox.path("gate")).unwrap();
    gate.lock().unwrap();
    let script = format!("exec 9<{}; echo at the gate >&2; flock -s 9; exec 9<&-; exec \"$@\"", sandbox.text("gate"));
    let sandbox = sandbox.behind(&[front, &["sh", "-c", &script, "sh"]].concat());
    let running: Vec<_> = (0..count)
        .map(|number| {
            let mut command = sandbox.command(&["mycmd"]);
            command.env("ENTRYPOINT_KEY_DIR", sandbox.path(folders[number % folders.len()]));
            sandbox.start_command(command)
        })
        .collect();
    running.iter().for_each(|running| {
        running.until_stderr("at the gate\n");
    });
    gate.unlock().unwrap();
    let outcomes = running.into_iter().map(Running::finish).collect();
    (sandbox, outcomes)
}

/// One has made each secret, all others have read it, and nothing else is left.
pub(crate) fn all_agree(sandbox: &Sandbox, outcomes: &[Outcome], folders: &[&str]) {
    for outcome in outcomes {
        outcome.succeeds();
    }
    for (file, name, _) in FILES {
        let text = sandbox.read(&format!("keys/{file}"));
        assert!(is_whole(file, &text), "`{file}` is not whole: {} bytes", text.len());
        let print =
            if file == "fernet.key" { fingerprint(&text) } else { text_fingerprint(text.trim_end().as_bytes()) };
        let count = |how: &str| -> usize {
            let lines = folders.iter().map(|folder| {
                let path = sandbox.text(&format!("{folder}/{file}"));
                format!("airflow-entrypoint: info: {name}: {how} `{path}`, fingerprint {print}")
            });
            let said = |line: String| outcomes.iter().filter(|o| o.stderr.lines().any(|said| said == line)).count();
            lines.map(said).sum()
        };
        assert_eq!((count("made, and kept in"), count("from")), (1, outcomes.len() - 1), "{name}");
    }
    let (keys, others) = state(sandbox);
    assert_eq!((keys.len(), others), (FILES.len(), vec![]));
}

#[test]
fn k02_two_hundred_first_starts_use_one_key() {
    let (sandbox, outcomes) = start_at_once(200, self::sandbox(), &[], &["keys"]);
    all_agree(&sandbox, &outcomes, &["keys"]);
    // The control: another folder, another key.
    let other = self::sandbox();
    other.run(&["mycmd"]).succeeds();
    assert_ne!(other.read("keys/fernet.key"), sandbox.read("keys/fernet.key"));
}

#[test]
fn k02_fifty_first_starts_use_one_key_without_nameless_files() {
    if refusing_works() {
        let (sandbox, outcomes) = start_at_once(50, self::sandbox(), &refusing(NO_NAMELESS_FILES), &["keys"]);
        all_agree(&sandbox, &outcomes, &["keys"]);
    }
}

#[test]
fn k02_fifty_first_starts_use_one_key_without_hard_links() {
    if refusing_works() {
        let (sandbox, outcomes) = start_at_once(50, self::sandbox(), &refusing(NO_LINKS), &["keys"]);
        all_agree(&sandbox, &outcomes, &["keys"]);
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
