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
        // A server is told of each statement and then to do it; an odd step hits both, and each of them in both ways.
        let (speaks, step) = match &place {
            Place::Server { .. } => ("sendto", 5),
            Place::Sqlite => ("pwrite64", 1),
        };
        let (mut whole, mut forgotten) = (0, 0);
        for number in (1..).step_by(step) {
            let what = if number % 2 == 0 { "signal=KILL" } else { "error=EPIPE" };
            let inject = format!("inject={speaks}:{what}:when={number}");
            let strace = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &inject];
            let hit = deployment.sandbox.try_run_behind(&strace, &FORGET);
            hit.check(hit.code() != 70 && hit.code() != 101, "it is a bug");
            // It is one transaction.
            match deployment.lost_values() {
                0 => forgotten += 1,
                left => {
                    hit.same(left, values);
                    whole += 1;
                }
            }
            let again = deployment.sandbox.run(&FORGET);
            again.succeeds();
            deployment.is_forgotten(&again);
            if hit.status.success() && what == "signal=KILL" {
                break;
            }
            deployment.lose_again();
        }
        println!("{speaks}: {whole} whole, {forgotten} forgotten");
        // The control: there were kills on both sides of the end.
        assert!(whole > 3 && forgotten > 0, "{whole} and {forgotten}");
    }
}
