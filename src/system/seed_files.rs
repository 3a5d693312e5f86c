//! Reading the files of a seed, and those that its values refer to.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::reading::unreadable;
use crate::environment::Environment;
use crate::error::{Error, Unreadable};
use crate::log;
use crate::seeds::{SeedStep, Seeds, Surroundings, is_seed};

/// No seed is larger than this, but for a mistake.
const LARGEST: u64 = 64 << 20;

/// Reads all files of the step. Nothing is written before every one of them is sound.
pub(crate) fn gather(step: Option<&SeedStep>, environment: &Environment) -> Result<Option<Seeds>, Error> {
    let Some(step) = step else { return Ok(None) };
    let around =
        Surroundings { line: step.line, variable: &|name| environment.lookup(name), file: &|path| referred_to(path) };
    let mut seeds = Seeds::new(step.mode);
    for source in &step.sources {
        let files = files(source)?;
        if files.is_empty() {
            log::warning(format_args!("there is nothing to seed in `{}`", source.display()));
        }
        for file in files {
            let text = read(&file).map_err(|error| cannot_read(&file, &error))?;
            seeds.take(&file, &text, &around)?;
        }
    }
    Ok(Some(seeds))
}

/// A file, or the files of a folder by their names. Kubernetes keeps its own below hidden names.
fn files(source: &Path) -> Result<Vec<PathBuf>, Error> {
    if !source.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let entries = fs::read_dir(source).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let entries = entries.map_err(|error| cannot_read(source, &error))?;
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let mut files: Vec<_> =
        entries.iter().map(fs::DirEntry::path).filter(|path| !is_hidden(path) && path.is_file()).collect();
    files.sort();
    let (seeds, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|path| is_seed(path));
    for other in others {
        log::warning(format_args!("`{}` is passed over: its name is not that of a seed", other.display()));
    }
    Ok(seeds)
}

fn read(path: &Path) -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new(Vec::new());
    File::open(path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(io::Error::other(format!("it is larger than {} MiB", LARGEST >> 20)));
    }
    let text = str::from_utf8(&bytes).map_err(|_| io::Error::other("expected UTF-8 text"))?;
    Ok(Zeroizing::new(text.to_owned()))
}

/// A value that is in a file, without the line end that editors and `docker secret create` leave.
fn referred_to(path: &Path) -> Result<Zeroizing<String>, String> {
    let text = read(path).map_err(|error| match unreadable(path, &error) {
        Unreadable::Denied(cause) | Unreadable::Unusable(cause) => cause,
    })?;
    let value = text.strip_suffix('\n').map(|value| value.strip_suffix('\r').unwrap_or(value));
    Ok(value.map_or_else(|| text.clone(), |value| Zeroizing::new(value.to_owned())))
}

fn cannot_read(path: &Path, error: &io::Error) -> Error {
    Error::Unreadable { what: "seed".to_owned(), path: path.to_owned(), cause: unreadable(path, error) }
}
