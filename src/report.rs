//! The dry run: the plan as text for people and as JSON for programs. Both say the same, and each step says what the log will say.

mod rendering;

use std::fmt::{self, Display, Formatter};

use serde::Serialize;

use crate::cli::{Form, Mode};
use crate::environment::Environment;
use crate::error::Error;
use crate::explain::Words;
use crate::identity::IdentityStep;
use crate::plan::Plan;
use crate::secret::SecretKind;
use crate::secrets::Decision;
use crate::steps::{Change, ConfigStep, MigrateStep, SecretStep, Value};
use crate::verdict::Strictness;

/// What is to be printed instead of carried out, if so.
pub(crate) fn asked_for(mode: Mode, plan: &Plan, environment: &Environment) -> Result<Option<String>, Error> {
    Ok(match mode {
        Mode::Carry => None,
        Mode::Explain(Form::Text) => Some(Report::of(plan).to_string()),
        Mode::Explain(Form::Json) => Some(Report::of(plan).json()),
        Mode::RenderConfig(secrets) => Some(rendering::text(plan, environment, secrets)?),
    })
}

/// What `explain` shows.
#[derive(Serialize)]
struct Report {
    airflow: Named,
    command: Command,
    notes: Vec<String>,
    warnings: Vec<String>,
    settings: Vec<Named>,
    steps: Vec<Step>,
    /// What the environment of the command says of what we manage; without a value it is removed.
    environment: Vec<Named>,
    /// What the user's own `airflow.cfg` says of it.
    configured: Vec<Named>,
}

/// Something with its value and where that comes from. Without a value a variable is removed.
#[derive(Serialize)]
struct Named {
    name: String,
    value: Option<String>,
    source: String,
}

#[derive(Serialize)]
struct Command {
    /// Its name; arguments may hold passwords.
    name: String,
    class: String,
}

/// One step in its order.
#[derive(Serialize)]
struct Step {
    name: &'static str,
    /// Whether it does anything.
    taken: bool,
    /// The line that the log will have, for a step that is taken.
    what: String,
    /// Why it is taken or not, where that does not follow from the line itself.
    why: Option<String>,
    details: Vec<String>,
}

impl Report {
    /// All that the plan says, and no secret.
    fn of(plan: &Plan) -> Self {
        Self {
            airflow: Named {
                name: "Airflow".to_owned(),
                value: Some(plan.airflow.version.to_string()),
                source: plan.airflow.source.to_string(),
            },
            command: Command { name: Words(&plan.command.words).plain(), class: plan.command.class.to_string() },
            notes: plan.notes().cloned().collect(),
            warnings: plan.warnings.clone(),
            settings: plan
                .settings
                .iter()
                .map(|(name, value, source)| Named {
                    name: (*name).to_owned(),
                    value: Some(value.clone()),
                    source: source.to_string(),
                })
                .collect(),
            steps: steps(plan),
            environment: plan.given.iter().chain(&plan.changes).map(|change| environment(plan, change)).collect(),
            configured: plan.configured.iter().map(|change| environment(plan, change)).collect(),
        }
    }

    /// As JSON, with a line end.
    fn json(&self) -> String {
        // Text, numbers and lists alone: there is nothing that could not be written.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

fn steps(plan: &Plan) -> Vec<Step> {
    let reasons = &plan.reasons;
    let why = |reason: &String| Some(reason.clone());
    let services = &plan.wait.services;
    let hidden = "secrets and URLs are not in it as they are, but by `..._CMD`, from files that this user alone reads";
    vec![
        Step {
            name: "secrets",
            taken: true,
            what: "settle the secrets".to_owned(),
            why: None,
            details: plan.secrets.iter().map(SecretStep::to_string).collect(),
        },
        Step {
            name: "user",
            taken: plan.identity != IdentityStep::Stay,
            what: plan.identity.to_string(),
            why: None,
            details: plan
                .ground
                .folders
                .iter()
                .map(|folder| format!("it must be able to write to `{}`", folder.display()))
                .collect(),
        },
        Step {
            name: "config",
            taken: matches!(plan.config, ConfigStep::Write { .. }),
            what: plan.config.to_string(),
            why: None,
            details: if plan.hidden.is_empty() { vec![] } else { vec![hidden.to_owned()] },
        },
        Step {
            name: "requirements",
            taken: plan.requirements.is_some(),
            what: plan.requirements.as_ref().map_or_else(|| "install no requirements".to_owned(), ToString::to_string),
            why: why(&reasons.requirements),
            details: vec![],
        },
        Step {
            name: "wait",
            taken: !services.is_empty(),
            what: if services.is_empty() {
                "wait for nothing".to_owned()
            } else {
                format!("wait, {}, until these answer", plan.wait.timeout)
            },
            why: why(&reasons.wait),
            details: services.iter().map(|service| format!("{service} ({})", service.source)).collect(),
        },
        Step {
            name: "migrate",
            taken: plan.migrate != MigrateStep::Nothing,
            what: plan.migrate.to_string(),
            why: why(&reasons.migrate),
            details: vec![],
        },
        Step {
            name: "verdict",
            taken: plan.verdict.strictness != Strictness::Off,
            what: plan.verdict.to_string(),
            why: Some(plan.verdict.why().to_owned()),
            details: verdict_details(plan),
        },
        Step {
            name: "account",
            taken: plan.user.is_some(),
            what: plan.user.as_ref().map_or_else(|| "create no account".to_owned(), ToString::to_string),
            why: why(&reasons.user),
            details: vec![],
        },
        Step {
            name: "seed",
            taken: plan.seed.is_some(),
            what: plan.seed.as_ref().map_or_else(|| "seed nothing".to_owned(), ToString::to_string),
            why: why(&reasons.seed),
            details: vec![],
        },
        Step { name: "launch", taken: true, what: plan.launch.to_string(), why: None, details: vec![] },
    ]
}

fn verdict_details(plan: &Plan) -> Vec<String> {
    let kinds: Vec<_> = plan.verdict.registered.iter().map(ToString::to_string).collect();
    let registered = (!kinds.is_empty())
        .then(|| format!("these are compared with what other containers have registered there: {}", kinds.join(", ")));
    let makes = plan
        .secrets
        .iter()
        .any(|step| step.kind == SecretKind::Fernet && matches!(step.decision, Decision::Generate(_)));
    let first = makes
        .then(|| "before a Fernet key is made: no key is made where the database holds encrypted values".to_owned());
    registered.into_iter().chain(first).collect()
}

fn environment(plan: &Plan, change: &Change) -> Named {
    let secret = plan.secrets.iter().find(|step| change.value == Value::Secret(step.kind));
    Named {
        name: change.name.clone(),
        value: match &change.value {
            Value::Secret(_) => Some(secret.map_or_else(|| "***".to_owned(), named_value)),
            Value::Text(text) => Some(text.clone()),
            Value::Url(url) => Some(url.to_string()),
            Value::Unset => None,
        },
        source: change.source.to_string(),
    }
}

/// A secret by what may be shown of it.
fn named_value(step: &SecretStep) -> String {
    match &step.decision {
        Decision::Use { secret, .. } => format!("*** (fingerprint {secret})"),
        _ => "***".to_owned(),
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let version = self.airflow.value.as_deref().unwrap_or_default();
        writeln!(f, "{} {version} ({})", self.airflow.name, self.airflow.source)?;
        writeln!(f, "command: `{}` ({})", self.command.name, self.command.class)?;
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning: {warning}")?;
        }
        for (index, step) in self.steps.iter().enumerate() {
            write!(f, "{}. {}", index + 1, step.what)?;
            match &step.why {
                Some(why) => writeln!(f, ": {why}")?,
                None => writeln!(f)?,
            }
            for detail in &step.details {
                writeln!(f, "   {detail}")?;
            }
        }
        writeln!(f, "environment of the command")?;
        self.environment.iter().try_for_each(|named| writeln!(f, "   {named}"))?;
        if !self.configured.is_empty() {
            writeln!(f, "from your `airflow.cfg`")?;
        }
        self.configured.iter().try_for_each(|named| writeln!(f, "   {named}"))?;
        writeln!(f, "settings")?;
        self.settings.iter().try_for_each(|named| writeln!(f, "   {named}"))
    }
}

impl Display for Named {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match &self.value {
            Some(value) => write!(f, "{}={value} ({})", self.name, self.source),
            None => write!(f, "{} removed ({})", self.name, self.source),
        }
    }
}
