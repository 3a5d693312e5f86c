//! The verb `render-cfg`: the `airflow.cfg` of a plan as text, with or without what must not be seen.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::cli::Secrets;
use crate::environment::Environment;
use crate::error::Error;
use crate::plan::Plan;
use crate::secret::{Secret, SecretKind};
use crate::steps::{ConfigStep, Value};
use crate::template;
use crate::urls::Redacted;

/// What stands in the place of a secret, and of one that is not made yet.
const HIDDEN: &str = "***";

/// Renders the file. Nothing is made for it: a secret that is not there yet shows as [`HIDDEN`].
pub(crate) fn text(plan: &Plan, environment: &Environment, secrets: Secrets) -> Result<String, Error> {
    let ConfigStep::Write { template, template_source, path } = &plan.config else {
        return Err(Error::OwnConfig { path: plan.config.path().to_owned() });
    };
    let known = |kind: SecretKind| -> Option<&Secret> {
        plan.secrets.iter().find(|step| step.kind == kind).and_then(|step| step.decision.known())
    };
    let environment = plan.environment(environment.clone(), known);
    let mut values: BTreeMap<&str, Cow<'_, str>> = environment
        .iter()
        .filter_map(|(name, value)| Some((name.to_str()?, value.to_str()?)))
        .map(|(name, value)| (name, shown(name, value, secrets)))
        .collect();
    for change in &plan.changes {
        if matches!(&change.value, Value::Secret(kind) if known(*kind).is_none()) {
            values.insert(&change.name, HIDDEN.into());
        }
    }
    let text = template::render(template, &|name| values.get(name).map(AsRef::as_ref))
        .map_err(|problem| Error::Template { template: template_source.clone(), problem })?;
    // What stands in the template itself may be a secret too.
    let text = match secrets {
        Secrets::Shown => text,
        Secrets::Hidden => text.split_inclusive('\n').map(line).collect(),
    };
    Ok(format!("# {}\n{text}", path.display()))
}

/// A value as it may be shown.
fn shown<'v>(name: &str, value: &'v str, secrets: Secrets) -> Cow<'v, str> {
    let name = name.to_ascii_uppercase();
    let is_secret = || {
        name.starts_with("AIRFLOW_CONN_")
            || ["BASIC_AUTH", "KEY", "PASSWORD", "SECRET", "TOKEN"].iter().any(|part| name.contains(part))
    };
    match secrets {
        Secrets::Shown => value.into(),
        Secrets::Hidden if value.is_empty() || value == HIDDEN => value.into(),
        Secrets::Hidden if is_secret() => HIDDEN.into(),
        Secrets::Hidden if value.contains("://") => Redacted(value).to_string().into(),
        Secrets::Hidden => value.into(),
    }
}

/// A line of an INI file as it may be shown.
fn line(line: &str) -> Cow<'_, str> {
    let (text, end) = line.strip_suffix('\n').map_or((line, ""), |text| (text, "\n"));
    match text.split_once('=') {
        Some((key, value)) if !text.starts_with(['#', ';', '[']) => {
            let value_start = value.len() - value.trim_start().len();
            let (blank, value) = value.split_at(value_start);
            format!("{key}={blank}{}{end}", shown(key, value, Secrets::Hidden)).into()
        }
        _ if text.contains("://") => format!("{}{end}", Redacted(text)).into(),
        _ => line.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k14_no_line_shows_a_secret() {
        for (text, expected) in [
            ("fernet_key = abc\n", "fernet_key = ***\n"),
            ("broker_url = redis://:pw@h:6379/1\n", "broker_url = redis://:***@h:6379/1\n"),
            ("executor = Local\n", "executor = Local\n"),
            ("smtp_password=pw", "smtp_password=***"),
            ("# see https://u:pw@h/\n", "# see https://u:***@h/\n"),
            ("[section]\n", "[section]\n"),
            ("key =\n", "key =\n"),
            ("    sentinel://:pw@a:1\n", "    sentinel://:***@a:1\n"),
        ] {
            assert_eq!(line(text), expected);
        }
    }
}
