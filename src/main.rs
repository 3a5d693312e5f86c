//! The ENTRYPOINT of an Airflow container: settles the secrets, writes `airflow.cfg`, readies the database, and becomes the
//! command.

mod account;
mod airflow_version;
mod cli;
mod commands;
mod connections;
mod environment;
mod error;
mod fernet_keys;
mod identity;
mod launch;
mod log;
mod metadb;
mod mounts;
mod plan;
mod readiness;
mod report;
mod secret;
mod secrets;
mod seeds;
mod settings;
mod source;
mod steps;
mod system;
mod template;
mod urls;
mod verdict;

use std::process::ExitCode;

use crate::cli::Job;
use crate::error::{Error, Exit};
use crate::plan::Plan;
use crate::settings::Settings;
use crate::system::signals::Signals;
use crate::system::world::{self, Files, World};
use crate::system::{
    airflow, alias, files, ground, init, keys, packages, pid_files, process, seed_files, seeds as sowing, services,
    settled, store, user, verdict as judging,
};

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
    alias::become_airflow()?; // if that is how we were called
    let signals = Signals::take()?; // first: nothing below may be deaf to TERM
    let (name, arguments) = world::arguments();
    let invocation = cli::read_as(&name, arguments)?;
    if let Job::Say(text) = &invocation.job {
        return Ok(log::data(text));
    }
    if let Job::Init(job) = &invocation.job {
        return init::carry_out(job, &signals);
    }
    let world = World::look(&invocation.job)?;
    let settings = Settings::read(&world.environment, world.settings_file.as_ref())?;
    let files = Files::look(&settings, &world, &signals)?;
    let plan = Plan::make(&invocation.job, &settings, &world, &files)?;
    if let Some(text) = report::asked_for(invocation.mode, &plan, &world.environment)? {
        return Ok(log::data(text));
    }
    plan.notes().for_each(log::info);
    plan.warnings.iter().for_each(log::warning);
    let seeds = seed_files::gather(plan.seed.as_ref(), &world.environment)?;
    let asked = judging::before_a_key_is_made(&plan, &signals)?;
    let secrets = store::settle(&plan.secrets)?;
    if let Job::Key(verb) = invocation.job {
        return keys::carry_out(verb, &plan, &secrets, &signals);
    }
    let mut environment = plan.environment(world.environment, |kind| secrets.of(kind));
    user::settle(&plan.identity, &plan.key_dir, &plan.ground, &mut environment)?;
    ground::prepare(&plan.ground)?;
    files::hide(&plan.hidden, &mut environment)?;
    if let Some(elsewhere) = files::write_config(&plan.config, &environment)? {
        environment.set_path("AIRFLOW_CONFIG", elsewhere);
    }
    packages::install(plan.requirements.as_ref(), &mut environment, &signals)?;
    airflow::must_have_a_login(plan.user.as_ref())?;
    let mut metadb = services::wait(&plan.wait, plan.metadb.as_ref(), asked, &signals)?;
    airflow::migrate(&plan.migrate, &mut metadb, &environment, &signals)?;
    judging::judge(&plan, &mut metadb, &secrets)?;
    airflow::create_user(plan.user.as_ref(), &mut metadb, &environment, &signals)?;
    sowing::sow(seeds.as_ref(), &mut metadb, &secrets)?;
    drop(metadb); // the server is told good-bye
    settled::confirm(&plan, &secrets, &signals)?; // somebody may have changed them meanwhile
    pid_files::clear(&plan.pid_files);
    process::launch(&plan.launch, &environment, &signals)
}
