//! A change of the web secret is killed before each of its system calls: the file is whole, and the next start is content with it.

use crate::sandbox::V2;
use crate::traced::{Points, kill_before};
use crate::verdict::Place;

const FILE: &str = "keys/web_secret.key";

#[test]
fn a_killed_change_of_the_web_secret_is_no_trouble_to_the_next_start() {
    let sandbox = Place::Sqlite.sandbox(V2);
    Place::Sqlite.sql(&sandbox, "SELECT 1");
    sandbox.run(&["scheduler"]).succeeds();
    let first = sandbox.read(FILE);
    let (mut before, mut behind) = (0, 0);
    let command = sandbox.command(&["key", "rotate", "--web"]);
    let points = Points::of(&command);
    let (some, all, more) = (points.chosen.len(), points.all, points.more());
    sandbox.run(&["scheduler"]).succeeds();
    let chosen = points.chosen.into_iter().map(|point| (point, false));
    for (point, is_more) in chosen.chain(more.map(|point| (point, true))) {
        let old = sandbox.read(FILE);
        let killed = kill_before(&command, point);
        let now = sandbox.read(FILE);
        assert_eq!((now.len(), now.ends_with('\n')), (first.len(), true), "killed before {point:?}");
        if now == old {
            before += 1
        } else {
            behind += 1
        }
        // What is registered is never another one than what the start finds.
        sandbox.run(&["scheduler"]).succeeds();
        if is_more && !killed {
            break;
        }
    }
    assert!(before > 10 && behind > 5, "{before} and {behind}");
    println!("killed at {some} of {all} points: {before} before the file was another one, {behind} behind that");
    // The control: it does come to an end, and the old one is refused then.
    sandbox.write(FILE, first);
    let refused = sandbox.run(&["scheduler"]);
    refused.same(refused.code(), 65);
}
