//! A kill or a cut at each statement of `key forget-unreadable` leaves each value whole or forgotten, and the verb, called again, finishes.

use crate::forget::{Deployment, FORGET};
use crate::sandbox::V3;
use crate::store_kills::strace_works;
use crate::verdict::{Place, places, servers};

#[test]
fn k10_what_is_killed_while_it_forgets_goes_on_to_the_end() {
    if !strace_works() {
        return;
    }
    let servers = servers();
    for place in places(&servers, "cut") {
        let mut deployment = Deployment::new(&place, V3);
        let values = deployment.lost_values();
        let speaks = match &place {
            Place::Server { .. } => "sendto",
            Place::Sqlite => "pwrite64",
        };
        let mut counts = [0, 0];
        // A server is told of each statement and then to do it; an odd step hits both, and each of them in both ways.
        for number in (1..).step_by(3) {
            let what = if number % 2 == 0 { "signal=KILL" } else { "error=EPIPE" };
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
            if hit.status.success() && what == "signal=KILL" {
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
}
