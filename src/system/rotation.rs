//! The verbs that change the Fernet key: its file, the rows, and what is registered.

use std::fmt::Arguments;
use std::path::{Path, PathBuf};

use super::folder_lock::is_same;
use super::forgetting;
use super::metadb::Session;
use super::migration_lock::{self, Lock, Taken};
use super::places::{self, Elsewhere};
use super::reencryption;
use super::replacing::{self, Folder};
use super::secret_file;
use super::signals::Signals;
use super::store;
use super::{registry, verdict};
use crate::error::Error;
use crate::error::rotation::{RotationError, change, named};
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::rotation::{self, Others, Rotation, State, Survey, Unread};
use crate::log;
use crate::metadb::Metadb;
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Decision, Stored};
use crate::source::Source;

const KIND: SecretKind = SecretKind::Fernet;
/// Where the fingerprint of a staged key is noted, in the key folder.
const NOTE: &str = "fernet.staged";

/// The keys, and what we may change of them.
struct Keys<'p> {
    plan: &'p Plan,
    /// Held until the verb has ended.
    folder: Folder,
    path: PathBuf,
    state: State,
    /// Where they are, if that is not the file.
    elsewhere: Option<Source>,
}

/// Does what was asked. `secret` is the Fernet key as Airflow is given it.
pub(super) fn carry_out(what: Rotation, plan: &Plan, secret: &Secret, signals: &Signals) -> Result<(), Error> {
    let keys = Keys::look(plan, secret)?;
    match what {
        Rotation::Forget(how) => {
            let (mut session, _lock) = keys.session(signals)?;
            forgetting::carry_out(how, &plan.verdict, &mut session, keys.state.keys())
        }
        Rotation::Promote => keys.promote(),
        Rotation::Reencrypt { unread } => {
            let (mut session, _lock) = keys.session(signals)?;
            let before = reencryption::survey(&mut session, keys.state.keys())?;
            keys.reencrypt(&mut session, keys.state.keys(), unread, &before)
        }
        Rotation::Retire => keys.retire(signals),
        Rotation::Rotate { others, unread } => keys.rotate(others, unread, signals),
        Rotation::Stage => keys.stage(),
        Rotation::Status => keys.status(signals),
    }
}

impl<'p> Keys<'p> {
    fn look(plan: &'p Plan, secret: &Secret) -> Result<Self, Error> {
        let folder = replacing::take(&plan.key_dir)?;
        let path = plan.key_dir.join(KIND.file_name());
        let source = plan.secrets.iter().find(|step| step.kind == KIND).and_then(|step| match &step.decision {
            Decision::Leave { source, .. } | Decision::Use { source, .. } => Some(source.clone()),
            _ => None,
        });
        let elsewhere = source.filter(|source| *source != Source::File(path.clone()) || replacing::is_read_only(&path));
        let secret = match (&elsewhere, secret_file::observe(KIND, &path)) {
            // As it is under the lock.
            (None, Stored::Present { content: Ok(secret), .. }) => secret,
            _ => secret.clone(),
        };
        let Secret::Fernet(keys) = secret else {
            return Err(Error::Bug { what: "a Fernet key that is none".to_owned() });
        };
        let note = if elsewhere.is_none() { folder.noted(&plan.key_dir.join(NOTE))? } else { None };
        let state = State::new(keys, note.as_deref().map(str::trim));
        Ok(Self { plan, folder, path, state, elsewhere })
    }

    fn stage(&self) -> Result<(), Error> {
        self.must_be_ours(|keys| format!("`{keys}`, then the new one"))?;
        let new = new_key()?;
        let next = self.state.stage(&new)?;
        self.note(Some(&new.fingerprints()))?;
        // A note about a key that is not there means nothing, and is left by a kill alone.
        self.replace(&next).inspect_err(|_| _ = self.note(None))?;
        told(format_args!(
            "{KIND}: `{}` is staged in `{}`, where it reads and does not encrypt yet; restart all containers, then `key promote`",
            new.fingerprints(),
            self.path.display()
        ))
    }

    fn promote(&self) -> Result<(), Error> {
        self.must_be_ours(|keys| format!("the key to promote, then the others of `{keys}`"))?;
        let next = self.state.promote()?;
        if next != *self.state.keys() {
            self.replace(&next)?;
        }
        told(format_args!(
            "{KIND}: the keys are `{}` now, of which the first encrypts; restart all containers, then `key reencrypt`",
            next.fingerprints()
        ))
    }

    fn rotate(&self, others: Others, unread: Unread, signals: &Signals) -> Result<(), Error> {
        let begun = self.state.rotate(&new_key()?)?;
        if begun.is_some() {
            self.must_be_ours(|keys| format!("the new one, then `{keys}`"))?;
        }
        let (mut session, _lock) = self.session(signals)?;
        must_be_stopped(others, &mut session, &[KIND])?;
        let before = reencryption::survey(&mut session, self.state.keys())?;
        before.stops(unread)?;
        // In the file before any row needs it.
        if let Some(next) = &begun {
            self.replace(next)?;
            self.note(None)?;
            log::info(format_args!("{KIND}: the keys in `{}` are `{}` now", self.path.display(), next.fingerprints()));
        }
        let keys = begun.as_ref().unwrap_or(self.state.keys());
        self.reencrypt(&mut session, keys, unread, &before)
    }

    fn reencrypt(
        &self,
        session: &mut Session<'_>,
        keys: &FernetKeys,
        unread: Unread,
        before: &Survey,
    ) -> Result<(), Error> {
        let (renewed, after) = reencryption::reencrypt(session, keys, unread, before.read())?;
        after.stops(unread)?;
        registry::follow(&self.plan.verdict, session, &Secret::Fernet(keys.clone()));
        self.warn_of(session.ask("looking for other encrypted values", places::elsewhere)?, keys);
        session.close();
        if after.unread.unread > 0 {
            log::warning(format_args!("no key reads {}; they stay as they are", after.unread.unread_names()));
        }
        if after.older.unread > 0 {
            let (values, names) = (after.older.unread, after.older.unread_names());
            return Err(RotationError::Meanwhile { values, names }.into());
        }
        let (first, older) = (first(keys), rotation::older(keys));
        let next = match (older.is_empty(), self.state.staged()) {
            (true, _) => "there is no older one",
            (false, Some(_)) if keys == self.state.keys() => {
                "one is staged: restart all containers, then `key promote`"
            }
            (false, _) => "when no container runs without that key any more, `key retire`",
        };
        told(format_args!("{KIND}: {renewed} encrypted anew, all {} are read by `{first}` alone; {next}", after.read()))
    }

    fn retire(&self, signals: &Signals) -> Result<(), Error> {
        let keys = self.state.keys();
        let Some(next) = self.state.retire()? else {
            return told(format_args!("{KIND}: `{}` is the only one", keys.fingerprints()));
        };
        if self.elsewhere.is_none() {
            replacing::must_be_replaceable(&self.path)?;
        }
        let (mut session, _lock) = self.session(signals)?;
        let survey = reencryption::survey(&mut session, keys)?;
        survey.needs_older(keys)?;
        self.warn_of(session.ask("looking for other encrypted values", places::elsewhere)?, keys);
        let older = rotation::older(keys);
        if let Some(source) = &self.elsewhere {
            self.warn_of_derived();
            let then = change(source, &format!("`{}` alone", next.fingerprints()));
            return told(format_args!(
                "{KIND}: nothing in the database needs `{older}`; {then}, and restart all containers"
            ));
        }
        self.note(None)?;
        self.replace(&next)?;
        registry::follow(&self.plan.verdict, &mut session, &Secret::Fernet(next.clone()));
        told(format_args!(
            "{KIND}: `{older}` is no longer in `{}`, which has `{}` alone; containers forget it at their next start",
            self.path.display(),
            next.fingerprints()
        ))
    }

    fn status(&self, signals: &Signals) -> Result<(), Error> {
        let place = match (&self.elsewhere, secret_file::observe(KIND, &self.path)) {
            (Some(Source::File(file)), Stored::Present { facts, .. }) if *file == self.path => {
                format!("`{}` ({facts}), which only you can change", file.display())
            }
            (Some(source), _) => format!("{source}, which only you can change"),
            (None, Stored::Present { facts, .. }) => format!("`{}` ({facts})", self.path.display()),
            (None, _) => format!("`{}`", self.path.display()),
        };
        let (survey, elsewhere) = match self.session(signals) {
            Err(error @ (Error::Metadb { .. } | Error::Rotation(_))) => {
                log::warning(error);
                (None, None)
            }
            session => {
                let (mut session, _lock) = session?;
                let survey = reencryption::survey(&mut session, self.state.keys())?;
                (Some(survey), Some(session.ask("looking for other encrypted values", places::elsewhere)?))
            }
        };
        if let Some(survey) = survey.as_ref().filter(|survey| survey.unread.unread > 0) {
            log::warning(format_args!("no key reads {}", survey.unread.unread_names()));
        }
        if let Some(elsewhere) = elsewhere {
            self.warn_of(elsewhere, self.state.keys());
        }
        log::info(format_args!("{KIND}: from {place}"));
        log::data(rotation::table(&self.state, survey.as_ref()));
        Ok(())
    }

    fn replace(&self, next: &FernetKeys) -> Result<(), Error> {
        let [old, new] = [self.state.keys(), next].map(|keys| Secret::Fernet(keys.clone()));
        self.folder.replace(KIND, &self.path, &old, &new)
    }

    /// Notes the staged key, or that there is none any more.
    fn note(&self, staged: Option<&str>) -> Result<(), Error> {
        self.folder.note(&self.plan.key_dir.join(NOTE), &self.path, staged)
    }

    fn must_be_ours(&self, order: impl FnOnce(&str) -> String) -> Result<(), Error> {
        let Some(source) = &self.elsewhere else { return Ok(replacing::must_be_replaceable(&self.path)?) };
        self.warn_of_derived();
        let order = order(&self.state.keys().fingerprints());
        Err(match source {
            Source::File(file) if *file == self.path => {
                RotationError::ReadOnly { path: file.clone(), order: Some(order) }
            }
            _ => RotationError::NotOurs { source_of_it: source.clone(), order },
        }
        .into())
    }

    /// A session under the lock of the database, which is to be held as long: no other rotation, and no migration, at the same time.
    fn session<'s>(&self, signals: &'s Signals) -> Result<(Session<'s>, Option<Lock>), Error> {
        let unknown = |why: &str| Error::from(RotationError::DatabaseUnknown { why: why.to_owned() });
        let metadb = &self.plan.verdict.metadb;
        if let Metadb::LeftToAirflow(why) = metadb {
            return Err(unknown(why));
        }
        let mut session = verdict::open(metadb, signals)?.ok_or_else(|| unknown("there is no database yet"))?;
        // SQLite's is that of the folder of its file.
        let file = session.target.file();
        let folder = file.as_deref().and_then(Path::parent).unwrap_or(&self.plan.key_dir);
        if file.is_some() && is_same(folder, &self.plan.key_dir) {
            return Ok((session, None));
        }
        match migration_lock::take(&mut session, folder)? {
            Taken::Ours(lock) => Ok((session, Some(lock))),
            Taken::By(who) => Err(RotationError::Busy { who }.into()),
        }
    }

    /// What follows from the last key of a list that is set by hand changes with that.
    fn warn_of_derived(&self) {
        let derived = &self.plan.verdict.derived;
        if !derived.is_empty() {
            log::warning(format_args!(
                "the {} follow from the last key of the list: logins and running tasks end when that is another one, unless they are set \
                 before to what `airflow-entrypoint key export --as env` prints",
                named(derived)
            ));
        }
    }

    fn warn_of(&self, elsewhere: Elsewhere, keys: &FernetKeys) {
        if !elsewhere.flags.is_empty() {
            log::warning(format_args!(
                "no verb of ours reads or changes what `{}` may mark as encrypted: whether it is under one of the keys is not known here",
                elsewhere.flags.join("`, `")
            ));
        }
        if elsewhere.xcom > 0 && !rotation::older(keys).is_empty() {
            log::warning(format_args!(
                "{} XCom values hold Fernet tokens (Delta Lake, Iceberg), which are not encrypted anew: those of an older key are lost with it",
                elsewhere.xcom
            ));
        }
    }
}

/// Airflow must not run while these are changed, unless that does not matter.
pub(super) fn must_be_stopped(others: Others, session: &mut Session<'_>, kinds: &[SecretKind]) -> Result<(), Error> {
    let alive = match others {
        Others::Ignored => Vec::new(),
        Others::Stop => session.ask("looking for processes of Airflow", places::alive)?,
    };
    match alive.is_empty() {
        true => Ok(()),
        false => Err(RotationError::Running { kinds: kinds.to_vec(), who: alive.join(", ") }.into()),
    }
}

fn first(keys: &FernetKeys) -> String {
    keys.each().next().map(|key| key.fingerprints()).unwrap_or_default()
}

/// The last word of a verb.
fn told(word: Arguments<'_>) -> Result<(), Error> {
    log::info(word);
    Ok(())
}

fn new_key() -> Result<FernetKeys, Error> {
    match store::generate(KIND)? {
        Secret::Fernet(keys) => Ok(keys),
        Secret::Text(_) => Err(Error::Bug { what: "a Fernet key that is none".to_owned() }),
    }
}
