//! A key that comes from a variable is changed: by a deployment tool that makes it anew, and then on purpose.

use crate::rotation::{read_by, tokens};
use crate::sandbox::{V3, fingerprint, new_key};
use crate::verdict::{places, servers};

#[test]
fn h01_a_key_that_was_made_anew_is_told_at_the_next_start_and_can_be_rotated_to() {
    let servers = servers();
    for place in places(&servers, "chart") {
        let (old, new) = (new_key(), new_key());
        let prints = [&old, &new].map(|key| fingerprint(key));
        let mut sandbox = place.sandbox(V3).with("FERNET_KEY", old.clone());
        let values = place.fill(&sandbox, V3, &old);
        sandbox.run(&["scheduler"]).succeeds();
        // The chart's secret was made anew by an unrelated change.
        sandbox.set("FERNET_KEY", new.clone());
        let before = sandbox.calls().len();
        for words in [&["scheduler"][..], &["key", "rotate"]] {
            let refused = sandbox.run(words);
            refused.same(refused.code(), if words.len() == 1 { 65 } else { 78 });
            refused.same(read_by(&old, &tokens(&place, &sandbox, V3)), values);
        }
        sandbox.run(&["scheduler"]).says(&format!(
            "error: cannot use the Fernet key `{}`: it reads none of the {values} encrypted values in the database of <any>",
            prints[1]
        ));
        assert_eq!(sandbox.calls()[before..].iter().filter(|call| call.contains("scheduler")).count(), 0);
        // With the old one behind, as the hint says, everything is read, and then encrypted anew.
        sandbox.set("FERNET_KEY", format!("{new},{old}"));
        sandbox.run(&["scheduler"]).succeeds();
        sandbox.run(&["key", "rotate"]).succeeds().same(read_by(&new, &tokens(&place, &sandbox, V3)), values);
        sandbox.run(&["key", "retire"]).succeeds().says(&format!(
            "info: Fernet key: nothing in the database needs `{}`; set `FERNET_KEY` to `{}` alone, and restart all containers",
            prints[0], prints[1]
        ));
        sandbox.set("FERNET_KEY", new.clone());
        let line = format!("info: the Fernet key `{}` reads all {values} encrypted values in the database", prints[1]);
        sandbox.run(&["scheduler"]).succeeds().says(&line);
    }
}
