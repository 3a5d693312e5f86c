//! A new web or JWT secret in the place of the old one. Nothing in the database needs them: who has the old one is refused, and no more.

use std::path::PathBuf;

use super::metadb::Session;
use super::replacing;
use super::rotation::must_be_stopped;
use super::signals::Signals;
use super::store::{self, Secrets};
use super::{registry, verdict};
use crate::error::Error;
use crate::error::rotation::RotationError;
use crate::fernet_keys::rotation::Others;
use crate::log;
use crate::metadb::Metadb;
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::secrets::Decision;
use crate::source::Source;

/// Changes these in the key folder, or none where one of them cannot be.
pub(super) fn carry_out(
    kinds: &[SecretKind],
    others: Others,
    plan: &Plan,
    secrets: &Secrets,
    signals: &Signals,
) -> Result<(), Error> {
    let folder = replacing::take(&plan.key_dir)?;
    let each: Vec<_> = kinds.iter().map(|kind| kept(*kind, plan, secrets)).collect::<Result<_, _>>()?;
    for (_, path, _) in &each {
        replacing::must_be_replaceable(path)?;
    }
    let mut session = match &plan.verdict.metadb {
        Metadb::LeftToAirflow(why) => {
            log::warning(format_args!("whether Airflow runs is not known: {why}"));
            None
        }
        metadb => verdict::open(metadb, signals)?,
    };
    if let Some(session) = &mut session {
        must_be_stopped(others, session, kinds)?;
    }
    for (kind, path, old) in each {
        let new = store::generate(kind)?;
        // Whenever this is killed, no other one is registered than a start finds in the file.
        with(&mut session, |session| registry::forget(session, kind))?;
        folder.replace(kind, &path, old, &new)?;
        let (place, then) = (path.display(), what_it_means(kind, plan.airflow.version.has_jwt_secret()));
        log::info(format_args!("{kind}: `{new}` is in `{place}` now, in the place of `{old}`; {then}"));
        with(&mut session, |session| registry::renew(&plan.verdict, session, kind, &new))?;
    }
    Ok(())
}

fn with(
    session: &mut Option<Session<'_>>,
    work: impl FnOnce(&mut Session<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    session.as_mut().map_or(Ok(()), work)
}

/// For those who have the old one. Where there is a JWT secret, logins are signed with that.
fn what_it_means(kind: SecretKind, has_jwt: bool) -> &'static str {
    match kind {
        SecretKind::Jwt => {
            "restart all containers at once: logins and API tokens end, and tasks that run or are queued until then fail"
        }
        SecretKind::Fernet | SecretKind::Web if has_jwt => {
            "restart all containers: one that has not been restarted shows no task logs to one that has"
        }
        SecretKind::Fernet | SecretKind::Web => {
            "restart all containers: logins end, and one that has not been restarted shows no task logs to one that has"
        }
    }
}

/// The secret of this kind and its file in the key folder, or why we cannot change it.
fn kept<'s>(
    kind: SecretKind,
    plan: &'s Plan,
    secrets: &'s Secrets,
) -> Result<(SecretKind, PathBuf, &'s Secret), Error> {
    let path = plan.key_dir.join(kind.file_name());
    let step = plan.secrets.iter().find(|step| step.kind == kind);
    let new_one = |whose: &str| format!("make one with `openssl rand -hex 32` and set {whose} to it in all containers");
    let (why, hint) = match (step, step.map(|step| &step.decision)) {
        (Some(_), Some(Decision::Use { secret, source: Source::File(file) })) if *file == path => {
            return Ok((kind, path, secrets.of(kind).unwrap_or(secret)));
        }
        (Some(step), Some(Decision::Derive)) => {
            ("it follows from the Fernet key".to_owned(), new_one(&format!("`{}`", step.option.variable())))
        }
        (Some(_), Some(Decision::Leave { source, .. } | Decision::Use { source, .. })) => {
            (format!("it comes from {source}, so that only you can"), new_one(&source.to_string()))
        }
        (Some(_), _) => (
            format!("there is none in `{}`", plan.key_dir.display()),
            "`airflow-entrypoint key generate` makes one".to_owned(),
        ),
        (None, _) => {
            let version = plan.airflow.version;
            (format!("Airflow {version} has none"), "leave out its option".to_owned())
        }
    };
    Err(RotationError::NotKept { kind, why, hint }.into())
}
