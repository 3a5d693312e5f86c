//! Looking at the world before anything is decided. Nothing here changes anything.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access, getegid, geteuid};
use zeroize::Zeroizing;

use super::python::Python;
use super::reading::{read, unreadable};
use super::signals::Signals;
use super::{alias, secret_commands, secret_file};
use crate::airflow_version::Installed;
use crate::cli::Job;
use crate::environment::Environment;
use crate::error::{Error, Unreadable};
use crate::identity::Users;
use crate::mounts;
use crate::requirements::VirtualEnvironment;
use crate::secret::SecretKind;
use crate::secrets::{Printed, Stored};
use crate::settings::{SETTINGS_FILE, SETTINGS_FILE_VARIABLE, Settings, SettingsFile};

/// What we were given and where we are. No `Debug`: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct World {
    /// The installed Airflow.
    pub airflow: Option<Installed>,
    /// Whether there is a program `airflow` on `PATH`.
    pub airflow_on_path: bool,
    pub environment: Environment,
    /// Whether the first word of the command is a program on `PATH`.
    pub first_word_on_path: bool,
    /// Whether nobody but us reaps what is left behind.
    pub is_pid_1: bool,
    /// The virtual environment that `airflow` belongs to.
    pub virtual_environment: Option<VirtualEnvironment>,
    /// `/proc/self/mountinfo`.
    pub mountinfo: String,
    pub settings_file: Option<SettingsFile>,
    pub users: Users,
}

/// The files that the settings point to. No `Debug`: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Files {
    /// The text of `airflow.cfg`, if it is there.
    pub config: Option<String>,
    pub config_path: PathBuf,
    /// The folder that keeps the secrets.
    pub key_dir: PathBuf,
    /// The file of requirements, if it is there; empty where we may not read it, which is for the installer to say.
    pub requirements: Option<String>,
    /// The user's own template.
    pub template: Option<(PathBuf, String)>,
    /// Whether there is a program `uv` on `PATH`, where there is something to install.
    pub uv_on_path: bool,
    stored: Vec<(SecretKind, Stored)>,
    printed: Vec<(String, Printed)>,
}

/// The name by which we were called, and the arguments behind it.
pub(crate) fn arguments() -> (OsString, Vec<OsString>) {
    let mut arguments = std::env::args_os();
    (arguments.next().unwrap_or_default(), arguments.collect())
}

impl World {
    /// Looks at the environment, the settings file, the installed Airflow and the mounts.
    pub(crate) fn look(job: &Job) -> Result<Self, Error> {
        let mut environment = Environment::new(std::env::vars_os());
        take_files(&mut environment)?;
        environment.unwrap_quotes();
        alias::step_aside(&mut environment);
        let path = folders_of_path(&environment);
        let first_word = match job {
            Job::Command { words, .. } => words.first(),
            _ => None,
        };
        let program = on_path(&path, "airflow");
        let python = program.as_deref().map(Python::of).unwrap_or_default();
        Ok(Self {
            airflow_on_path: program.is_some(),
            airflow: python.airflow(&environment),
            // One that is not executable is a program all the same: that is what its message is about.
            first_word_on_path: first_word.is_some_and(|word| find(&path, word, Path::is_file).is_some()),
            is_pid_1: std::process::id() == 1,
            virtual_environment: python.virtual_environment(),
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            settings_file: settings_file(&environment)?,
            users: users(&environment),
            environment,
        })
    }
}

impl Files {
    /// Looks at what the settings point to.
    pub(crate) fn look(settings: &Settings, world: &World, signals: &Signals) -> Result<Self, Error> {
        let environment = &world.environment;
        let home = environment.airflow_home();
        let config_path = environment.os("AIRFLOW_CONFIG").map_or_else(|| home.join("airflow.cfg"), PathBuf::from);
        let key_dir = key_dir(settings, world);
        let template =
            settings.template.as_ref().map(|path| Ok::<_, Error>((path.clone(), required(path, "template")?)));
        let requirements = settings.requirements.is_file();
        let installs = requirements || !settings.official.requirements.is_empty();
        Ok(Self {
            uv_on_path: installs && on_path(&folders_of_path(environment), "uv").is_some(),
            config: text(&config_path, "configuration")?,
            config_path,
            printed: secret_commands::run(environment, signals)?,
            requirements: requirements.then(|| fs::read_to_string(&settings.requirements).unwrap_or_default()),
            template: template.transpose()?,
            stored: SecretKind::ALL
                .into_iter()
                .map(|kind| (kind, secret_file::observe(kind, &key_dir.join(kind.file_name()))))
                .collect(),
            key_dir,
        })
    }

    /// What the command of a `..._CMD` variable has printed.
    pub(crate) fn printed(&self, variable: &str) -> Option<Printed> {
        self.printed.iter().find(|(name, _)| name == variable).map(|(_, printed)| printed.clone())
    }

    /// What the key folder holds for a kind.
    pub(crate) fn stored(&self, kind: SecretKind) -> Stored {
        self.stored.iter().find(|(stored, _)| *stored == kind).map_or(Stored::Absent, |(_, stored)| stored.clone())
    }
}

/// The key folder: of those that may be it, the one that has a key; a volume that is mounted later must not hide the key that is in use.
fn key_dir(settings: &Settings, world: &World) -> PathBuf {
    let config = world.environment.os("AIRFLOW_CONFIG").map(Path::new);
    let (best, other) = mounts::key_folders(&world.mountinfo, settings.key_dir.as_deref(), config);
    let holds_key = |folder: &Path| folder.join(SecretKind::Fernet.file_name()).exists();
    other.filter(|other| holds_key(other) && !holds_key(&best)).unwrap_or(best)
}

/// The text of a file that need not be there.
fn text(path: &Path, what: &str) -> Result<Option<String>, Error> {
    match read(path) {
        Ok((bytes, _)) => String::from_utf8(bytes).map(Some).map_err(|_| Error::Unreadable {
            what: what.to_owned(),
            path: path.to_owned(),
            cause: Unreadable::Unusable("expected UTF-8 text".to_owned()),
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(Error::Unreadable { what: what.to_owned(), path: path.to_owned(), cause: unreadable(path, &error) })
        }
    }
}

/// The text of a file that somebody named: that it is not there is an error.
fn required(path: &Path, what: &str) -> Result<String, Error> {
    text(path, what)?.ok_or_else(|| Error::Unreadable {
        what: what.to_owned(),
        path: path.to_owned(),
        cause: Unreadable::Unusable("no such file or directory".to_owned()),
    })
}

/// Puts what the files of `NAME_FILE` hold into `NAME`, without the line end that editors and `docker secret create` leave.
fn take_files(environment: &mut Environment) -> Result<(), Error> {
    for (name, path) in environment.named_files() {
        if environment.is_set(&name) {
            return Err(Error::BothSet { name });
        }
        let what = format!("file of `{name}_FILE`");
        let text = Zeroizing::new(required(&path, &what)?);
        let value = text.strip_suffix('\n').unwrap_or(&text);
        let value = value.strip_suffix('\r').unwrap_or(value);
        environment.take_file(&name, path, value);
    }
    Ok(())
}

fn settings_file(environment: &Environment) -> Result<Option<SettingsFile>, Error> {
    let named = environment.os(SETTINGS_FILE_VARIABLE).map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| SETTINGS_FILE.into());
    let text = match named {
        Some(_) => Some(required(&path, &format!("settings file of `{SETTINGS_FILE_VARIABLE}`"))?),
        None => text(&path, "settings file")?,
    };
    Ok(text.map(|text| SettingsFile { path, text }))
}

fn folders_of_path(environment: &Environment) -> Vec<PathBuf> {
    environment.os("PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default()
}

fn on_path(path: &[PathBuf], word: &str) -> Option<PathBuf> {
    find(path, word, |file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

fn find(path: &[PathBuf], word: impl AsRef<Path>, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let word = word.as_ref();
    let is_name = !word.as_os_str().is_empty() && word.components().count() == 1;
    is_name.then(|| path.iter().map(|folder| folder.join(word)).find(|file| is_it(file))).flatten()
}

/// Who we are, and what the system knows of users.
pub(super) fn users(environment: &Environment) -> Users {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let home = fs::metadata(environment.airflow_home()).ok();
    let is_root = geteuid().is_root();
    // Whom root becomes may hang on it.
    let logs = if is_root { fs::metadata(environment.log_folder()).ok() } else { None };
    Users {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        passwd: read("/etc/passwd"),
        group: if is_root { read("/etc/group") } else { String::new() },
        home_owner: home.map(|metadata| (metadata.uid(), metadata.gid())),
        log_folder: logs.map(|metadata| (metadata.uid(), metadata.gid(), metadata.mode())),
    }
}
