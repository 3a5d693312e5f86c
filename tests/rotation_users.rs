//! The verbs that change the Fernet key, given by one user for another one: `docker exec --user root` beside containers that are not root's.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use crate::namespace::is_root;
use crate::rotation::keys;
use crate::sandbox::{NOBODY, Sandbox, V2, new_key};

#[test]
fn what_root_stages_its_owner_promotes() {
    if !is_root() {
        return;
    }
    let (sandbox, old) = (Sandbox::new(V2).made_executable(), new_key());
    let file = sandbox.path("keys/fernet.key");
    fs::write(&file, format!("{old}\n")).unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    for path in [&sandbox.path("keys"), &file] {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
    }
    let staged = sandbox.run(&["key", "stage"]);
    let metadata = fs::metadata(&file).unwrap();
    let facts = (metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
    staged.succeeds().same(facts, (NOBODY, NOBODY, 0o600));
    let new = keys(&sandbox)[1].clone();
    // Which one is staged is known to that user too, who also takes the note away at last.
    let sandbox = sandbox.owned_by(NOBODY, NOBODY);
    sandbox.run(&["key", "promote"]).succeeds();
    assert_eq!(keys(&sandbox), [new, old]);
    assert!(sandbox.path("keys/fernet.staged").exists());
    sandbox.run(&["key", "status"]).succeeds();
}
