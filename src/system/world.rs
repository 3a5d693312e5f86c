//! Looking at the world before anything is decided. Nothing here changes anything.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use nix::unistd::{AccessFlags, access, getegid, geteuid};
use zeroize::Zeroizing;

use super::secret_commands;
use super::signals::Signals;
use super::{cause, is_denied, store};
use crate::airflow_version::{Version, interpreter, version_in_source};
use crate::cli::Job;
use crate::environment::Environment;
use crate::error::{Error, Unreadable};
use crate::identity::Users;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Printed, Stored, facts};
use crate::settings::{SETTINGS_FILE, SETTINGS_FILE_VARIABLE, Settings, SettingsFile};
use crate::source::{mode, timestamp};

/// No file that we read is larger than this, but for a mistake.
const LARGEST_FILE: u64 = 1 << 20;

/// What we were given and where we are. No `Debug`: there are secrets in it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct World {
    /// The installed Airflow and the file that says its version.
    pub airflow: Option<(Version, PathBuf)>,
    /// Whether there is a program `airflow` on `PATH`.
    pub airflow_on_path: bool,
    pub environment: Environment,
    /// Whether the first word of the command is a program on `PATH`.
    pub first_word_on_path: bool,
    /// Whether `airflow` belongs to a virtual environment.
    pub in_virtual_environment: bool,
    /// Whether nobody but us reaps what is left behind.
    pub is_pid_1: bool,
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
    /// Whether there are requirements to install.
    pub requirements: bool,
    /// The user's own template.
    pub template: Option<(PathBuf, String)>,
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
        let path: Vec<PathBuf> =
            environment.os("PATH").map(|path| std::env::split_paths(path).collect()).unwrap_or_default();
        let first_word = match job {
            Job::Command { words, .. } => words.first(),
            _ => None,
        };
        let program = on_path(&path, "airflow");
        let prefixes = program.as_deref().map(prefixes).unwrap_or_default();
        Ok(Self {
            airflow_on_path: program.is_some(),
            airflow: installed(&prefixes, &environment),
            // One that is not executable is a program all the same: that is what its message is about.
            first_word_on_path: first_word.is_some_and(|word| find(&path, word, Path::is_file).is_some()),
            in_virtual_environment: prefixes.iter().any(|prefix| prefix.join("pyvenv.cfg").is_file()),
            is_pid_1: std::process::id() == 1,
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
        let template = settings.template.as_ref().map(|path| Ok((path.clone(), required(path, "template")?)));
        Ok(Self {
            config: text(&config_path, "configuration")?,
            config_path,
            printed: secret_commands::run(environment, signals)?,
            requirements: settings.requirements.is_file(),
            template: template.transpose()?,
            stored: SecretKind::ALL
                .into_iter()
                .map(|kind| (kind, store::observe(kind, &settings.key_dir.join(kind.file_name()))))
                .collect(),
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

/// Reads the file of a secret.
pub(crate) fn stored(kind: SecretKind, path: &Path) -> Stored {
    // A pipe would be waited for, and a link that leads nowhere would look like nothing.
    match fs::metadata(path) {
        Ok(metadata) if !metadata.is_file() => {
            let found = if metadata.is_dir() { "is a directory" } else { "expected a file, found something else" };
            return Stored::Unreadable(Unreadable::Unusable(found.to_owned()));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_symlink() => {
            return Stored::Unreadable(Unreadable::Unusable("expected a file, found a link to nothing".to_owned()));
        }
        _ => {}
    }
    match read(path) {
        Ok((bytes, metadata)) => {
            let modified = metadata.modified().unwrap_or(UNIX_EPOCH);
            let facts = facts(metadata.len(), metadata.uid(), metadata.gid(), metadata.mode(), &timestamp(modified));
            Stored::Present { content: Secret::parse(kind, &bytes), facts }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Stored::Absent,
        Err(error) => Stored::Unreadable(unreadable(path, &error)),
    }
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

fn read(path: &Path) -> io::Result<(Vec<u8>, fs::Metadata)> {
    let file = fs::File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(LARGEST_FILE) as usize);
    file.take(LARGEST_FILE).read_to_end(&mut bytes)?;
    Ok((bytes, metadata))
}

/// Why a file cannot be read: the cause, and for a permission the owner, the mode and who we are.
pub(super) fn unreadable(path: &Path, error: &io::Error) -> Unreadable {
    if !is_denied(error) {
        return Unreadable::Unusable(cause(error));
    }
    let owner = fs::metadata(path)
        .map(|metadata| format!("; owner {}:{}, mode {}", metadata.uid(), metadata.gid(), mode(metadata.mode())))
        .unwrap_or_default();
    Unreadable::Denied(format!("{}{owner}, and we are {}:{}", cause(error), geteuid(), getegid()))
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

fn on_path(path: &[PathBuf], word: &str) -> Option<PathBuf> {
    find(path, word, |file| file.is_file() && access(file, AccessFlags::X_OK).is_ok())
}

fn find(path: &[PathBuf], word: impl AsRef<Path>, is_it: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let word = word.as_ref();
    let is_name = !word.as_os_str().is_empty() && word.components().count() == 1;
    is_name.then(|| path.iter().map(|folder| folder.join(word)).find(|file| is_it(file))).flatten()
}

/// The Python prefixes that the program `airflow` may belong to: that of its interpreter, that of its own folder, and that of the
/// file that it is a link to.
fn prefixes(program: &Path) -> Vec<PathBuf> {
    let mut start = Vec::with_capacity(512);
    // The interpreter stands in the first lines; a program that cannot be read still has a folder.
    let _ = fs::File::open(program).map(|file| file.take(512).read_to_end(&mut start));
    let start = String::from_utf8_lossy(&start);
    let programs = [interpreter(&start).map(PathBuf::from), Some(program.to_owned()), fs::canonicalize(program).ok()];
    let mut prefixes: Vec<PathBuf> = Vec::new();
    for prefix in programs.iter().flatten().filter_map(|program| program.parent()?.parent()) {
        if !prefixes.iter().any(|known| known == prefix) {
            prefixes.push(prefix.to_owned());
        }
    }
    prefixes
}

/// Who we are, and what the system knows of users.
fn users(environment: &Environment) -> Users {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let home = fs::metadata(environment.airflow_home()).ok();
    Users {
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        passwd: read("/etc/passwd"),
        group: if geteuid().is_root() { read("/etc/group") } else { String::new() },
        home_owner: home.map(|metadata| (metadata.uid(), metadata.gid())),
    }
}

/// The version of the Airflow that the program belongs to.
fn installed(prefixes: &[PathBuf], environment: &Environment) -> Option<(Version, PathBuf)> {
    let on_python_path = environment.os("PYTHONPATH").map(|path| std::env::split_paths(path).collect::<Vec<_>>());
    let in_prefixes = prefixes.iter().flat_map(|prefix| {
        let libraries = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        let pythons =
            libraries.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")));
        pythons.flat_map(|python| ["site-packages", "dist-packages"].map(|name| python.join(name)))
    });
    on_python_path.into_iter().flatten().chain(in_prefixes).find_map(|site| {
        ["airflow/__init__.py", "airflow/version.py"]
            .iter()
            .find_map(|name| {
                let path = site.join(name);
                let (bytes, _) = read(&path).ok()?;
                version_in_source(&String::from_utf8_lossy(&bytes)).map(|version| (version, path))
            })
            .or_else(|| from_metadata(&site))
    })
}

/// The version in the name of the installed metadata, for packages without their sources. The package `apache-airflow-core` is
/// the one that ships the command on 3.x.
fn from_metadata(site: &Path) -> Option<(Version, PathBuf)> {
    fs::read_dir(site).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_suffix(".dist-info")?;
        let version = name.strip_prefix("apache_airflow_core-").or_else(|| name.strip_prefix("apache_airflow-"))?;
        Some((Version::parse(version)?, entry.path()))
    })
}
