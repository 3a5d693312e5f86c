//! The connection to the database is cut at each message of a change of the Fernet key, on real servers; and the disk of SQLite is full at each
//! of its writes.

use crate::databases::Database;
use crate::interrupted::{Deployment, Verb, everywhere, several};
use crate::points::chosen;
use crate::store_kills::strace_works;
use crate::verdict::{CONN, Place};
use crate::wire::{Cut, Wire};

#[test]
fn k10_a_cut_at_each_message_loses_no_row_on_postgresql() {
    if let Some(server) = Database::postgres() {
        cut_everywhere(&server);
    }
}

#[test]
fn k10_a_cut_at_each_message_loses_no_row_on_mariadb() {
    if let Some(server) = Database::mariadb() {
        cut_everywhere(&server);
    }
}

fn cut_everywhere(server: &Database) {
    for cut in [Cut::BeforeTheServer, Cut::BeforeTheClient, Cut::ByTheServer] {
        let (places, first) = several(Some(server), &format!("cut{cut:?}").to_lowercase());
        let wired = |place: &Place<'_>| {
            let Place::Server { server, name } = place else { unreachable!("it has no wire") };
            let (wire, url) = (Wire::to(server), server.url(name));
            let url = wire.url(&url);
            (wire, url)
        };
        // Until something is changed they are alike.
        let (wire, url) = wired(&first);
        let mut first = Deployment::new(&first);
        first.prepare(Verb::Rotate);
        first.sandbox.run_with(CONN, &url, &Verb::Rotate.words()).succeeds();
        let (change, all) = (wire.first_change().unwrap(), wire.messages());
        let matter: Vec<_> = (1..=all).map(|number| number == 1 || number + 1 >= change).collect();
        let numbers: Vec<_> = chosen(&matter).into_iter().map(|index| index + 1).collect();
        let some = numbers.len();
        let counts = everywhere(&places, Verb::Rotate, numbers, all + 1.., |place| {
            let (wire, url) = wired(place);
            move |deployment: &Deployment<'_>, number| {
                wire.cut(Some((cut, number)));
                let outcome = deployment.sandbox.run_with(CONN, &url, &Verb::Rotate.words());
                let struck = wire.messages() >= number;
                // What was only to be said at the end may be missed.
                if !struck || outcome.code() != 0 {
                    let code = if struck { 69 } else { 0 };
                    outcome.same(outcome.code(), code);
                }
                if outcome.code() == 69 {
                    outcome.says(
                        "error: cannot ask the database of `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`: <any> (while <any>)",
                    );
                }
                struck
            }
        });
        println!("{:?}, {cut:?} at {some} of {all} messages: {counts:?} before, halfway and behind", server.kind);
        assert!(counts.iter().all(|count| *count > 2), "{counts:?}");
    }
}

#[test]
fn k10_a_full_disk_at_each_write_loses_no_row() {
    if !strace_works() {
        return;
    }
    for call in ["pwrite64", "fsync"] {
        let counts = everywhere(&several(None, "").0, Verb::Rotate, vec![], 1.., |_| {
            |deployment: &Deployment<'_>, number| {
                let (trace, which) = (deployment.sandbox.text("trace"), format!("trace={call}"));
                let inject = format!("inject={call}:error=ENOSPC:when={number}");
                let strace = ["strace", "-f", "-qq", "-o", &trace, "-e", &which, "-e", &inject];
                let outcome = deployment.sandbox.try_run_behind(&strace, &Verb::Rotate.words());
                let struck = deployment.sandbox.read("trace").contains("(INJECTED)");
                if struck {
                    // Of the key folder, or of the database.
                    outcome.same([69, 73].contains(&outcome.code()), true);
                    outcome.says(match outcome.code() {
                        73 => "error: cannot write the Fernet key `<any>`: no space left on device",
                        _ => "error: cannot ask the database of `<any>/home/airflow.db`: <any> (while encrypting the values anew)",
                    });
                }
                struck
            }
        });
        println!("{call}: {counts:?} before, halfway and behind");
        assert!(counts[1] > 0, "{counts:?}");
    }
}
