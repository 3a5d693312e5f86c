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
    for name in ["fernet.key", "fernet.staged"] {
        let metadata = fs::metadata(sandbox.path("keys").join(name)).unwrap();
        let facts = (name, metadata.uid(), metadata.gid(), metadata.mode() & 0o7777);
        staged.succeeds().same(facts, (name, NOBODY, NOBODY, 0o600));
    }
    let new = keys(&sandbox)[1].clone();
    // Another user is in the way of nobody: the key that is staged is known to be.
    let sandbox = sandbox.owned_by(NOBODY, NOBODY);
    sandbox.run(&["key", "promote"]).succeeds();
    assert_eq!(keys(&sandbox), [new, old]);
}
