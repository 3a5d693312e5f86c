//! What follows from the settings and the world: one field a step, in the order of `main.rs`, without effects.

use std::path::{Path, PathBuf};

use crate::account;
use crate::airflow_version::{AirflowOption, Line, Version};
use crate::changes;
use crate::cli::{Job, KeyVerb};
use crate::commands::{self, Class, Command, Lookup};
use crate::connections::{self, Said, Server};
use crate::differences;
use crate::error::{Error, Found};
use crate::explain;
use crate::identity::{self, IdentityStep};
use crate::launch;
use crate::launch::pid_files::{self, PidFile};
use crate::metadb::Metadb;
use crate::mounts::{self, Persistence};
use crate::needs::{Needs, Reasons};
use crate::readiness;
use crate::requirements::{self, RequirementsStep};
use crate::secret::SecretKind;
use crate::secrets::{self, Creation, Evidence};
use crate::seeds::SeedStep;
use crate::settings::Settings;
use crate::settings::values::Handover;
use crate::source::Source;
use crate::steps::{Change, ConfigStep, GroundStep, LaunchStep, MigrateStep, SecretStep, UserStep, WaitStep};
use crate::system::world::{Files, World};
use crate::user_config;
use crate::verdict::VerdictStep;

/// The whole start, decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Plan {
    /// The Airflow whose names count.
    pub airflow: Airflow,
    /// The command as it will be run; none for `setup`.
    pub command: Command,
    /// What is read otherwise than it was written.
    pub notes: Vec<String>,
    /// What to warn of before anything happens.
    pub warnings: Vec<String>,
    pub secrets: Vec<SecretStep>,
    /// Where secrets are kept.
    pub key_dir: PathBuf,
    /// Whether one would be kept there.
    pub place: Creation,
    pub identity: IdentityStep,
    pub ground: GroundStep,
    /// What the environment of every later step says differently from ours; secrets by name.
    pub changes: Vec<Change>,
    /// What it says already, of what we manage.
    pub given: Vec<Change>,
    /// The same, said by the user's own `airflow.cfg`.
    pub configured: Vec<Change>,
    /// What Airflow is given by `..._CMD` and not as it is.
    pub hidden: Vec<AirflowOption>,
    pub config: ConfigStep,
    pub requirements: Option<RequirementsStep>,
    pub wait: WaitStep,
    /// How the metadata database is asked, by a command that needs it.
    pub metadb: Option<Metadb>,
    pub migrate: MigrateStep,
    pub verdict: VerdictStep,
    pub user: Option<UserStep>,
    pub seed: Option<SeedStep>,
    /// What may be left of an earlier process of the same role.
    pub pid_files: Vec<PidFile>,
    pub launch: LaunchStep,
    /// Why steps are taken or not.
    pub reasons: Reasons,
    /// Our settings as they were written, and where.
    pub settings: Vec<(&'static str, String, Source)>,
}

/// The installed Airflow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Airflow {
    pub version: Version,
    pub source: Source,
}

impl Plan {
    /// Decides everything that can be decided before the first effect.
    pub(crate) fn make(job: &Job, settings: &Settings, world: &World, files: &Files) -> Result<Self, Error> {
        let airflow = installed(settings, world);
        let version = airflow.version;
        let members = launch::members(job, version)?;
        let command = match launch::lead(&members) {
            Some(lead) => lead,
            None => command(job, world, version)?,
        };
        must_be_installed(&command, world)?;
        let mut needs = Needs::of(command.class, settings);
        needs.may_create_secrets |= *job == Job::Key(KeyVerb::Generate);
        let home = world.environment.airflow_home();
        let config_path = files.config_path.clone();
        let users = files.config.as_deref().filter(|text| !user_config::is_ours(text));
        let in_file = |option| users.and_then(|text| user_config::value(text, &config_path, option));

        let said = Said { environment: &world.environment, puckel: &settings.puckel, configured: &in_file, version };
        let connections = connections::settle(&said)?;
        let kept = mounts::persistence(&world.mountinfo, &files.key_dir);
        let place = place(settings, &kept, world, &home, &connections.database);
        let evidence = Evidence {
            environment: &world.environment,
            stored: &|kind| files.stored(kind),
            command: &|variable| files.printed(variable),
            configured: &in_file,
            key_dir: &files.key_dir,
            creation: match place {
                _ if needs.may_create_secrets => &place,
                Creation::Allowed => &Creation::Later,
                _ => &Creation::UseOnly,
            },
            version,
        };
        let mut warnings = [settings.warnings.clone(), connections.warnings.clone()].concat();
        let secrets = secret_steps(&evidence, &mut warnings)?;
        let login_file =
            (kept == Persistence::Persistent).then(|| files.key_dir.join("simple_auth_manager_passwords.json"));
        let mut changes = changes::make(&said, &home, &connections, &secrets, login_file);
        let ground = account::Ground {
            home: &home,
            key_dir: &files.key_dir,
            metadb: &connections.metadb,
            package: world.airflow.as_ref().and_then(|airflow| airflow.package.as_deref()),
        };
        let account = settings.official.user.as_ref().filter(|_| needs.user);
        let user =
            account.map(|user| account::decide(user, settings.user_mode, &said, &ground, &mut changes, &mut warnings));
        let user = user.transpose()?.flatten();
        warnings.extend(differences::warnings(&said, &changes));
        let (given, configured) = changes::unchanged(&said, &changes);
        changes.extend(changes::helpers(&world.environment, command.class, settings.secrets));
        let hidden = match settings.secrets {
            Handover::Command => {
                AirflowOption::MANAGED.into_iter().filter(|option| option.takes_command(version)).collect()
            }
            Handover::Plain => Vec::new(),
        };
        let user_home = world.environment.user_home();
        let (run_as, uid) = (settings.run_as.as_deref(), settings.official.airflow_uid);
        let identity = identity::decide(run_as, uid, command.class, &world.users, &user_home)?;
        // What is handed over is closed, and where nothing is kept nobody else can look.
        if kept == Persistence::Persistent && !matches!(identity, IdentityStep::Become(_)) {
            let kinds = SecretKind::of(version);
            warnings.extend(secrets::open_to_everybody(kinds, evidence.stored, &files.key_dir));
        }
        let gid = match &identity {
            IdentityStep::Become(account) => account.gid,
            _ => world.users.gid,
        };
        let config = match users {
            Some(_) => ConfigStep::Keep(config_path.clone()),
            None => write_config(config_path.clone(), files, version),
        };
        let ground = GroundStep::new(settings, command.class, needs.database, gid, &world.environment, &config);
        let requirements = needs.requirements.then(|| requirements::decide(settings, world, files)).flatten();
        let wait = readiness::wait(needs.wait, settings, &connections);
        let known = said.migrations(&connections.metadb, world.airflow.as_ref());
        let migrate =
            readiness::migrate(needs.migrate, settings, &files.key_dir, &connections, known, &command, version);
        let role = explain::role(&command.words);
        let verdict =
            VerdictStep::new(settings.check_secrets, command.class, role, &secrets, &kept, connections.metadb.clone());
        let seed = SeedStep::decide(job, settings, &migrate, version.line(), &connections.metadb, secrets.first())?;
        let reasons = needs.reasons(settings, requirements.as_ref(), &wait, &migrate, seed.as_ref(), &command);
        let launch = launch::decide(&command, &members, settings, &connections, version, world);
        let roles = if members.is_empty() { std::slice::from_ref(&command) } else { &members };
        let pid_files = roles.iter().flat_map(|role| pid_files::of(role, &home, &world.mountinfo)).collect();
        Ok(Self {
            settings: settings.written.clone(),
            config,
            requirements,
            wait,
            metadb: needs.database.then(|| connections.metadb.clone()),
            migrate,
            verdict,
            user,
            seed,
            reasons,
            key_dir: files.key_dir.clone(),
            place,
            identity,
            ground,
            airflow,
            command,
            notes: connections.notes.clone(),
            warnings,
            secrets,
            changes,
            given,
            configured,
            hidden,
            pid_files,
            launch,
        })
    }
}

fn write_config(path: PathBuf, files: &Files, version: Version) -> ConfigStep {
    let (template, template_source) = match &files.template {
        Some((path, text)) => (text.clone(), Source::File(path.clone())),
        None => {
            let (name, text) = match version.line() {
                Line::V1 => ("airflow-1.10.cfg", include_str!("../docker/templates/airflow-1.10.cfg")),
                Line::V2 => ("airflow-2.cfg", include_str!("../docker/templates/airflow-2.cfg")),
                Line::V3 => ("airflow-3.cfg", include_str!("../docker/templates/airflow-3.cfg")),
            };
            (text.to_owned(), Source::Derived(format!("the built-in template `{name}`")))
        }
    };
    ConfigStep::Write { path, template, template_source }
}

fn installed(settings: &Settings, world: &World) -> Airflow {
    let found = world
        .airflow
        .as_ref()
        .map(|found| Airflow { version: found.version, source: Source::File(found.path.clone()) });
    let said = settings
        .airflow_version
        .map(|version| Airflow { version, source: Source::Variable(crate::settings::variable("airflow_version")) });
    said.or(found).unwrap_or(Airflow { version: Version::NEWEST_KNOWN, source: Source::Default })
}

fn command(job: &Job, world: &World, version: Version) -> Result<Command, Error> {
    let ours = |class, name: &str| Command { class, words: vec![name.into()], note: None, said_webserver: false };
    let (words, raw) = match job {
        Job::Command { words, raw } => (words, raw),
        Job::Key(_) => return Ok(ours(Class::Key, "key")),
        Job::Seed { .. } => return Ok(ours(Class::Seed, "seed")),
        Job::Init(_) | Job::Say(_) | Job::Setup | Job::Supervise(_) => return Ok(ours(Class::Setup, "setup")),
    };
    match commands::look_up(words, *raw, world.first_word_on_path, version) {
        Lookup::Found(command) => Ok(command),
        Lookup::Unknown { word, nearest } => {
            let path = world.environment.os("PATH").unwrap_or_default().to_string_lossy().into_owned();
            Err(Error::CommandNotFound { word, path, nearest })
        }
    }
}

/// Says that there is no Airflow before anything is written for it.
fn must_be_installed(command: &Command, world: &World) -> Result<(), Error> {
    let needed = matches!(command.class, Class::Setup | Class::Service)
        || command.words.first().is_some_and(|word| word == "airflow");
    if needed && !world.airflow_on_path {
        let path = world.environment.os("PATH").unwrap_or_default().to_string_lossy().into_owned();
        let cause = format!("there is no such program in `{path}`");
        return Err(Error::CannotRun { program: "airflow".to_owned(), cause, found: Found::No });
    }
    Ok(())
}

/// Whether a missing secret may be made: where it will be kept as long as what it protects.
fn place(settings: &Settings, kept: &Persistence, world: &World, home: &Path, database: &Server) -> Creation {
    if *kept == Persistence::Persistent || settings.ephemeral_key {
        return Creation::Allowed;
    }
    // A database in the container's own layer ends with the key that encrypts it.
    if let Server::None { file } = database {
        let file = file.clone().unwrap_or_else(|| home.join("airflow.db"));
        let outlives = matches!(
            mounts::persistence(&world.mountinfo, &file),
            Persistence::Persistent | Persistence::AnonymousVolume(_)
        );
        if !outlives && !matches!(kept, Persistence::ReadOnly(_)) {
            return Creation::Allowed;
        }
    }
    Creation::Refused(kept.to_string())
}

fn secret_steps(evidence: &Evidence<'_>, warnings: &mut Vec<String>) -> Result<Vec<SecretStep>, Error> {
    let mut steps: Vec<SecretStep> = Vec::new();
    for kind in SecretKind::of(evidence.version) {
        let Some(option) = kind.option(evidence.version) else { continue };
        let fernet = steps.first().map(|step| &step.decision);
        let decision = secrets::decide(kind, evidence, fernet, warnings)?;
        steps.push(SecretStep { kind, option, decision });
    }
    Ok(steps)
}
