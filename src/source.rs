//! Where a value came from. Every message about a value names its source.

use std::fmt;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// The origin of a setting, an option or a secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// Nobody said anything.
    Default,
    /// It follows from other values, named here.
    Derived(String),
    /// A file that holds this one value.
    File(PathBuf),
    /// The file that a variable `NAME_FILE` names.
    FileOf { variable: String, path: PathBuf },
    /// A setting of the settings file, or an option of the user's own `airflow.cfg`.
    Option { file: PathBuf, name: String },
    /// A variable of the environment.
    Variable(String),
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => write!(formatter, "the default"),
            Self::Derived(from) => write!(formatter, "{from}"),
            Self::File(path) => write!(formatter, "`{}`", path.display()),
            Self::FileOf { variable, path } => write!(formatter, "`{variable}` (`{}`)", path.display()),
            Self::Option { file, name } => write!(formatter, "`{name}` in `{}`", file.display()),
            Self::Variable(name) => write!(formatter, "`{name}`"),
        }
    }
}

impl Source {
    /// Without the marks around it, for `FILE:LINE:COLUMN`.
    pub(crate) fn plain(&self) -> String {
        self.to_string().replace('`', "")
    }
}

/// Permission bits as people write them.
pub(crate) fn mode(permissions: u32) -> String {
    format!("{:04o}", permissions & 0o7777)
}

/// A time as `2026-01-31T08:30:00Z` (days to civil date as in the algorithm of Howard Hinnant's "date").
pub(crate) fn timestamp(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = ((seconds / 86_400) as i64, seconds % 86_400);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn times_are_civil() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_798_761_599, "2026-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(timestamp(UNIX_EPOCH + Duration::from_secs(seconds)), expected);
        }
    }
}
