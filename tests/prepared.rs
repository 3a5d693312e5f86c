//! What is made once and kept in the cache: the data of new database servers, and databases that an Airflow has migrated. A test gets a
//! copy.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use sha2::{Digest, Sha256};

use crate::databases::{Database, Kind};
use crate::sandbox::V1;

/// The name of what is made from these inputs.
pub(crate) fn hash(inputs: &[Vec<u8>]) -> String {
    let mut hash = Sha256::new();
    for input in inputs {
        hash.update(input.len().to_le_bytes());
        hash.update(input);
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives a folder of the cache to `then`. `make` fills it where there is none that was made from these inputs. One of other inputs is
/// removed then, when nobody reads it.
pub(crate) fn with_kept(name: &str, inputs: &[Vec<u8>], make: impl FnOnce(&Path), then: impl FnOnce(&Path)) {
    let hash = hash(inputs);
    let all = crate::referee::cache().unwrap().join("prepared");
    fs::create_dir_all(&all).unwrap();
    let kept = all.join(format!("{name}@{hash}"));
    let lock = File::options().append(true).create(true).open(all.join(format!("{name}.lock"))).unwrap();
    lock.lock_shared().unwrap();
    if !kept.exists() {
        lock.unlock().unwrap();
        lock.lock().unwrap();
        // Another test may have made it since.
        if !kept.exists() {
            let stale = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().path());
            let prefix = format!("{name}@");
            for path in stale.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with(&prefix)) {
                fs::remove_dir_all(path).unwrap();
            }
            let new = tempfile::Builder::new().prefix(&format!("{name}@")).tempdir_in(&all).unwrap();
            make(new.path());
            fs::rename(new.path(), &kept).unwrap();
        }
    }
    // In both cases this holds off only who would remove it.
    then(&kept);
}

/// Copies a file or a folder into a folder, with owners and permissions.
pub(crate) fn copy(what: &Path, folder: &Path) {
    let status = Command::new("cp").args(["-a", "--"]).args([what, folder]).status().unwrap();
    assert!(status.success(), "cannot copy {}", what.display());
}

/// A database as an Airflow's own command migrates an empty one. Nothing of ours is in it.
#[derive(Clone, Copy)]
pub(crate) struct Ready {
    version: &'static str,
    /// Airflow 3 has the tables of accounts with this one.
    auth_manager: Option<&'static str>,
}

impl Ready {
    pub(crate) fn new(version: &'static str) -> Self {
        Self { version, auth_manager: None }
    }

    /// With the tables of this manager of accounts.
    pub(crate) fn with_manager(version: &'static str, manager: &'static str) -> Self {
        Self { version, auth_manager: Some(manager) }
    }

    /// Gives what is kept to `then`: the file `airflow.db` or, of a server, its folder `data`.
    pub(crate) fn with(self, kind: Option<Kind>, then: impl FnOnce(&Path)) {
        let venv = crate::referee::venv(&format!("airflow-{}", self.version), true).unwrap();
        let mut command = Command::new(venv.join("bin/airflow"));
        // No default connections: some have secrets, and there is no key.
        command.env_clear().env("AIRFLOW__CORE__LOAD_DEFAULT_CONNECTIONS", "False");
        command
            .env("AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS", "False")
            .env("AIRFLOW__CORE__LOAD_EXAMPLES", "False");
        command.envs(self.auth_manager.map(|manager| ("AIRFLOW__CORE__AUTH_MANAGER", manager)));
        command.args(if self.version == V1 { &["initdb"][..] } else { &["db", "migrate"] });
        let stamp = fs::read(venv.join(".complete")).unwrap();
        let driver = if kind == Some(Kind::MariaDb) { include_str!("pins/mariadb.txt") } else { "" };
        let inputs = [stamp, driver.into(), format!("{command:?}").into_bytes(), Database::recipe(kind)];

        let manager = self.auth_manager.and_then(|manager| manager.rsplit('.').next()).unwrap_or_default();
        let server = kind.map_or_else(|| "SQLite".to_owned(), |kind| format!("{kind:?}"));
        let name = format!("airflow-{}-{server}{manager}", self.version);
        let make = |kept: &Path| {
            let home = tempfile::TempDir::new().unwrap();
            let database = kind.map(|kind| Database::new(kind).unwrap());
            if let Some(database) = &database {
                let section = if self.version == V1 { "CORE" } else { "DATABASE" };
                command.env(format!("AIRFLOW__{section}__SQL_ALCHEMY_CONN"), database.create("airflow"));
            }
            command.env("PATH", format!("{}:/usr/bin:/bin", venv.join("bin").display()));
            let output = command.env("HOME", home.path()).env("AIRFLOW_HOME", home.path()).output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            match database {
                Some(database) => database.keep(kept),
                None => copy(&home.path().join("airflow.db"), kept),
            }
        };
        with_kept(&name, &inputs, make, then);
    }
}
