//! Our verb `key`: what people do with the secrets by hand.

use std::io::{self, IsTerminal, Read};
use std::path::PathBuf;

use zeroize::Zeroizing;

use super::cause;
use super::signals::Signals;
use super::store::{self, Secrets};
use super::{registry, renewal, rotation, user, verdict};
use crate::cli::KeyVerb;
use crate::error::{Error, Exit, Lacking};
use crate::identity::IdentityStep;
use crate::log;
use crate::plan::Plan;
use crate::secret::export;
use crate::secret::{Secret, SecretKind};
use crate::secrets::{Creation, Decision};
use crate::source::Source;

/// No list of keys is longer than this, but for a mistake.
const LONGEST_INPUT: u64 = 1 << 16;

/// Does what was asked; the secrets are settled already.
pub(crate) fn carry_out(verb: KeyVerb, plan: &Plan, secrets: &Secrets, signals: &Signals) -> Result<Exit, Error> {
    if let Some((kinds, others)) = verb.renewal() {
        renewal::carry_out(kinds, others, plan, secrets, signals)?;
    }
    if let Some(what) = verb.rotation() {
        rotation::carry_out(what, plan, fernet(what.deed(), plan, secrets)?, signals)?;
    }
    match verb {
        KeyVerb::Check => {
            fernet(SHOW, plan, secrets)?;
            verdict::check(plan, secrets, signals)?;
        }
        KeyVerb::Export { form } => {
            fernet(SHOW, plan, secrets)?;
            return Ok(log::data(&*export::text(form, &plan.secrets, |kind| secrets.of(kind))));
        }
        KeyVerb::Fingerprint => return Ok(log::data(format_args!("{}\n", fernet(SHOW, plan, secrets)?))),
        KeyVerb::ForgetUnreadable(_)
        | KeyVerb::Generate
        | KeyVerb::Promote
        | KeyVerb::Reencrypt { .. }
        | KeyVerb::Retire
        | KeyVerb::Rotate { .. }
        | KeyVerb::Stage
        | KeyVerb::Status => {}
        KeyVerb::Import => import(plan)?,
        KeyVerb::Register => registry::register_by_hand(&plan.verdict, secrets, signals)?,
        KeyVerb::Show { yes } => {
            let secret = fernet(SHOW, plan, secrets)?;
            if !yes && !io::stdout().is_terminal() {
                let message =
                    "cannot print the Fernet key to something that is not a terminal: expected `--yes`".to_owned();
                return Err(Error::Usage { message });
            }
            return Ok(log::data(format_args!("{}\n", *secret.reveal())));
        }
    }
    // Made by root, and to be read by the user who runs Airflow.
    if let (KeyVerb::Generate | KeyVerb::Import, IdentityStep::Become(account)) = (verb, &plan.identity) {
        user::hand_over(&plan.key_dir, account)?;
    }
    Ok(Exit::Success)
}

/// What most of our verbs do with it.
const SHOW: &str = "show the";

/// The Fernet key, or why there is none for this deed.
fn fernet<'s>(deed: &'static str, plan: &Plan, secrets: &'s Secrets) -> Result<&'s Secret, Error> {
    let kind = SecretKind::Fernet;
    secrets.of(kind).ok_or_else(|| Error::NoSecret {
        deed,
        kind,
        why: match plan.secrets.first().map(|step| &step.decision) {
            Some(Decision::Leave { source, .. }) => Lacking::LeftToAirflow(source.clone()),
            _ => Lacking::Nowhere(plan.key_dir.clone()),
        },
    })
}

/// Keeps a key that comes from standard input, so that it is in no argument and no variable.
fn import(plan: &Plan) -> Result<(), Error> {
    let kind = SecretKind::Fernet;
    let input = Source::File(PathBuf::from("/dev/stdin"));
    let mut text = Zeroizing::new(Vec::new());
    io::stdin().take(LONGEST_INPUT + 1).read_to_end(&mut text).map_err(|error| Error::InvalidSecret {
        kind,
        source_of_it: input.clone(),
        problem: cause(&error),
    })?;
    if text.len() as u64 > LONGEST_INPUT {
        let problem = format!("expected at most {LONGEST_INPUT} bytes, found more");
        return Err(Error::InvalidSecret { kind, source_of_it: input, problem });
    }
    let given =
        Secret::parse(kind, &text).map_err(|problem| Error::InvalidSecret { kind, source_of_it: input, problem })?;
    if let Creation::Refused(why) = &plan.place {
        return Err(Error::NoPlaceForSecret { kind, dir: plan.key_dir.clone(), why: why.clone() });
    }
    let path = plan.key_dir.join(kind.file_name());
    let (kept, made) = store::create_once(kind, &path, given.clone())?;
    if kept != given {
        return Err(Error::KeyExists { path, kept: kept.to_string(), given: given.to_string() });
    }
    let what = if made { "kept" } else { "there already" };
    log::info(format_args!("{kind}: {what} in `{}`, fingerprint {kept}", path.display()));
    Ok(())
}
