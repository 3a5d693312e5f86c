//! When the database and the broker are ready: what to wait for, and who migrates.

use std::path::Path;

use crate::airflow_version::Version;
use crate::commands::{Class, Command, airflow};
use crate::connections::{Connections, Server};
use crate::metadb::Target;
use crate::protocol::Protocol;
use crate::settings::Settings;
use crate::settings::values::{Choice, WaitTimeout};
use crate::steps::{Known, MigrateStep, Migration, Service, WaitStep};

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
            Server::Listens { endpoints, url, source } => step.services.push(Service {
                role,
                protocol: Protocol::of(&url.0),
                endpoints: endpoints.clone(),
                url: url.clone(),
                source: source.clone(),
            }),
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
    connections: &Connections,
    known: Known,
    command: &Command,
    version: Version,
) -> MigrateStep {
    if !needed {
        return MigrateStep::Nothing;
    }
    let name = command.words.get(1).or(command.words.first());
    let name = name.map(|word| word.to_string_lossy().into_owned()).unwrap_or_default();
    let migrates = match settings.migrate {
        Choice::Yes => true,
        Choice::No => false,
        // One role migrates and the others wait, so that who has several hosts knows which log to read. A database in this container
        // has nobody else.
        Choice::Auto => {
            command.class == Class::Setup
                || matches!(name.as_str(), "api-server" | "standalone" | "webserver")
                || matches!(connections.database, Server::None { .. })
        }
    };
    if migrates {
        // That of a database which has no server to ask; where Airflow migrates as it likes, what all its containers share.
        let file = connections.metadb.target().filter(|_| known.is_ok()).and_then(Target::file);
        let lock = file.as_deref().and_then(Path::parent).unwrap_or(key_dir).to_owned();
        let (words, upgrade) = (airflow(version.migrate_command()), airflow(version.upgrade_command()));
        return MigrateStep::Run {
            migration: Migration { words, upgrade, lock },
            known,
            timeout: settings.wait_timeout,
            command: name,
        };
    }
    let seconds = match settings.wait_timeout {
        WaitTimeout::After(time) => time.as_secs(),
        WaitTimeout::Forever => u64::from(u32::MAX),
        WaitTimeout::Off => 0,
    };
    let check = airflow(&version.schema_check(seconds));
    MigrateStep::WaitForSchema { check, known, timeout: settings.wait_timeout, command: name }
}
