//! The executor's name: the short and the long form, any case, lists, aliases, class paths.

use crate::airflow_version::Line;
use crate::error::Error;
use crate::error::nearest::nearest;
use crate::source::Source;

/// Every executor that an Airflow line ships or knows by a short name.
const KNOWN: [&str; 9] = [
    "CeleryExecutor",
    "CeleryKubernetesExecutor",
    "DaskExecutor",
    "DebugExecutor",
    "EdgeExecutor",
    "KubernetesExecutor",
    "LocalExecutor",
    "LocalKubernetesExecutor",
    "SequentialExecutor",
];

/// Their short names, for a message.
pub(crate) fn known_names() -> String {
    KNOWN.map(|name| name.trim_end_matches("Executor")).join(", ")
}

/// One or more executors, as Airflow is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Executor(String);

impl Executor {
    /// Reads a name or a list of names. A class path (with a dot) passes as it is.
    pub(crate) fn parse(text: &str, source: &Source) -> Result<Self, Error> {
        let elements: Result<Vec<_>, _> = text.split(',').map(|element| canonical(element.trim(), source)).collect();
        Ok(Self(elements?.join(",")))
    }

    /// What Airflow runs when nobody said anything: no executor but the last needs a server.
    pub(crate) fn default_of(line: Line) -> Self {
        Self(if line == Line::V3 { "LocalExecutor" } else { "SequentialExecutor" }.to_owned())
    }

    /// The form that Airflow reads.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether tasks run one at a time in the scheduler, which SQLite is enough for.
    pub(crate) fn is_sequential(&self) -> bool {
        self.names().all(|name| name == "SequentialExecutor")
    }

    /// Whether tasks run in the scheduler's own container.
    pub(crate) fn is_local(&self) -> bool {
        self.names().all(|name| matches!(name, "SequentialExecutor" | "LocalExecutor"))
    }

    /// Whether tasks go through a broker.
    pub(crate) fn needs_broker(&self) -> bool {
        self.names().any(|name| name.contains("Celery"))
    }

    /// `SequentialExecutor` is gone in 3.0; one executor took its place.
    pub(crate) fn on(self, line: Line) -> (Self, Option<String>) {
        if line == Line::V3 && self.is_sequential() {
            let note = "`SequentialExecutor` does not exist in Airflow 3; `LocalExecutor` takes its place".to_owned();
            return (Self("LocalExecutor".to_owned()), Some(note));
        }
        (self, None)
    }

    /// The class names, without aliases and module paths.
    fn names(&self) -> impl Iterator<Item = &str> {
        self.0.split(',').map(|element| {
            let class = element.split(':').find(|part| part.ends_with("Executor")).unwrap_or(element);
            class.rsplit('.').next().unwrap_or(class)
        })
    }
}

fn canonical(element: &str, source: &Source) -> Result<String, Error> {
    if element.contains('.') {
        return Ok(element.to_owned());
    }
    // `alias:CeleryExecutor` and `CeleryExecutor:alias` both occur; the part that is an executor decides.
    for (prefix, name, suffix) in candidates(element) {
        if let Some(known) = known(name) {
            return Ok(format!("{prefix}{known}{suffix}"));
        }
    }
    let long = if element.to_ascii_lowercase().ends_with("executor") {
        element.to_owned()
    } else {
        format!("{element}Executor")
    };
    Err(Error::Executor {
        source_of_it: source.clone(),
        found: element.to_owned(),
        nearest: nearest(&long, KNOWN.map(str::to_owned)),
    })
}

fn candidates(element: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let at = element.find(':');
    let behind = at.map(|at| (&element[..=at], &element[at + 1..], ""));
    let before = at.map(|at| ("", &element[..at], &element[at..]));
    std::iter::once(("", element, "")).chain(behind).chain(before)
}

fn known(name: &str) -> Option<&'static str> {
    let name = name.trim();
    let short = name
        .len()
        .checked_sub("executor".len())
        .filter(|&at| name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case("executor"));
    let short = short.map_or(name, |at| &name[..at]);
    KNOWN.into_iter().find(|known| known.trim_end_matches("Executor").eq_ignore_ascii_case(short))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<String, String> {
        let source = Source::Variable("EXECUTOR".to_owned());
        Executor::parse(text, &source).map(|executor| executor.0).map_err(|error| error.to_string())
    }

    #[test]
    fn c13_short_and_long_forms_in_any_case() {
        for (text, expected) in [
            ("Celery", "CeleryExecutor"),
            ("celery", "CeleryExecutor"),
            ("CeleryExecutor", "CeleryExecutor"),
            ("LOCALEXECUTOR", "LocalExecutor"),
            ("Kubernetes", "KubernetesExecutor"),
            ("celerykubernetes", "CeleryKubernetesExecutor"),
            ("LocalExecutor, celery", "LocalExecutor,CeleryExecutor"),
            ("fast:Local,Celery:slow", "fast:LocalExecutor,CeleryExecutor:slow"),
            ("my.module.MyExecutor", "my.module.MyExecutor"),
        ] {
            assert_eq!(parsed(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn c13_a_typo_lists_the_valid_names() {
        assert_eq!(
            parsed("Celary"),
            Err("cannot use the executor `Celary` of `EXECUTOR`: expected one of Celery, CeleryKubernetes, Dask, Debug, Edge, Kubernetes, Local, LocalKubernetes, Sequential, or a class path".to_owned())
        );
        assert!(parsed("").is_err());
        assert!(parsed("Local,").is_err());
    }

    #[test]
    fn c14_any_celery_like_element_needs_a_broker() {
        for (text, broker) in [
            ("CeleryKubernetesExecutor", true),
            ("LocalExecutor,CeleryExecutor", true),
            ("airflow.providers.celery.executors.celery_executor.CeleryExecutor", true),
            ("airflow.providers.celery.executors.celery_executor.MyLocal", false),
            ("Local", false),
            ("x:Celery", true),
        ] {
            let executor = Executor::parse(text, &Source::Default).unwrap();
            assert_eq!(executor.needs_broker(), broker, "{text}");
        }
    }
}
