//! Waiting for database, broker and result backend, all at the same time, until each one is ready by its own protocol.

mod amqp;
mod connection;
mod database;
mod redis;

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use futures_util::future::{Either, select, try_join_all};
use tokio::time::{Instant, sleep, timeout_at};

use super::metadb::{Login, Session};
use super::runtime::Runtime;
use super::signals::Signals;
use crate::error::Error;
use crate::error::wait::WaitError;
use crate::log;
use crate::metadb::{Metadb, Target};
use crate::readiness::failure::{Class, Failure, GRACE, pause};
use crate::readiness::protocol::Protocol;
use crate::settings::values::WaitTimeout;
use crate::steps::{DATABASE, Service, WaitStep};

/// How long a login to the database is kept for the next steps while another server is still waited for. A server with few connections
/// may have many starts in front of it.
const KEPT: Duration = Duration::from_millis(100);
/// How often a wait says that it still goes on.
const PROGRESS: Duration = Duration::from_secs(30);

/// What is known of a service.
struct Waiting<'a> {
    service: &'a Service,
    /// How the metadata database is asked; none for another service.
    target: Option<&'a Target>,
    tries: u32,
    /// Of the last try.
    failure: Option<Failure>,
    ready: bool,
    /// We cannot log in, and Airflow may.
    left_to_airflow: bool,
}

/// Waits until all services are ready, and hands on the login to the metadata database where that could be asked. With `asked`, the
/// database has answered already.
pub(crate) fn wait<'s>(
    step: &WaitStep,
    metadb: Option<&Metadb>,
    asked: Option<Session<'s>>,
    signals: &'s Signals,
) -> Result<Option<Session<'s>>, Error> {
    let services: Vec<_> = step.services.iter().filter(|service| asked.is_none() || service.role != DATABASE).collect();
    if services.is_empty() {
        return if asked.is_some() { Ok(asked) } else { Session::of(metadb, signals) };
    }
    let target = metadb.and_then(Metadb::target);
    for service in &services {
        log::info(format_args!("waiting for the {service}, {}", step.timeout));
    }
    let all: Vec<_> = services
        .into_iter()
        .map(|service| {
            let target = target.filter(|_| service.role == DATABASE);
            RefCell::new(Waiting { service, target, tries: 0, failure: None, ready: false, left_to_airflow: false })
        })
        .collect();
    let started = Instant::now();
    let login = RefCell::new(None);
    let runtime = Runtime::new(signals)?;
    let done = runtime.complete("", async {
        let ready = try_join_all(all.iter().map(|waiting| watch(waiting, &login, started)));
        let both = select(Box::pin(ready), Box::pin(let_go(&login)));
        let ready = match step.timeout {
            WaitTimeout::After(time) => timeout_at(started + time, both).await.ok(),
            WaitTimeout::Forever | WaitTimeout::Off => Some(both.await),
        };
        match ready {
            Some(Either::Left((ready, _))) => ready.map(drop).map_err(WaitError::ends),
            Some(Either::Right(_)) | None => Err(too_late(&all, started)),
        }
    });
    done.map_err(|error| match error {
        Error::Interrupted { signal, name, .. } => {
            Error::Interrupted { signal, name, step: format!("waiting for the {}", names(&all)) }
        }
        error => error,
    })?;
    if asked.is_some() {
        return Ok(asked);
    }
    let is_left =
        |waiting: &RefCell<Waiting<'_>>| waiting.borrow().target.is_some() && waiting.borrow().left_to_airflow;
    let target = target.filter(|_| !all.iter().any(is_left));
    Ok(target.map(|target| Session::logged_in(runtime, target.clone(), login.into_inner())))
}

/// Tries until the service is ready. A failure is logged when its cause changes.
async fn watch(
    waiting: &RefCell<Waiting<'_>>,
    login: &RefCell<Option<Login>>,
    started: Instant,
) -> Result<(), WaitError> {
    let (service, target) = (waiting.borrow().service, waiting.borrow().target);
    let random = RandomState::new();
    // Since when time does not heal it.
    let mut refused = None;
    let mut told = started;
    loop {
        let tried = attempt(service, target).await;
        let tries = waiting.borrow().tries + 1;
        waiting.borrow_mut().tries = tries;
        let failure = match tried {
            Ok(made) => {
                if made.is_some() {
                    *login.borrow_mut() = made;
                }
                log::info(format_args!("the {service} answers (tries: {tries}, in {})", seconds(started)));
                waiting.borrow_mut().ready = true;
                return Ok(());
            }
            // Whether it is one for Airflow, Airflow says; until then nothing secret has been sent.
            Err(Failure { class: class @ (Class::Certificate | Class::Driver), cause }) => {
                let what = if class == Class::Driver { "and the login" } else { "with a certificate that" };
                log::warning(format_args!("the {service} answers, {what} is left to Airflow: {cause}"));
                waiting.borrow_mut().ready = true;
                waiting.borrow_mut().left_to_airflow = true;
                return Ok(());
            }
            Err(failure) => failure,
        };
        let is_new = waiting.borrow().failure.as_ref() != Some(&failure);
        let heals = failure.class.heals();
        let since = *refused.get_or_insert_with(Instant::now);
        if heals {
            refused = None;
        } else if since.elapsed() >= GRACE {
            return Err(ending(service, failure, tries, started));
        }
        if is_new && heals {
            log::info(format_args!("the {service} does not answer yet: {failure}"));
        } else if is_new {
            let grace = GRACE.as_secs();
            log::warning(format_args!(
                "the {service} does not let us in: {failure}; tried for {grace} s, in case that it is just being set up"
            ));
        } else if told.elapsed() >= PROGRESS {
            log::info(format_args!(
                "still waiting for the {service}: {failure} (tries: {tries}, in {})",
                seconds(started)
            ));
        }
        if is_new || told.elapsed() >= PROGRESS {
            told = Instant::now();
        }
        waiting.borrow_mut().failure = Some(failure);
        sleep(pause(tries, random.hash_one(tries))).await;
    }
}

/// One try. A login to the metadata database is kept.
async fn attempt(service: &Service, target: Option<&Target>) -> Result<Option<Login>, Failure> {
    match (service.protocol, target) {
        (Protocol::Database, Some(target)) => database::log_in(service, target).await.map(Some),
        (Protocol::Database, None) => match Target::of(service) {
            Some(target) => {
                database::log_in(service, &target).await?.close().await;
                Ok(None)
            }
            None => connection::to_any(&service.endpoints).await.map(|_| None),
        },
        (Protocol::Amqp, _) => amqp::greet(&service.endpoints).await.map(|()| None),
        (Protocol::Connection, _) => connection::to_any(&service.endpoints).await.map(|_| None),
        (Protocol::Redis, _) => redis::ping(&service.url.0).await.map(|()| None),
    }
}

/// Gives the connection back that nobody will need soon, again and again.
async fn let_go(login: &RefCell<Option<Login>>) {
    loop {
        sleep(KEPT).await;
        let idle = login.borrow_mut().take();
        if let Some(idle) = idle {
            idle.close().await;
        }
    }
}

/// The first one that is not ready.
fn too_late(all: &[RefCell<Waiting<'_>>], started: Instant) -> Error {
    let Some(waiting) = all.iter().map(RefCell::borrow).find(|waiting| !waiting.ready) else {
        return Error::Bug { what: "waited for nothing".to_owned() };
    };
    let none = || Failure::new(Class::Time, "no try has ended yet");
    let failure = waiting.failure.clone().unwrap_or_else(none);
    ending(waiting.service, failure, waiting.tries, started).ends()
}

fn ending(service: &Service, failure: Failure, tries: u32, started: Instant) -> WaitError {
    let (name, time) = (service.to_string(), seconds(started));
    if failure.class.heals() {
        WaitError::NotReady { service: name, failure, tries, time }
    } else {
        WaitError::Refused { service: name, source_of_it: service.source.clone(), failure, tries, time }
    }
}

fn names(all: &[RefCell<Waiting<'_>>]) -> String {
    let left = all.iter().map(RefCell::borrow).filter(|waiting| !waiting.ready);
    left.map(|waiting| waiting.service.to_string()).collect::<Vec<_>>().join(" and the ")
}

fn seconds(since: Instant) -> String {
    format!("{:.1} s", since.elapsed().as_secs_f64())
}
