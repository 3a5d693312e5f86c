//! Waiting for database and broker, all at the same time, until each one takes a connection.

use std::io::{PipeWriter, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};
use std::{io, thread};

use super::cause;
use super::signals::{Event, Signals, interrupted};
use crate::error::Error;
use crate::log;
use crate::settings::values::WaitTimeout;
use crate::steps::{Service, WaitStep};
use crate::urls::Endpoint;

/// The first pause between two tries; each one is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How long one try may take.
const TRY: Duration = Duration::from_secs(3);

/// What a thread reports of its service.
struct Report {
    service: usize,
    tries: u32,
    /// The cause of the failure, if it was one.
    failure: Option<String>,
}

/// Waits until all services take a connection. The threads end with this process or with its `exec`.
pub(crate) fn wait(step: &WaitStep, signals: &Signals) -> Result<(), Error> {
    if step.services.is_empty() {
        return Ok(());
    }
    let started = Instant::now();
    let deadline = match step.timeout {
        WaitTimeout::After(time) => Some(started + time),
        WaitTimeout::Forever | WaitTimeout::Off => None,
    };
    let broken = |error: io::Error| Error::Bug { what: format!("cannot wait: {error}") };
    let (sender, reports) = channel();
    let (mut wake, waker) = io::pipe().map_err(broken)?;
    for (index, service) in step.services.iter().enumerate() {
        log::info(format_args!("waiting for the {service}, {}", step.timeout));
        let (endpoints, sender, waker) =
            (service.endpoints.clone(), sender.clone(), waker.try_clone().map_err(broken)?);
        thread::Builder::new()
            .name(service.role.to_owned())
            .spawn(move || watch(index, &endpoints, &sender, waker))
            .map_err(broken)?;
    }
    let mut waiting: Vec<Option<Report>> =
        (0..step.services.len()).map(|service| Some(Report { service, tries: 0, failure: None })).collect();
    while waiting.iter().any(Option::is_some) {
        match signals.next(deadline, Some(&mut wake)) {
            Event::Stop(signal) => {
                return Err(interrupted(signal, &format!("waiting for the {}", names(step, &waiting))));
            }
            Event::Deadline => return Err(unreachable(step, &waiting, started.elapsed())),
            Event::Child => {}
            Event::Woken => take(&reports, step, &mut waiting, started),
        }
    }
    Ok(())
}

/// Takes in what the threads have reported; a failure is logged when its cause changes.
fn take(reports: &Receiver<Report>, step: &WaitStep, waiting: &mut [Option<Report>], started: Instant) {
    for report in reports.try_iter() {
        let Some((service, slot)) = step.services.get(report.service).zip(waiting.get_mut(report.service)) else {
            continue;
        };
        match &report.failure {
            None => {
                log::info(format_args!(
                    "the {service} answers (tries: {}, in {})",
                    report.tries,
                    seconds(started.elapsed())
                ));
                *slot = None;
            }
            Some(cause) => {
                if slot.as_ref().is_some_and(|before| before.failure.as_ref() != Some(cause)) {
                    log::info(format_args!("the {service} does not answer yet: {cause}"));
                }
                *slot = Some(report);
            }
        }
    }
}

fn names(step: &WaitStep, waiting: &[Option<Report>]) -> String {
    let services = waiting.iter().flatten().filter_map(|report| step.services.get(report.service));
    services.map(Service::to_string).collect::<Vec<_>>().join(" and the ")
}

fn unreachable(step: &WaitStep, waiting: &[Option<Report>], time: Duration) -> Error {
    let Some((report, service)) =
        waiting.iter().flatten().next().and_then(|report| Some((report, step.services.get(report.service)?)))
    else {
        return Error::Bug { what: "waited for nothing".to_owned() };
    };
    Error::Unreachable {
        role: service.role,
        address: service.endpoints.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(","),
        cause: report.failure.clone().unwrap_or_else(|| "no try has ended yet".to_owned()),
        tries: report.tries,
        time: seconds(time),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Tries until one endpoint takes a connection. Runs in a thread: a name server that does not answer holds the resolver for
/// seconds, and TERM must not wait for it.
fn watch(service: usize, endpoints: &[Endpoint], sender: &Sender<Report>, mut waker: PipeWriter) {
    let mut pause = FIRST_PAUSE;
    for tries in 1.. {
        let failure = endpoints.iter().try_fold(String::new(), |_, endpoint| match connect(endpoint) {
            Ok(()) => Err(()),
            Err(cause) => Ok(cause),
        });
        let done = failure.is_err();
        let told = sender.send(Report { service, tries, failure: failure.ok() });
        if told.is_err() || waker.write_all(&[0]).is_err() || done {
            return;
        }
        thread::sleep(pause);
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn connect(endpoint: &Endpoint) -> Result<(), String> {
    match endpoint {
        Endpoint::Unix(path) => UnixStream::connect(path).map(drop).map_err(|error| cause(&error)),
        Endpoint::Tcp { host, port } => {
            // Resolved anew each time: names appear and move while containers start.
            let addresses: Vec<SocketAddr> =
                (host.as_str(), *port).to_socket_addrs().map_err(|error| resolution(&error))?.collect();
            let mut last = "the name has no address".to_owned();
            for address in addresses {
                match TcpStream::connect_timeout(&address, TRY) {
                    Ok(_) => return Ok(()),
                    Err(error) => last = cause(&error),
                }
            }
            Err(last)
        }
    }
}

/// std's message is "failed to lookup address information: Name or service not known".
fn resolution(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit(": ").next().unwrap_or(&text);
    cause(&io::Error::other(text.to_owned()))
}
