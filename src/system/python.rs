//! The Python that `airflow` runs with, and the Airflow installed there, found on disk: no Python is started.

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::reading::read;
use crate::airflow_version::{Installed, interpreter, version_in_source};
use crate::environment::Environment;
use crate::plan::requirements::VirtualEnvironment;
use crate::readiness::schema::VERSIONS;

/// Where packages may be.
#[derive(Default)]
pub(super) struct Python {
    /// The folders that have `bin` and `lib`: that of the interpreter, that of the program, and that of the file that it is a link to.
    prefixes: Vec<PathBuf>,
    /// The interpreter, where the program names one.
    interpreter: Option<PathBuf>,
    /// The interpreter's own name (`python3.11`): of several versions under one prefix it is the one that counts.
    name: Option<OsString>,
}

impl Python {
    /// That of this program.
    pub(super) fn of(program: &Path) -> Self {
        let mut start = Vec::with_capacity(512);
        // The interpreter stands in the first lines; a program that cannot be read still has a folder.
        let _ = fs::File::open(program).map(|file| file.take(512).read_to_end(&mut start));
        let start = String::from_utf8_lossy(&start);
        let interpreter = interpreter(&start).map(PathBuf::from);
        // `python` and `python3` are links to it, in a virtual environment by way of others.
        let name = interpreter.as_deref().and_then(|path| fs::canonicalize(path).ok()?.file_name().map(OsString::from));
        let programs = [interpreter.clone(), Some(program.to_owned()), fs::canonicalize(program).ok()];
        let mut prefixes: Vec<PathBuf> = Vec::new();
        for prefix in programs.iter().flatten().filter_map(|program| program.parent()?.parent()) {
            if !prefixes.iter().any(|known| known == prefix) {
                prefixes.push(prefix.to_owned());
            }
        }
        Self { prefixes, interpreter, name }
    }

    /// Its virtual environment and the interpreter there, if it is one.
    pub(super) fn virtual_environment(&self) -> Option<VirtualEnvironment> {
        let folder = self.prefixes.iter().find(|prefix| prefix.join("pyvenv.cfg").is_file())?;
        let python = self.interpreter.clone().unwrap_or_else(|| folder.join("bin/python"));
        Some(VirtualEnvironment { folder: folder.clone(), python })
    }

    /// The installed Airflow.
    pub(super) fn airflow(&self, environment: &Environment) -> Option<Installed> {
        let on_python_path = environment.os("PYTHONPATH").map(|path| std::env::split_paths(path).collect::<Vec<_>>());
        let in_prefixes = self.prefixes.iter().flat_map(|prefix| self.sites(prefix));
        on_python_path.into_iter().flatten().chain(in_prefixes).find_map(|site| {
            let found = ["airflow/__init__.py", "airflow/version.py"]
                .iter()
                .find_map(|name| {
                    let path = site.join(name);
                    let (bytes, _) = read(&path).ok()?;
                    Installed::new(version_in_source(&String::from_utf8_lossy(&bytes))?, path)
                })
                .or_else(|| from_metadata(&site))?;
            let package = Some(site.join("airflow")).filter(|package| package.join(VERSIONS).is_dir());
            Some(Installed { package, ..found })
        })
    }

    /// The folders of packages under a prefix, those of the interpreter's version first.
    fn sites(&self, prefix: &Path) -> impl Iterator<Item = PathBuf> + use<> {
        let names = fs::read_dir(prefix.join("lib")).into_iter().flatten().flatten().map(|entry| entry.path());
        let mut libraries: Vec<PathBuf> = names
            .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")))
            .collect();
        libraries.sort_by_key(|path| (path.file_name() != self.name.as_deref(), path.clone()));
        libraries.into_iter().flat_map(|library| ["site-packages", "dist-packages"].map(|name| library.join(name)))
    }
}

/// The version in the name of the installed metadata, for packages without their sources. The package `apache-airflow-core` is
/// the one that ships the command on 3.x.
fn from_metadata(site: &Path) -> Option<Installed> {
    fs::read_dir(site).ok()?.flatten().find_map(|entry| {
        let name = entry.file_name();
        let name = name.to_str()?.strip_suffix(".dist-info")?;
        let version = name.strip_prefix("apache_airflow_core-").or_else(|| name.strip_prefix("apache_airflow-"))?;
        Installed::new(version, entry.path())
    })
}
