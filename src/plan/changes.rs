//! What the environment of the command says differently from ours.

use std::path::{Path, PathBuf};

use crate::airflow_version::AirflowOption;
use crate::commands::Class;
use crate::connections::{Connections, Said};
use crate::environment::Environment;
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::secrets::Decision;
use crate::settings;
use crate::settings::official::{PASSWORD, PASSWORD_CMD};
use crate::settings::values::Handover;
use crate::source::Source;
use crate::steps::{Change, SecretStep, Value};
use crate::urls::Redacted;

impl Plan {
    /// The environment of every later step.
    pub(crate) fn environment<'s>(
        &self,
        mut environment: Environment,
        secret: impl Fn(SecretKind) -> Option<&'s Secret>,
    ) -> Environment {
        for Change { name, value, .. } in &self.changes {
            match value {
                Value::Secret(kind) => {
                    environment.change(name, secret(*kind).map(Secret::reveal).as_deref().map(String::as_str));
                }
                Value::Text(text) | Value::Url(Redacted(text)) => environment.change(name, Some(text)),
                Value::Unset => environment.change(name, None),
            }
        }
        environment
    }
}

/// Decides all changes. `login_file` is where Airflow 3 may keep the passwords of its simple login, so that they outlive the
/// container.
pub(crate) fn make(
    said: &Said<'_>,
    home: &Path,
    connections: &Connections,
    secrets: &[SecretStep],
    login_file: Option<PathBuf>,
) -> Vec<Change> {
    let environment = said.environment;
    let mut changes = Vec::new();
    if !environment.is_set("AIRFLOW_HOME") {
        let value = Value::Text(home.display().to_string());
        changes.push(Change { name: "AIRFLOW_HOME".to_owned(), value, source: Source::Default });
    }
    changes.extend(connections.changes.iter().cloned());
    for step in secrets {
        let source = match &step.decision {
            Decision::Leave { .. } | Decision::Without | Decision::WithoutPlace(_) => continue,
            Decision::Use { source, .. } => source.clone(),
            Decision::Generate(path) => Source::File(path.clone()),
            Decision::Derive => Source::Derived("the Fernet key".to_owned()),
        };
        changes.push(Change { name: step.option.variable(), value: Value::Secret(step.kind), source });
    }
    changes.extend(login_file.filter(|_| wants_login_file(said, secrets)).map(|file| Change {
        name: AirflowOption::SIMPLE_AUTH_PASSWORDS.variable(),
        value: Value::Text(file.display().to_string()),
        source: Source::Derived("the key folder".to_owned()),
    }));
    // Every other variable that we manage and that is set to nothing.
    for option in AirflowOption::MANAGED {
        let name = option.variable();
        if environment.has(&name) && !environment.is_set(&name) && changes.iter().all(|change| change.name != name) {
            changes.push(Change { source: Source::Variable(name.clone()), name, value: Value::Unset });
        }
    }
    changes
}

/// What we manage and leave as it is: in the environment, and in the user's own `airflow.cfg` where nothing else hides it.
pub(crate) fn unchanged(said: &Said<'_>, changes: &[Change]) -> (Vec<Change>, Vec<Change>) {
    let value = |text: &str| match text.contains("://") {
        true => Value::Url(Redacted(text.to_owned())),
        false => Value::Text(text.to_owned()),
    };
    let (mut given, mut configured) = (Vec::new(), Vec::new());
    for option in AirflowOption::managed_but_secrets() {
        let name = option.variable();
        if changes.iter().any(|change| change.name == name) {
            continue;
        }
        match (said.environment.filled(&name), (said.configured)(option)) {
            (Some(text), _) => given.push(Change { value: value(text), source: said.environment.source(&name), name }),
            (None, Some((text, source))) => configured.push(Change { name, value: value(&text), source }),
            (None, None) => {}
        }
    }
    (given, configured)
}

/// What was only meant for us: values that we read from files, our settings, and where secrets are to be seen nowhere, the puckel
/// image's variables that hold one. A program that is not Airflow's may call us again and keeps our settings.
pub(crate) fn helpers(environment: &Environment, class: Class, handover: Handover) -> Vec<Change> {
    let names = environment.iter().filter_map(|(name, _)| name.to_str()).filter(|&name| {
        environment.is_helper(name)
            || (name.starts_with(settings::PREFIX) || matches!(name, PASSWORD | PASSWORD_CMD)) && class != Class::Other
            || handover == Handover::Command && matches!(name, "FERNET_KEY" | "POSTGRES_PASSWORD" | "REDIS_PASSWORD")
    });
    names.map(|name| Change { name: name.to_owned(), value: Value::Unset, source: environment.source(name) }).collect()
}

/// Airflow 3 writes the passwords of its simple login into its home, where they end with the container. They go to the key folder
/// where that is in use and nobody said otherwise.
fn wants_login_file(said: &Said<'_>, secrets: &[SecretStep]) -> bool {
    let file = AirflowOption::SIMPLE_AUTH_PASSWORDS;
    let in_use = secrets.iter().any(|step| match &step.decision {
        Decision::Generate(_) => true,
        Decision::Use { source: Source::File(path), .. } => path.ends_with(step.kind.file_name()),
        _ => false,
    });
    !said.keeps_accounts() && in_use && !said.environment.is_set(&file.variable()) && (said.configured)(file).is_none()
}
