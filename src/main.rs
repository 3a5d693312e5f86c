//! The ENTRYPOINT of an Airflow container: settles the secrets, writes `airflow.cfg`, readies the database, and becomes the
//! command.

mod airflow_version;
mod changes;
mod cli;
mod commands;
mod connections;
mod environment;
mod error;
mod executor;
mod explain;
mod export;
mod fernet_keys;
mod identity;
mod launch;
mod log;
mod mounts;
mod nearest;
mod plan;
mod puckel;
mod readiness;
mod secret;
mod secrets;
mod settings;
mod source;
mod steps;
mod system;
mod template;
mod urls;
mod user_config;
mod values;

use std::process::ExitCode;

use crate::cli::{Job, Mode};
use crate::error::{Error, Exit};
use crate::plan::Plan;
use crate::settings::Settings;
use crate::system::signals::Signals;
use crate::system::world::{self, Files, World};
use crate::system::{airflow, files, ground, init, keys, pid_files, process, services, store, user};

fn main() -> ExitCode {
    match start() {
        Ok(exit) => exit.into(),
        Err(error) => {
            log::report(&error);
            error.exit().into()
        }
    }
}

/// The whole start. Everything is decided in the plan; each line below does one part of it.
fn start() -> Result<Exit, Error> {
    let signals = Signals::take()?; // first: nothing below may be deaf to TERM
    let (name, arguments) = world::arguments();
    let invocation = cli::read_as(&name, arguments)?;
    if let Job::Say(text) = &invocation.job {
        log::data(text);
        return Ok(Exit::Success);
    }
    if let Job::Init(job) = &invocation.job {
        return init::carry_out(job, &signals);
    }
    let world = World::look(&invocation.job)?;
    let settings = Settings::read(&world.environment, world.settings_file.as_ref())?;
    let files = Files::look(&settings, &world, &signals)?;
    let plan = Plan::make(&invocation.job, &settings, &world, &files)?;
    if invocation.mode == Mode::Show {
        log::data(&plan);
        return Ok(Exit::Success);
    }

    plan.notes().for_each(log::info);
    plan.warnings.iter().for_each(log::warning);
    let secrets = store::settle(&plan.secrets)?;
    if let Job::Key(verb) = invocation.job {
        return keys::carry_out(verb, &plan, &secrets);
    }
    let mut environment = plan.environment(world.environment, |kind| secrets.of(kind));
    user::settle(&plan.identity, &plan.key_dir, &mut environment)?;
    ground::prepare(&plan.ground)?;
    files::hide(&plan.hidden, &mut environment)?;
    if let Some(elsewhere) = files::write_config(&plan.config, &environment)? {
        environment.set_path("AIRFLOW_CONFIG", elsewhere);
    }
    airflow::install(plan.requirements.as_ref(), &environment, &signals)?;
    services::wait(&plan.wait, &signals)?;
    airflow::migrate(&plan.migrate, &environment, &signals)?;
    pid_files::clear(&plan.pid_files);
    process::launch(&plan.launch, &environment, &signals)
}
