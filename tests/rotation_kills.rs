//! A change of the Fernet key is killed, or cut off from the database, at every point: the file then holds keys that read every row, and the
//! same verb, called again, goes on to the end.

use std::collections::BTreeMap;
use std::os::unix::fs::symlink;

use crate::interrupted::{Deployment, Verb, everywhere, several};
use crate::outcome::Outcome;
use crate::rotation::keys;
use crate::sandbox::{Sandbox, V3, new_key};
use crate::store_kills::strace_works;
use crate::traced::kill_before;
use crate::verdict::servers;

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

#[test]
fn k10_a_kill_at_each_system_call_loses_no_row() {
    let servers = servers();
    for server in servers.iter().map(Some).chain([None]) {
        let kind = server.map_or("SQLite".to_owned(), |server| format!("{:?}", server.kind));
        // The others do the same on each, or ask no database.
        let all = [Verb::Rotate, Verb::Stage, Verb::Promote, Verb::Reencrypt, Verb::Retire];
        for verb in if server.is_none() { &all[..] } else { &all[..1] } {
            let places = several(server, &format!("killed{verb:?}").to_lowercase());
            let counts = everywhere(&places, *verb, |_| {
                |deployment: &Deployment<'_>, number| kill_before(&deployment.sandbox.command(&verb.words()), number)
            });
            println!("{kind}, {verb:?}: killed {counts:?} times before it, halfway and behind");
            // The control: there were kills on both sides of what it does.
            assert!(counts[0] > 10 && (counts[1] > 10 || counts[2] > 3), "{counts:?}");
        }
    }
}
