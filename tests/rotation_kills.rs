//! A change of the Fernet key is killed, or cut off from the database, at every point: the file then holds keys that read every row, and the
//! same verb, called again, goes on to the end.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use crate::databases::Database;
use crate::interrupted::{Deployment, Verb, everywhere, several};
use crate::points::{chosen, does_name, matter};
use crate::rotation::keys;
use crate::sandbox::{Sandbox, V3, new_key};
use crate::store_kills::strace_works;
use crate::traced::{Points, kill_before};

/// The system calls of a verb behind the first that makes a file: each with how many of its name there were. Those to be killed before, and
/// how many there are.
fn calls(sandbox: &Sandbox, verb: &str) -> (Vec<(String, usize)>, usize) {
    let trace = sandbox.text("trace");
    sandbox.try_run_behind(&["strace", "-f", "-qq", "-o", &trace], &["key", verb]).succeeds();
    let trace = sandbox.read("trace");
    let mut seen = BTreeMap::new();
    let lines = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(')).skip(1);
    let all: Vec<_> = lines
        .filter(|(name, _)| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'))
        .map(|(name, arguments)| {
            let count: &mut usize = seen.entry(name.to_owned()).or_default();
            *count += 1;
            ((name.to_owned(), *count), arguments)
        })
        .skip_while(|(_, arguments)| !arguments.contains("O_EXCL"))
        .collect();
    let matter = matter(all.iter().map(|((name, _), arguments)| does_name(name, arguments)));
    (chosen(&matter).into_iter().map(|index| all[index].0.clone()).collect(), all.len())
}

fn killed(sandbox: &Sandbox, verb: &str, (name, number): &(String, usize)) {
    let inject = format!("inject={name}:signal=KILL:when={number}");
    let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
    let outcome = sandbox.try_run_behind(&strace, &["key", verb]);
    outcome.same(outcome.code(), 137);
}

/// As a plain file, or behind a link to a hidden one, as it is where there are no hard links.
fn with_key(linked: bool) -> (Sandbox, String) {
    let (sandbox, key) = (Sandbox::new(V3), new_key());
    let name = if linked { ".fernet.key.0123456789abcdef" } else { "fernet.key" };
    sandbox.write(&format!("keys/{name}"), format!("{key}\n"));
    if linked {
        symlink(name, sandbox.path("keys/fernet.key")).unwrap();
    }
    (sandbox, key)
}

#[test]
fn k10_a_kill_leaves_the_old_keys_or_the_new_ones() {
    if !strace_works() {
        return;
    }
    for linked in [false, true] {
        let (points, all) = calls(&with_key(linked).0, "stage");
        let (mut old, mut new) = (0, 0);
        for point in &points {
            let (sandbox, key) = with_key(linked);
            killed(&sandbox, "stage", point);
            let found = keys(&sandbox);
            assert_eq!(found[0], key, "killed before {point:?}");
            assert!(sandbox.read("keys/fernet.key").ends_with('\n') && found.iter().all(|key| key.len() == 44));
            let left: Vec<_> = sandbox.names("keys").into_iter().filter(|name| !name.starts_with('.')).collect();
            assert!(left.iter().all(|name| ["fernet.key", "fernet.staged"].contains(&&**name)), "{point:?}: {left:?}");
            match found.len() {
                1 => {
                    old += 1;
                    sandbox.run(&["key", "stage"]).succeeds();
                }
                _ => new += 1,
            }
            assert_eq!(keys(&sandbox).len(), 2, "{point:?}");
            sandbox.run(&["key", "promote"]).succeeds().same(&keys(&sandbox)[1], &key);
            assert_eq!(sandbox.path("keys/fernet.key").is_symlink(), linked);
        }
        // The control: there were kills on both sides of it.
        assert!(old > 3 && new > 1 && points.len() < 100, "{old} and {new}");
        println!("killed at {} of {all} points", points.len());
    }
}

#[test]
fn k10_a_kill_at_each_system_call_loses_no_row() {
    for verb in [Verb::Rotate, Verb::Stage, Verb::Promote, Verb::Reencrypt, Verb::Retire] {
        kill_everywhere(None, verb);
    }
}

// The other verbs do the same on each, or ask no database.

#[test]
fn k10_a_kill_at_each_system_call_loses_no_row_on_postgresql() {
    if let Some(server) = Database::postgres() {
        kill_everywhere(Some(&server), Verb::Rotate);
    }
}

#[test]
fn k10_a_kill_at_each_system_call_loses_no_row_on_mariadb() {
    if let Some(server) = Database::mariadb() {
        kill_everywhere(Some(&server), Verb::Rotate);
    }
}

fn kill_everywhere(server: Option<&Database>, verb: Verb) {
    let (places, first) = several(server, &format!("killed{verb:?}").to_lowercase());
    let mut first = Deployment::new(&first);
    first.prepare(verb);
    let points = Points::of(&first.sandbox.command(&verb.words()));
    let (some, all, more) = (points.chosen.len(), points.all, points.more());
    let counts = everywhere(&places, verb, points.chosen, more, |_| {
        |deployment: &Deployment<'_>, point| kill_before(&deployment.sandbox.command(&verb.words()), point)
    });
    let kind = server.map_or("SQLite".to_owned(), |server| format!("{:?}", server.kind));
    println!("{kind}, {verb:?}: killed at {some} of {all} points, {counts:?} times before it, halfway and behind");
    // The control: there were kills on both sides of what it does.
    assert!(counts[0] > 8 && (counts[1] > 10 || counts[2] > 3), "{counts:?}");
}
