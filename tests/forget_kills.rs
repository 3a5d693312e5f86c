//! A kill or a cut at each statement of `key forget-unreadable` leaves each value whole or forgotten, and the verb, called again, finishes.

use std::thread;

use crate::forget::{Deployment, FORGET};
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

fn goes_on(place: &Place<'_>) {
    const WAYS: [&str; 2] = ["signal=KILL", "error=EPIPE"];
    let mut deployment = Deployment::new(place, V3);
    let values = deployment.lost_values();
    let speaks = match place {
        Place::Server { .. } => "sendto",
        Place::Sqlite => "pwrite64",
    };
    let mut counts = [0, 0];
    // A server is told of each statement and then to do it; an odd step hits both, and each of them in both ways.
    let some = (1..).step_by(3).map(|number: usize| (number, WAYS[number % 2]));
    let all = (1..).flat_map(|number| WAYS.map(|what| (number, what)));
    let points: Box<dyn Iterator<Item = (usize, &str)>> = if is_exhaustive() { Box::new(all) } else { Box::new(some) };
    for (number, what) in points {
        let inject = format!("inject={speaks}:{what}:when={number}");
        let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
        let hit = deployment.sandbox.try_run_behind(&strace, &FORGET);
        hit.check(hit.code() != 70 && hit.code() != 101, "it is a bug");
        // It is one transaction.
        let left = deployment.lost_values();
        hit.check(left == 0 || left == values, "it is half done");
        let again = deployment.sandbox.run(&FORGET);
        again.succeeds();
        deployment.is_forgotten(&again);
        if hit.status.success() && what == WAYS[0] {
            break;
        }
        counts[usize::from(left == 0)] += 1;
        deployment.lose_again();
    }
    let [whole, forgotten] = counts;
    println!("{speaks}: {whole} whole, {forgotten} forgotten");
    // The control: there were hits on both sides of the end.
    assert!(whole > 3 && forgotten > 0, "{whole} and {forgotten}");
}
