//! The secrets, judged by the metadata database: what is encrypted there is read as it comes, and never shown.

use super::metadb::{Session, text};
use super::places;
use super::registry;
use super::services;
use super::signals::Signals;
use super::store::Secrets;
use crate::error::Error;
use crate::error::verdict::VerdictError;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::fernet_tokens::Reader;
use crate::log;
use crate::metadb::{Dialect, Metadb};
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::secrets::Decision;
use crate::steps::{DATABASE, WaitStep};
use crate::verdict::{self, Held, Strictness, Tally, Verdict, VerdictStep};

const STEP: &str = "judging the secrets";

/// Ends the start where the plan would make a Fernet key that could not read what the database holds. The only case in which the
/// database is waited for before anything is written.
pub(crate) fn before_a_key_is_made<'s>(plan: &Plan, signals: &'s Signals) -> Result<Option<Session<'s>>, Error> {
    let made = plan.secrets.iter().find_map(|step| match (step.kind, &step.decision) {
        (SecretKind::Fernet, Decision::Generate(path)) => Some(path),
        _ => None,
    });
    let Some(path) = made else { return Ok(None) };
    let unknown =
        |why: &str| log::info(format_args!("whether the database holds encrypted values is not known: {why}"));
    if let Metadb::LeftToAirflow(why) = &plan.verdict.metadb {
        unknown(why);
        return Ok(None);
    }
    let database = plan.wait.services.iter().filter(|service| service.role == DATABASE).cloned().collect();
    let wait = WaitStep { services: database, timeout: plan.wait.timeout, skipped: Vec::new() };
    let Some(mut session) = services::wait(&wait, Some(&plan.verdict.metadb), None, signals)? else {
        unknown("it is left to Airflow");
        return Ok(None);
    };
    if is_missing(&session) {
        return Ok(Some(session));
    }
    // Nobody waited for it, and nobody knows what is in it. A file that is there is no such case.
    let may_be_away = wait.services.is_empty() && session.target.dialect != Dialect::Sqlite;
    let counted = match tally(&mut session, None) {
        Err(Error::Metadb { cause, .. }) if may_be_away => {
            unknown(&cause);
            return Ok(None);
        }
        counted => counted?,
    };
    session.close();
    match counted.values {
        0 => Ok(Some(session)),
        values => {
            let database = session.target.source.clone();
            Err(VerdictError::KeyLost { values, database, path: path.clone() }.boxed())
        }
    }
}

/// Judges the secrets that Airflow is given, and registers their fingerprints. The database has its schema by now.
pub(crate) fn judge(plan: &Plan, metadb: &mut Option<Session<'_>>, secrets: &Secrets) -> Result<(), Error> {
    let step = &plan.verdict;
    let Some(session) = metadb else { return Ok(()) };
    if step.strictness == Strictness::Off || is_missing(session) {
        return Ok(());
    }
    let judged = judge_key(plan, session, secrets).and_then(|proof| match step.registered.is_empty() {
        true => Ok(()),
        false => registry::compare_all(step, session, secrets, proof),
    });
    // Others need the server's connections as long as we do not.
    session.close();
    let waited = plan.wait.services.iter().any(|service| service.role == DATABASE);
    match judged {
        // The command finds out itself whether it can do without.
        Err(Error::Metadb { cause, .. }) => {
            let said = format!("the secrets could not be judged against the database: {cause}");
            match step.strictness {
                Strictness::Remarks | Strictness::Off => {}
                Strictness::Ends | Strictness::Warns if waited => log::warning(said),
                Strictness::Ends | Strictness::Warns => log::info(said),
            }
            Ok(())
        }
        judged => judged,
    }
}

/// The same by hand, at once or not at all.
pub(super) fn check(plan: &Plan, secrets: &Secrets, signals: &Signals) -> Result<(), Error> {
    let Some(mut session) = open(&plan.verdict.metadb, signals)? else { return Ok(()) };
    match judge_key(plan, &mut session, secrets) {
        Err(Error::Metadb { cause, .. }) => {
            log::info(format_args!("the database is not asked: {cause}"));
            Ok(())
        }
        judged => judged.map(drop),
    }
}

/// A session with a database that is there.
pub(super) fn open<'s>(metadb: &Metadb, signals: &'s Signals) -> Result<Option<Session<'s>>, Error> {
    Ok(Session::of(Some(metadb), signals)?.filter(|session| !is_missing(session)))
}

/// A file that is not there is an empty database, and stays none.
fn is_missing(session: &Session<'_>) -> bool {
    session.target.file().is_some_and(|file| !file.exists())
}

/// What the encrypted values have proved of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Proof {
    /// It reads nothing of them: it is not the one of this deployment.
    Misfit,
    /// There is nothing to prove it by, or others have left values of their own.
    None,
    /// It reads them all.
    Read,
}

fn judge_key(plan: &Plan, session: &mut Session<'_>, secrets: &Secrets) -> Result<Proof, Error> {
    let kind = SecretKind::Fernet;
    let left = plan.secrets.iter().find_map(|step| match &step.decision {
        Decision::Leave { source, secret: None } if step.kind == kind => Some(source),
        _ => None,
    });
    let held = match (secrets.of(kind), left) {
        (Some(Secret::Fernet(keys)), _) => Held::Keys(keys),
        (_, Some(source)) => Held::Unknown(source),
        _ => Held::Nothing,
    };
    let keys = match held {
        Held::Keys(keys) => Some(keys),
        _ => None,
    };
    let tally = tally(session, keys)?;
    let strictness = plan.verdict.strictness;
    match verdict::judge(held, &tally, &session.target.source) {
        Verdict::NothingEncrypted => return Ok(Proof::None),
        Verdict::Fits(_) if strictness == Strictness::Remarks => return Ok(Proof::Read),
        Verdict::Fits(said) => {
            log::info(said);
            return Ok(Proof::Read);
        }
        Verdict::Unknown(_) if strictness == Strictness::Remarks => {}
        Verdict::Unknown(said) => log::info(said),
        Verdict::Partly(said) => log::warning(said),
        Verdict::Misfit(error) => {
            misfit(&plan.verdict, error)?;
            return Ok(Proof::Misfit);
        }
    }
    Ok(Proof::None)
}

/// Ends the start, or warns where that is what was asked for.
pub(super) fn misfit(step: &VerdictStep, error: VerdictError) -> Result<(), Error> {
    match step.strictness {
        Strictness::Ends => Err(error.boxed()),
        Strictness::Off | Strictness::Remarks | Strictness::Warns => {
            log::warning(error);
            Ok(())
        }
    }
}

/// Counts what is encrypted, and what of it these keys do not read. Without keys they read nothing.
fn tally(session: &mut Session<'_>, keys: Option<&FernetKeys>) -> Result<Tally, Error> {
    let mut reader = keys.map(Reader::new).transpose()?;
    session.ask(STEP, async |login| {
        let mut tally = Tally::default();
        for place in places::all(login).await? {
            login
                .each(&place.select(""), &[], |row| {
                    let (mut all, mut unread) = (0, 0);
                    for value in [text(row, 2)?, text(row, 3)?].iter().flatten().filter(|value| place.is_token(value)) {
                        all += 1;
                        unread += u64::from(!reader.as_mut().is_some_and(|reader| reader.reads(value)));
                    }
                    tally.count(place.holder, text(row, 1)?.as_deref(), all, unread);
                    Ok(())
                })
                .await?;
        }
        Ok(tally)
    })
}
