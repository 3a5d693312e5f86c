//! A kill or a cut at each statement of `key forget-unreadable` leaves each value whole or forgotten, and the verb, called again, finishes.

use std::thread;

use crate::forget::{Deployment, FORGET};
use crate::interrupted::Login;
use crate::points::is_exhaustive;
use crate::sandbox::V3;
use crate::store_kills::strace_works;
use crate::verdict::{Place, places, servers};

#[test]
fn k10_what_is_killed_while_it_forgets_goes_on_to_the_end() {
    if !strace_works() {
        return;
    }
    let servers = servers();
    thread::scope(|scope| {
        for place in places(&servers, "cut") {
            scope.spawn(move || goes_on(&place));
        }
    });
}

/// Of Airflow 3.
const LOST: usize = 10;
const WAYS: [&str; 2] = ["signal=KILL", "error=EPIPE"];

fn goes_on(place: &Place<'_>) {
    // What is said to a server, or written. SQLite has done it when it removes its journal, and it is said then; a thread of ours that
    // does not hear of another one by its `write` is beyond help.
    let calls = match place {
        Place::Server { .. } => &[("sendto", &WAYS[..])][..],
        Place::Sqlite => &[("pwrite64", &WAYS[..]), ("fsync", &WAYS), ("unlink", &WAYS), ("write", &WAYS[..1])],
    };
    let (mut deployment, mut counts) = (Deployment::new(place, V3), [0, 0]);
    let mut login = Login::to(place, &deployment.sandbox);
    assert_eq!(deployment.lost_values(), LOST);
    for (call, ways) in calls {
        // A server is told of each statement and then to do it; an odd step hits both, and each of them in both ways. The last are all hit.
        let (mut number, step) = if is_exhaustive() { (1, 1) } else { (1, 3) };
        while strike(&mut deployment, &mut login, call, number, ways[number % ways.len()], &mut counts) {
            number += step;
        }
        let all = if is_exhaustive() { 1 } else { number.saturating_sub(6).max(1) };
        for number in all..number {
            for way in *ways {
                strike(&mut deployment, &mut login, call, number, way, &mut counts);
            }
        }
    }
    let [whole, forgotten] = counts;
    println!("{:?}: {whole} whole, {forgotten} forgotten", calls[0].0);
    // The control: there were hits on both sides of the end.
    assert!(whole > 3 && forgotten > 0, "{whole} and {forgotten}");
}

/// Hits that call, and says whether there was one; counts whether nothing was forgotten, or all.
fn strike(
    deployment: &mut Deployment<'_>,
    login: &mut Login,
    call: &str,
    number: usize,
    way: &str,
    counts: &mut [usize; 2],
) -> bool {
    let (inject, trace) = (format!("inject={call}:{way}:when={number}"), deployment.sandbox.text("trace"));
    let strace = ["strace", "-f", "-qq", "-o", &trace, "-e", &format!("trace={call}"), "-e", &inject];
    let hit = deployment.sandbox.try_run_behind(&strace, &FORGET);
    let is_hit = hit.code() == 137 || deployment.sandbox.read("trace").contains("(INJECTED)");
    hit.check(hit.code() != 70 && hit.code() != 101, "it is a bug");
    hit.check(is_hit || hit.code() == 0, "it fails by itself");
    // It is one transaction.
    let left = deployment.lost_values();
    hit.check(left == 0 || left == LOST, "it is half done");
    hit.check(is_hit || left == 0, "it does not come to its end");
    // Who was killed has the lock until the server knows of it.
    login.until_alone(deployment.place);
    let again = deployment.sandbox.run(&FORGET);
    again.succeeds();
    deployment.is_forgotten(&again);
    counts[usize::from(left == 0)] += usize::from(is_hit);
    deployment.lose_again();
    login.until_alone(deployment.place);
    is_hit
}
