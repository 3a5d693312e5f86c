//! A change of the Fernet key is killed, or cut off from the database, at every point: the file then holds keys that read every row, and the
//! same verb, called again, goes on to the end.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use crate::outcome::Outcome;
use crate::rotation::{keys, read_by, tokens};
use crate::sandbox::{Sandbox, V2, V3, new_key};
use crate::store_kills::strace_works;
use crate::verdict::{Place, places, servers};

/// The system calls of a verb behind the first that this one is among: each with how many of its name there were.
fn calls(sandbox: &Sandbox, verb: &str, counts: impl Fn(&str) -> bool) -> Vec<(String, usize, String)> {
    let trace = sandbox.text("trace");
    sandbox.try_run_behind(&["strace", "-f", "-qq", "-o", &trace], &["key", verb]).succeeds();
    let trace = sandbox.read("trace");
    let mut seen = BTreeMap::new();
    let lines = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('(')).skip(1);
    lines
        .filter(|(name, _)| name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_'))
        .map(|(name, arguments)| {
            let count: &mut usize = seen.entry(name.to_owned()).or_default();
            *count += 1;
            (name.to_owned(), *count, arguments)
        })
        .skip_while(|(name, _, arguments)| !counts(&format!("{name}({arguments}")))
        .map(|(name, count, arguments)| (name, count, arguments.to_owned()))
        .collect()
}

fn injected(sandbox: &Sandbox, verb: &str, (name, number): &(String, usize), what: &str) -> Outcome {
    let inject = format!("inject={name}:{what}:when={number}");
    sandbox.try_run_behind(&["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject], &["key", verb])
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
        let points = calls(&with_key(linked).0, "stage", |call| call.contains("O_EXCL"));
        let points: Vec<_> = points.into_iter().map(|(name, number, _)| (name, number)).collect();
        let (mut old, mut new) = (0, 0);
        for point in &points {
            let (sandbox, key) = with_key(linked);
            injected(&sandbox, "stage", point, "signal=KILL");
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
        println!("killed at {} points", points.len());
    }
}

/// Every row is read by the keys of the file; and the same verb finishes.
fn survives(place: &Place<'_>, sandbox: &Sandbox, old: &str, values: usize, at: &str) {
    let (found, all) = (keys(sandbox), tokens(place, sandbox, V2));
    let read: usize = found.iter().map(|key| read_by(key, &all)).sum();
    assert_eq!((all.len(), read), (values, values), "{at}");
    sandbox.run(&["key", "rotate"]).succeeds();
    let (now, all) = (keys(sandbox), tokens(place, sandbox, V2));
    assert_eq!((now.len(), now[1].as_str(), read_by(&now[0], &all)), (2, old, values), "{at}");
    assert!(found.len() == 1 || found == now, "{at}: a second key was made");
}

#[test]
fn k10_a_kill_or_a_cut_at_each_statement_loses_no_row() {
    if !strace_works() {
        return;
    }
    let servers = servers();
    for place in places(&servers, "killed") {
        let sandbox = place.sandbox(V2);
        let first = new_key();
        sandbox.write("keys/fernet.key", format!("{first}\n"));
        let values = place.fill(&sandbox, V2, &first);
        let speaks = match &place {
            Place::Server { .. } => "sendto",
            Place::Sqlite => "pwrite64",
        };
        // Before the exchange of the file nothing has been changed; behind the end of the transaction nothing more will be.
        let mut ended = false;
        let points = calls(&sandbox, "rotate", |call| call.starts_with("rename"));
        let points: Vec<_> =
            points.into_iter().filter(|(name, _, _)| name == speaks || name.starts_with("rename")).collect();
        let to_the_end =
            points.iter().take_while(|(_, _, said)| !std::mem::replace(&mut ended, said.contains("COMMIT")));
        // A server is told of each statement and then to do it; an odd step hits both.
        let step = if speaks == "sendto" { 5 } else { 1 };
        let points: Vec<_> = to_the_end.step_by(step).map(|(name, number, _)| (name.clone(), *number)).collect();
        assert!(points.len() > 3, "{points:?}");
        let mut counts = [0, 0];
        for (index, point) in points.iter().enumerate() {
            let what = if index % 2 == 0 { "signal=KILL" } else { "error=EPIPE" };
            sandbox.run(&["key", "retire"]).succeeds();
            let old = keys(&sandbox).remove(0);
            let hit = injected(&sandbox, "rotate", point, what);
            hit.check(hit.code() != 70 && hit.code() != 101, "it is a bug");
            counts[keys(&sandbox).len() - 1] += 1;
            survives(&place, &sandbox, &old, values, &format!("{what} at {point:?}"));
        }
        println!("{speaks}: {} points, {counts:?}", points.len());
        assert!(counts[1] > 2, "{counts:?}");
    }
}
