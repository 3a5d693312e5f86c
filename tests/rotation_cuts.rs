//! The connection to the database is cut at each message of a change of the Fernet key, on real servers.

use crate::interrupted::{Deployment, Verb, everywhere, several};
use crate::verdict::{CONN, Place, servers};
use crate::wire::{Cut, Wire};

#[test]
fn k10_a_cut_at_each_message_loses_no_row() {
    for server in servers() {
        for cut in [Cut::BeforeTheServer, Cut::BeforeTheClient, Cut::ByTheServer] {
            let places = several(Some(&server), &format!("cut{cut:?}").to_lowercase());
            let counts = everywhere(&places, Verb::Rotate, |place| {
                let Place::Server { server, name } = place else { unreachable!("it has no wire") };
                let (wire, url) = (Wire::to(server), server.url(name));
                let url = wire.url(&url);
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
                        outcome.says("error: cannot ask the database of `AIRFLOW__DATABASE__SQL_ALCHEMY_CONN`: <any> (while <any>)");
                    }
                    struck
                }
            });
            println!("{:?}, {cut:?}: {counts:?} before, halfway and behind", server.kind);
            assert!(counts.iter().all(|count| *count > 2), "{counts:?}");
        }
    }
}
