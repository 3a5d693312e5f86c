//! The secrets of the key folder, looked at once more before a service gets them: somebody may have changed them since the start began.

use std::path::Path;
use std::time::{Duration, Instant};

use super::folder_lock::is_free;
use super::secret_file;
use super::signals::{Event, Signals, interrupted};
use super::store::Secrets;
use crate::commands::Class;
use crate::error::Error;
use crate::error::rotation::RotationError;
use crate::log;
use crate::plan::Plan;
use crate::secrets::{Decision, Stored};
use crate::settings::values::WaitTimeout;
use crate::source::Source;

/// The pause between two looks at a folder that somebody has.
const PAUSE: Duration = Duration::from_millis(50);
const STEP: &str = "waiting for the end of a change of the keys";

/// Ends the start of a service that would go on with a secret which is no longer the one of the file. While somebody changes one, that is
/// waited for. Where the file cannot be read any more, as by the user that we have become, what was read holds.
pub(crate) fn confirm(plan: &Plan, secrets: &Secrets, signals: &Signals) -> Result<(), Error> {
    if plan.command.class != Class::Service {
        return Ok(());
    }
    let kept = plan.secrets.iter().filter_map(|step| match &step.decision {
        Decision::Generate(path) | Decision::Use { source: Source::File(path), .. }
            if path.starts_with(&plan.key_dir) =>
        {
            Some((step.kind, path, secrets.of(step.kind)?))
        }
        _ => None,
    });
    let mut kept = kept.peekable();
    if kept.peek().is_some() {
        wait_for_others(&plan.key_dir, plan.wait.timeout, signals)?;
    }
    for (kind, path, ours) in kept {
        match secret_file::observe(kind, path) {
            Stored::Present { content: Ok(now), .. } if !ours.passes_for(&now) => {
                let (path, ours, now) = (path.clone(), ours.to_string(), now.to_string());
                return Err(RotationError::ChangedSince { kind, path, ours, now }.into());
            }
            _ => {}
        }
    }
    Ok(())
}

/// Waits until nobody changes what is in the key folder.
fn wait_for_others(folder: &Path, timeout: WaitTimeout, signals: &Signals) -> Result<(), Error> {
    let begun = Instant::now();
    let deadline = match timeout {
        WaitTimeout::After(time) => Some(begun + time),
        WaitTimeout::Forever => None,
        WaitTimeout::Off => return Ok(()),
    };
    let mut told = false;
    while !is_free(folder) {
        if !told {
            log::info(format_args!("waiting for somebody who changes what is in `{}`", folder.display()));
            told = true;
        }
        let now = Instant::now();
        if deadline.is_some_and(|deadline| deadline <= now) {
            let time = format!("{:.1} s", begun.elapsed().as_secs_f64());
            return Err(RotationError::StillChanging { folder: folder.to_owned(), time }.into());
        }
        if let Event::Stop(signal) = signals.next(Some(now + PAUSE), None) {
            return Err(interrupted(signal, STEP));
        }
    }
    Ok(())
}
