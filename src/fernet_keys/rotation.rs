//! A change of the Fernet key, step by step: which list of keys follows on which, so that at each moment every row is read.
//!
//! `stage` puts a new key behind the others, where it only reads; `promote` puts it in front, where it encrypts; then the rows are
//! encrypted anew; `retire` leaves out what no row needs. `rotate` is the first three at once, for a deployment that is stopped.

use crate::error::rotation::RotationError;
use crate::fernet_keys::FernetKeys;
use crate::fernet_keys::forgetting::Forgetting;
use crate::verdict::{Tally, encrypted};

/// What is asked for by our verb `key`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rotation {
    Forget(Forgetting),
    Promote,
    Reencrypt { unread: Unread },
    Retire,
    Rotate { others: Others, unread: Unread },
    Stage,
    Status,
}

impl Rotation {
    /// What it does to a Fernet key, in a message.
    pub(crate) fn deed(self) -> &'static str {
        match self {
            Self::Forget(_) => "tell what is unreadable without the",
            Self::Promote => "promote a",
            Self::Reencrypt { .. } => "encrypt anew with the",
            Self::Retire => "retire a",
            Self::Rotate { .. } => "rotate the",
            Self::Stage => "stage another",
            Self::Status => "tell the status of the",
        }
    }
}

/// What becomes of a rotation when there are values that no key reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// They stay as they are, and the others are rotated.
    Skipped,
    /// Nothing is done.
    Stops,
}

/// What becomes of it while processes of Airflow run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Others {
    /// They do not matter.
    Ignored,
    /// Nothing is done.
    Stop,
}

/// The keys of the file, and which of them is staged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct State {
    keys: FernetKeys,
    /// The place in the list of the key that was staged last.
    noted: Option<usize>,
}

impl State {
    /// `note` is the fingerprint that was noted when a key was staged. It means nothing once that key is gone.
    pub(crate) fn new(keys: FernetKeys, note: Option<&str>) -> Self {
        let noted = keys.each().position(|key| Some(key.fingerprints().as_str()) == note);
        Self { keys, noted }
    }

    pub(crate) fn keys(&self) -> &FernetKeys {
        &self.keys
    }

    /// The fingerprint of the key that waits behind the first.
    pub(crate) fn staged(&self) -> Option<String> {
        let place = self.noted.filter(|place| *place > 0)?;
        self.keys.each().nth(place).map(|key| key.fingerprints())
    }

    /// The list with a new key behind.
    pub(crate) fn stage(&self, new: &FernetKeys) -> Result<FernetKeys, RotationError> {
        match self.staged() {
            Some(print) => Err(RotationError::StagedAlready { print }),
            None if self.has_older() => Err(RotationError::Unfinished { keys: self.keys.fingerprints() }),
            None => Ok(self.keys.followed_by(new)),
        }
    }

    /// The list with the staged key in front; as it is where it has been promoted already.
    pub(crate) fn promote(&self) -> Result<FernetKeys, RotationError> {
        let promoted = match self.noted {
            Some(0) if self.has_older() => Some(self.keys.clone()),
            _ => self.staged().and_then(|print| self.keys.promoted(&print)),
        };
        promoted.ok_or_else(|| RotationError::NothingStaged { keys: self.keys.fingerprints() })
    }

    /// The list with a new key in front, or the staged one. None where an older key is still there: the last rotation is to be finished.
    pub(crate) fn rotate(&self, new: &FernetKeys) -> Result<Option<FernetKeys>, RotationError> {
        match (self.staged(), self.has_older()) {
            (Some(_), _) => self.promote().map(Some),
            (None, true) => Ok(None),
            (None, false) => Ok(Some(new.followed_by(&self.keys))),
        }
    }

    /// The list without what no row needs; none where there is nothing to leave out.
    pub(crate) fn retire(&self) -> Result<Option<FernetKeys>, RotationError> {
        match self.staged() {
            Some(print) => Err(RotationError::StagedAlready { print }),
            None => Ok(self.keys.each().next().filter(|_| self.has_older())),
        }
    }

    fn has_older(&self) -> bool {
        self.keys.each().len() > 1
    }
}

/// The encrypted values by the key that made them. It does not grow with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Survey {
    /// How many each key made, in the order of the list.
    pub of_key: Vec<u64>,
    /// What the first key does not read and an older one does.
    pub older: Tally,
    /// What no key reads.
    pub unread: Tally,
}

impl Survey {
    pub(crate) fn new(keys: &FernetKeys) -> Self {
        Self { of_key: vec![0; keys.each().len()], older: Tally::default(), unread: Tally::default() }
    }

    /// The values that some key reads.
    pub(crate) fn read(&self) -> u64 {
        self.of_key.iter().sum()
    }

    /// Why a key cannot be left out: what would be lost.
    pub(crate) fn needs_older(&self, keys: &FernetKeys) -> Result<(), RotationError> {
        let (values, names) = (self.older.unread, self.older.unread_names());
        if values > 0 {
            return Err(RotationError::StillNeeded { keys: older(keys), values, names });
        }
        Ok(())
    }

    /// Why nothing is rotated: what would stay as it is.
    pub(crate) fn stops(&self, unread: Unread) -> Result<(), RotationError> {
        match (unread, self.unread.unread) {
            (Unread::Stops, values @ 1..) => Err(RotationError::Unread { values, names: self.unread.unread_names() }),
            _ => Ok(()),
        }
    }
}

/// The fingerprints of all keys but the first.
pub(crate) fn older(keys: &FernetKeys) -> String {
    keys.each().skip(1).map(|key| key.fingerprints()).collect::<Vec<_>>().join(",")
}

/// What the keys of a list are there for, a line each.
pub(crate) fn table(state: &State, survey: Option<&Survey>) -> String {
    let mut text = String::new();
    for (index, key) in state.keys.each().enumerate() {
        let print = key.fingerprints();
        let role = match index {
            0 => "encrypts and reads",
            _ if state.noted == Some(index) => "staged: reads",
            _ => "reads",
        };
        let held = survey.and_then(|survey| survey.of_key.get(index)).map_or_else(
            || "the database was not asked".to_owned(),
            |values| match values {
                0 => "no encrypted value needs it".to_owned(),
                1 => "1 encrypted value would be lost without it".to_owned(),
                values => format!("{} would be lost without it", encrypted(*values)),
            },
        );
        text.push_str(&format!("{print}  {role}; {held}\n"));
    }
    text
}

#[cfg(test)]
#[path = "rotation_tests.rs"]
mod tests;
