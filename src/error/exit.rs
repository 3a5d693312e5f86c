//! The statuses that we leave with.

use std::process::ExitCode;

/// Every status that we can leave with. The numbers are those of sysexits(3) where they are ours; 1 and 2 are left to Airflow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// A bug of ours.
    Bug,
    /// A file or folder cannot be created.
    CannotCreate,
    /// The status of the command, or of a step's command that failed.
    Command(u8),
    /// A setting, a variable or a file of the user's is wrong.
    Configuration,
    /// The command was not found.
    NotFound,
    /// The command is not executable.
    NotExecutable,
    /// We may not read or write something.
    Permission,
    /// The secrets do not fit what the database holds, or what others on it use.
    SecretsMisfit,
    /// Ended by this signal.
    Signal(u8),
    /// Nothing went wrong.
    Success,
    /// Database, broker or schema did not appear in time.
    Unavailable,
    /// Our own command line is wrong.
    Usage,
}

impl Exit {
    /// The number that the caller sees.
    pub(crate) fn status(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Usage => 64,
            Self::SecretsMisfit => 65,
            Self::Unavailable => 69,
            Self::Bug => 70,
            Self::CannotCreate => 73,
            Self::Permission => 77,
            Self::Configuration => 78,
            Self::NotExecutable => 126,
            Self::NotFound => 127,
            Self::Signal(signal) => 128 + signal,
            Self::Command(status) => status,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.status())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_readme_has_every_exit_status() {
        let readme = include_str!("../../README.md");
        for exit in [
            Exit::Bug,
            Exit::CannotCreate,
            Exit::Configuration,
            Exit::NotExecutable,
            Exit::NotFound,
            Exit::Permission,
            Exit::SecretsMisfit,
            Exit::Unavailable,
            Exit::Usage,
        ] {
            let start = format!("| {} | ", exit.status());
            assert!(readme.lines().any(|line| line.starts_with(&start)), "README lacks {exit:?}");
        }
    }
}
