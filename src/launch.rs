//! How the command is started: by becoming it, by staying as its init, or several at once.

pub(crate) mod dumb_init;
pub(crate) mod executable;
pub(crate) mod forwarding;
pub(crate) mod lines;
pub(crate) mod pid_files;
pub(crate) mod restart;

use std::ffi::OsString;

use crate::airflow_version::Version;
use crate::cli::Job;
use crate::commands::{self, Class, Command, Lookup, airflow};
use crate::connections::Connections;
use crate::error::Error;
use crate::launch::forwarding::{Manner, Scope};
use crate::settings::Settings;
use crate::settings::values::{Choice, Forwarded};
use crate::steps::{LaunchStep, Supervise};
use crate::system::world::World;

/// Decides it. `members` are those of the verb `supervise`.
pub(crate) fn decide(
    command: &Command,
    members: &[Command],
    settings: &Settings,
    connections: &Connections,
    version: Version,
    world: &World,
) -> LaunchStep {
    if matches!(command.class, Class::Key | Class::Seed | Class::Setup) {
        return LaunchStep::End;
    }
    let with_scheduler = match settings.web_scheduler {
        Choice::Auto => command.said_webserver && connections.executor.is_local(),
        Choice::Yes => command.said_webserver,
        Choice::No => false,
    };
    let withholds = command.class == Class::Service && settings.forward_signals == Forwarded::Auto;
    let supervise = |members| {
        let manner = Manner { scope: settings.signal_scope.unwrap_or(Scope::Process), withholds };
        LaunchStep::Supervise(Supervise { members, manner, grace: settings.stop_grace, restarts: settings.restart })
    };
    if !members.is_empty() {
        return supervise(members.iter().map(|member| member.words.clone()).collect());
    }
    if with_scheduler && command.class == Class::Service {
        let others = version.beside_web().iter().map(|name| airflow(&[name]));
        return supervise(std::iter::once(command.words.clone()).chain(others).collect());
    }
    // Airflow reaps its own children alone: what a task leaves behind would be a zombie for the life of a service. Other commands
    // end soon, and one that is not PID 1 has an init already.
    let stays = match settings.init {
        Choice::Auto => world.is_pid_1 && command.class == Class::Service,
        Choice::Yes => true,
        Choice::No => false,
    };
    if !stays {
        return LaunchStep::Exec(command.words.clone());
    }
    let setsid = world.environment.os("DUMB_INIT_SETSID");
    let scope = settings.signal_scope.unwrap_or_else(|| Scope::of(&command.words, setsid));
    LaunchStep::Init { words: command.words.clone(), manner: Manner { scope, withholds } }
}

/// The commands of the verb `supervise`, each argument one of them.
pub(crate) fn members(job: &Job, version: Version) -> Result<Vec<Command>, Error> {
    let Job::Supervise(arguments) = job else { return Ok(Vec::new()) };
    arguments.iter().map(|argument| member(argument, version)).collect()
}

fn member(argument: &OsString, version: Version) -> Result<Command, Error> {
    let words =
        argument.to_str().and_then(shlex::split).unwrap_or_else(|| vec![argument.to_string_lossy().into_owned()]);
    let words: Vec<OsString> = words.into_iter().map(OsString::from).collect();
    let found = if words.is_empty() { None } else { Some(commands::look_up(&words, false, false, version)) };
    match found {
        Some(Lookup::Found(command)) if command.class == Class::Service => Ok(command),
        _ => Err(Error::Usage {
            message: format!(
                "cannot supervise `{}`: expected commands of Airflow that run on, such as `scheduler` or `\"celery worker\"`",
                words.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default()
            ),
        }),
    }
}

/// The one of several that the start is prepared for: the web server migrates, and what one of them needs, all of them have.
pub(crate) fn lead(members: &[Command]) -> Option<Command> {
    let is_web = |command: &&Command| {
        command.words.get(1).is_some_and(|word| ["api-server", "standalone", "webserver"].iter().any(|web| word == web))
    };
    let mut lead = members.iter().find(is_web).or_else(|| members.first())?.clone();
    let notes: Vec<_> = members.iter().filter_map(|member| member.note.clone()).collect();
    lead.note = (!notes.is_empty()).then(|| notes.join("; "));
    Some(lead)
}
