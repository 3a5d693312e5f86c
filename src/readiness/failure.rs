//! Why a server is not ready, and whether time may heal that: the answers of PostgreSQL, MySQL and Redis, by their codes.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

/// What went wrong at one try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub class: Class,
    /// In the server's own words, or the system's.
    pub cause: String,
}

/// The kinds of failures, by what is to be done about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// The server's rules refuse this host or this user.
    Access,
    /// Its certificate is not one that we trust. Python's library trusts some that ours does not (one that signs itself).
    Certificate,
    /// The connection is refused, reset, or closed before there was an answer.
    Connection,
    /// There is no database of that name.
    Database,
    /// Our driver cannot do what Airflow's can.
    Driver,
    /// Wrong user or password.
    Login,
    /// The name has no address.
    Name,
    /// What answers is another kind of server.
    Protocol,
    /// The server is there, and says itself that it is not ready.
    Server,
    /// No answer in time.
    Time,
    /// Both sides do not agree on encryption.
    Tls,
}

/// How long a failure that time does not heal is borne: a user or a database may be just being created by another container. The
/// images of PostgreSQL, MySQL and MariaDB create theirs before they listen on the network.
pub(crate) const GRACE: Duration = Duration::from_secs(5);

/// The first pause between two tries; each one is up to twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// The pause after so many tries, between half and the whole of what doubles each time, so that those who were started in one instant
/// do not come back in one. `random` is any number.
pub(crate) fn pause(tries: u32, random: u64) -> Duration {
    let whole = FIRST_PAUSE.saturating_mul(1_u32 << tries.saturating_sub(1).min(10)).min(LONGEST_PAUSE);
    let half = whole / 2;
    half + half.mul_f64((random % 1000) as f64 / 1000.0)
}

impl Class {
    /// Whether it may be otherwise in a moment without anybody changing a setting.
    pub(crate) fn heals(self) -> bool {
        matches!(self, Self::Connection | Self::Name | Self::Server | Self::Time)
    }

    /// PostgreSQL's answer to a login, by its SQLSTATE (`src/backend/utils/errcodes.txt`). Poolers speak of their own states in the
    /// same codes.
    pub(crate) fn of_postgres(code: &str, message: &str) -> Self {
        match code {
            "3D000" => Self::Database,
            "28P01" => Self::Login,
            // `no pg_hba.conf entry`, or `role "x" does not exist`.
            "28000" if message.contains("pg_hba.conf") => Self::Access,
            "28000" => Self::Login,
            "42501" => Self::Access,
            // 57P03 starting up or shutting down, 53300 too many clients, and whatever else a server that is there may say.
            _ => Self::Server,
        }
    }

    /// MySQL's and MariaDB's, by the error's number (`mysqld_error.h`).
    pub(crate) fn of_mysql(number: u16) -> Self {
        match number {
            1049 => Self::Database,
            1045 | 1251 | 1524 | 1698 | 3118 => Self::Login,
            1044 | 1129 | 1130 => Self::Access,
            3159 => Self::Tls,
            // 1040 too many connections, 1203 too many of this user, 1053 shutting down.
            _ => Self::Server,
        }
    }

    /// Redis', by the first word of its error (`src/server.c`, `src/acl.c`).
    pub(crate) fn of_redis(code: &str, message: &str) -> Self {
        match code {
            "NOAUTH" | "WRONGPASS" => Self::Login,
            "DENIED" | "NOPERM" => Self::Access,
            // Before Redis 6: `invalid password`, and `Client sent AUTH, but no password is set` to this day.
            "ERR" if message.contains("AUTH") || message.contains("invalid password") => Self::Login,
            // LOADING, MASTERDOWN, BUSY, `max number of clients reached`.
            _ => Self::Server,
        }
    }
}

impl Failure {
    pub(crate) fn new(class: Class, cause: impl Into<String>) -> Self {
        Self { class, cause: cause.into() }
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let class = match self.class {
            Class::Connection | Class::Name | Class::Time => "",
            Class::Access => "access denied: ",
            Class::Certificate => "certificate: ",
            Class::Driver => "driver: ",
            Class::Database => "no such database: ",
            Class::Login => "login refused: ",
            Class::Protocol => "another protocol: ",
            Class::Server => "not ready: ",
            Class::Tls => "TLS: ",
        };
        write!(f, "{class}{}", self.cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w01_what_postgresql_says_of_itself_heals_and_what_it_says_of_us_does_not() {
        for (code, message, expected) in [
            ("57P03", "the database system is starting up", Class::Server),
            ("57P03", "the database system is shutting down", Class::Server),
            ("53300", "sorry, too many clients already", Class::Server),
            ("53300", "remaining connection slots are reserved for superusers", Class::Server),
            ("08P01", "server login has been failing", Class::Server),
            ("28P01", "password authentication failed for user \"u\"", Class::Login),
            ("28000", "role \"u\" does not exist", Class::Login),
            ("28000", "no pg_hba.conf entry for host \"10.0.0.1\", user \"u\"", Class::Access),
            ("42501", "permission denied for database \"d\"", Class::Access),
            ("3D000", "database \"d\" does not exist", Class::Database),
        ] {
            assert_eq!(Class::of_postgres(code, message), expected, "{code} {message}");
            assert_eq!(expected.heals(), expected == Class::Server);
        }
    }

    #[test]
    fn w01_the_same_of_mysql() {
        for (number, expected) in [
            (1040, Class::Server),
            (1203, Class::Server),
            (1053, Class::Server),
            (1045, Class::Login),
            (1049, Class::Database),
            (1044, Class::Access),
            (1130, Class::Access),
            (3159, Class::Tls),
        ] {
            assert_eq!(Class::of_mysql(number), expected, "{number}");
        }
    }

    #[test]
    fn w12_the_same_of_redis() {
        for (code, message, expected) in [
            ("LOADING", "Redis is loading the dataset in memory", Class::Server),
            ("MASTERDOWN", "Link with MASTER is down", Class::Server),
            ("BUSY", "Redis is busy running a script", Class::Server),
            ("ERR", "max number of clients reached", Class::Server),
            ("NOAUTH", "Authentication required.", Class::Login),
            ("WRONGPASS", "invalid username-password pair or user is disabled.", Class::Login),
            ("ERR", "invalid password", Class::Login),
            ("ERR", "Client sent AUTH, but no password is set", Class::Login),
            ("DENIED", "Redis is running in protected mode", Class::Access),
            ("NOPERM", "this user has no permissions to run the 'ping' command", Class::Access),
        ] {
            assert_eq!(Class::of_redis(code, message), expected, "{code} {message}");
        }
    }

    #[test]
    fn w09_pauses_grow_from_10_ms_to_1_s_and_are_never_the_same_for_all() {
        for (tries, least, most) in
            [(1, 5, 10), (2, 10, 20), (3, 20, 40), (8, 500, 1000), (9, 500, 1000), (99, 500, 1000)]
        {
            assert_eq!(pause(tries, 0), Duration::from_millis(least), "{tries}");
            let longest = pause(tries, 999);
            assert!(longest > pause(tries, 500) && longest <= Duration::from_millis(most), "{tries}: {longest:?}");
        }
    }
}
