//! Python packages that are installed before a service starts: which, by what, and when they need not be.

use std::ffi::OsString;
use std::fmt::{self, Display, Formatter};
use std::path::PathBuf;

use crate::airflow_version::Line;
use crate::secret::fingerprint;
use crate::settings::Settings;
use crate::system::world::{Files, World};

/// A virtual environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct VirtualEnvironment {
    pub folder: PathBuf,
    /// Its interpreter.
    pub python: PathBuf,
}

/// What to install.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct RequirementsStep {
    /// The file of requirements.
    pub file: Option<PathBuf>,
    /// Those of `_PIP_ADDITIONAL_REQUIREMENTS`. They may have a password in a URL.
    pub additional: Vec<String>,
    pub installer: Installer,
    /// What must stay as it is, in the words of a constraints file: a requirement must not bring another Airflow (R03).
    pub constraints: String,
    /// Names all that the result follows from.
    pub hash: String,
    /// Whether the same hash is the same result: not where files are named that we do not read.
    pub repeatable: bool,
}

/// Who installs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Installer {
    /// Into this virtual environment.
    Pip(VirtualEnvironment),
    /// Into the user's own site.
    PipUser,
    /// Into this virtual environment, in a tenth of the time.
    Uv(VirtualEnvironment),
}

/// Decides it; nothing where nothing is asked for.
pub(crate) fn decide(settings: &Settings, world: &World, files: &Files) -> Option<RequirementsStep> {
    let additional = settings.official.requirements.clone();
    if files.requirements.is_none() && additional.is_empty() {
        return None;
    }
    let text = files.requirements.as_deref().unwrap_or_default();
    let installer = match (&world.virtual_environment, files.uv_on_path) {
        // uv knows no user site.
        (Some(environment), true) => Installer::Uv(environment.clone()),
        (Some(environment), false) => Installer::Pip(environment.clone()),
        (None, _) => Installer::PipUser,
    };
    let constraints = world.airflow.as_ref().map(|airflow| {
        let names = ["apache-airflow", "apache-airflow-core"];
        let names = &names[..if airflow.version.line() == Line::V3 { 2 } else { 1 }];
        names.iter().map(|name| format!("{name}=={}\n", airflow.written)).collect::<String>()
    });
    let constraints = constraints.unwrap_or_default();
    let all = [text, &additional.join("\n"), &constraints, &format!("{installer:?}")].join("\0");
    // Another file, a folder, or an option that may name one.
    let names_more = |line: &str| line.starts_with(['-', '.', '/']) || line.contains("file:") || line.contains("@ .");
    let mut lines = text.lines().map(str::trim).chain(additional.iter().map(String::as_str));
    // A file that we may not read is an empty one to us.
    let may_differ = text.is_empty() && additional.is_empty() || lines.any(names_more);
    Some(RequirementsStep {
        file: files.requirements.is_some().then(|| settings.requirements.clone()),
        repeatable: !may_differ,
        additional,
        installer,
        constraints,
        hash: fingerprint(all.as_bytes()),
    })
}

impl RequirementsStep {
    /// The command line; `additional` is the file that the additional ones were written to.
    pub(crate) fn words(&self, additional: Option<PathBuf>) -> Vec<OsString> {
        let mut words: Vec<OsString> = match &self.installer {
            Installer::Pip(_) => ["pip", "install"].map(Into::into).to_vec(),
            Installer::PipUser => ["pip", "install", "--user"].map(Into::into).to_vec(),
            Installer::Uv(environment) => {
                let [uv, pip, install, python] = ["uv", "pip", "install", "--python"].map(OsString::from);
                vec![uv, pip, install, python, environment.python.clone().into()]
            }
        };
        words.extend(self.file.iter().chain(&additional).flat_map(|file| ["-r".into(), file.into()]));
        if additional.is_none() {
            words.extend(self.additional.iter().map(Into::into));
        }
        words
    }

    /// The additional ones as a file of requirements; none where there are options among them, which such a file may not have.
    pub(crate) fn additional_file(&self) -> Option<String> {
        let fits = !self.additional.is_empty() && !self.additional.iter().any(|word| word.starts_with('-'));
        fits.then(|| self.additional.join("\n") + "\n")
    }
}

impl Display for RequirementsStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "install the requirements of ")?;
        match (&self.file, self.additional.is_empty()) {
            (Some(file), false) => write!(f, "`{}` and `_PIP_ADDITIONAL_REQUIREMENTS`", file.display())?,
            (Some(file), true) => write!(f, "`{}`", file.display())?,
            (None, _) => write!(f, "`_PIP_ADDITIONAL_REQUIREMENTS`")?,
        }
        let with = if matches!(self.installer, Installer::Uv(_)) { "uv" } else { "pip" };
        write!(f, " with {with} (set {})", self.hash)
    }
}

/// Requirements may have a password in a URL.
impl fmt::Debug for RequirementsStep {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
