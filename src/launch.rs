//! How the command is started: by becoming it, or several at once.

use crate::airflow_version::Version;
use crate::commands::{Class, Command, airflow};
use crate::connections::Connections;
use crate::settings::Settings;
use crate::steps::LaunchStep;
use crate::values::Choice;

/// Decides it.
pub(crate) fn decide(
    command: &Command,
    settings: &Settings,
    connections: &Connections,
    version: Version,
) -> LaunchStep {
    if matches!(command.class, Class::Key | Class::Setup) {
        return LaunchStep::End;
    }
    let with_scheduler = match settings.web_scheduler {
        Choice::Auto => command.said_webserver && connections.executor.is_local(),
        Choice::Yes => command.said_webserver,
        Choice::No => false,
    };
    if !with_scheduler || command.class != Class::Service {
        return LaunchStep::Exec(command.words.clone());
    }
    let others = version.beside_web().iter().map(|name| airflow(&[name]));
    LaunchStep::Supervise(std::iter::once(command.words.clone()).chain(others).collect())
}
