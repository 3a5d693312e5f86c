//! When the database and the broker are ready: what to wait for, and who migrates.

use std::path::Path;

use crate::airflow_version::Version;
use crate::commands::{Class, Command, airflow};
use crate::connections::{Connections, Server};
use crate::settings::Settings;
use crate::settings::values::{Choice, WaitTimeout};
use crate::steps::{MigrateStep, Service, WaitStep};

/// What to wait for.
pub(crate) fn wait(needed: bool, settings: &Settings, connections: &Connections) -> WaitStep {
    let mut step = WaitStep { services: Vec::new(), timeout: settings.wait_timeout, skipped: Vec::new() };
    if !needed {
        return step;
    }
    let servers = std::iter::once(("database", &connections.database))
        .chain(connections.broker.iter().map(|broker| ("broker", broker)))
        .chain(connections.result_backend.iter().map(|backend| ("result backend", backend)));
    for (role, server) in servers {
        match server {
            Server::Listens { endpoints, source } => {
                step.services.push(Service { role, endpoints: endpoints.clone(), source: source.clone() });
            }
            Server::LeftToAirflow(source) => {
                step.skipped.push(format!("not waiting for the {role}: its URL is left to Airflow by {source}"));
            }
            Server::Serverless { scheme, source } => {
                step.skipped
                    .push(format!("not waiting for the {role}: `{scheme}` of {source} has no server of its own"));
            }
            Server::None { .. } => {}
        }
    }
    step
}

/// Who migrates the database, and how the others know.
pub(crate) fn migrate(
    needed: bool,
    settings: &Settings,
    key_dir: &Path,
    database: &Server,
    command: &Command,
    version: Version,
) -> MigrateStep {
    if !needed {
        return MigrateStep::Nothing;
    }
    let name = command.words.get(1).map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let migrates = match settings.migrate {
        Choice::Yes => true,
        Choice::No => false,
        // One role migrates and the others wait: 1.10 takes no lock for it, and whoever waits for that of 2.x and 3.x on PostgreSQL
        // gives up after 1.8 s (`create_global_lock` in `airflow/utils/db.py` means 1800 s and says milliseconds). A database in
        // this container has nobody else.
        Choice::Auto => {
            command.class == Class::Setup
                || matches!(name.as_str(), "api-server" | "standalone" | "webserver")
                || matches!(database, Server::None { .. })
        }
    };
    if migrates {
        return MigrateStep::Run { words: airflow(version.migrate_command()), lock: key_dir.to_owned() };
    }
    let seconds = match settings.wait_timeout {
        WaitTimeout::After(time) => time.as_secs(),
        WaitTimeout::Forever => u64::from(u32::MAX),
        WaitTimeout::Off => 0,
    };
    let check = airflow(&version.schema_check(seconds));
    MigrateStep::WaitForSchema { check, timeout: settings.wait_timeout, command: name }
}
