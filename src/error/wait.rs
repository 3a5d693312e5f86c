//! Errors about servers that are not ready.

use super::{Error, Exit};
use crate::readiness::failure::{Class, Failure};
use crate::source::Source;

/// Why a start ends at a server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WaitError {
    /// It has not been ready in time.
    #[error("cannot reach the {service}: {failure} (tries: {tries}, in {time})")]
    NotReady { service: String, failure: Failure, tries: u32, time: String },
    /// It answers, and time does not heal what it says.
    #[error("cannot use the {service} of {source_of_it}: {failure} (tries: {tries}, in {time})")]
    Refused { service: String, source_of_it: Source, failure: Failure, tries: u32, time: String },
}

impl WaitError {
    /// As the end of a start.
    pub(crate) fn ends(self) -> Error {
        Error::Wait(Box::new(self))
    }

    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::NotReady { .. } => Exit::Unavailable,
            Self::Refused { .. } => Exit::Configuration,
        }
    }

    pub(super) fn hint(&self) -> &'static str {
        let (Self::NotReady { failure, .. } | Self::Refused { failure, .. }) = self;
        match failure.class {
            Class::Connection | Class::Name | Class::Time => {
                "is it running, and is it on this container's network? `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait"
            }
            Class::Server => "it is there; its own log says more. `ENTRYPOINT_WAIT_TIMEOUT` sets how long to wait",
            Class::Access => "let this user in from this container: `pg_hba.conf`, grants, the server's access rules",
            Class::Database => "create it, or name the one that is there; images create theirs on an empty volume only",
            Class::Login => {
                "user and password must be the server's; images set them on an empty volume only, and keep the old ones on another"
            }
            Class::Driver => "Airflow's own driver may do better",
            Class::Protocol => "is that the port of this kind of server?",
            Class::Certificate | Class::Tls => "the TLS options of the URL and those of the server must agree",
        }
    }
}
