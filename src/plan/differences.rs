//! Where the user's own `airflow.cfg` and the environment say different things: Airflow takes the environment's word, and whoever edits
//! the file wonders.

use crate::airflow_version::AirflowOption;
use crate::connections::Said;
use crate::steps::{Change, Value};

/// A warning for each option that we manage; secrets are compared elsewhere, by fingerprint. Values are not shown: most of them are
/// URLs with a password in it.
pub(crate) fn warnings(said: &Said<'_>, changes: &[Change]) -> Vec<String> {
    AirflowOption::managed_but_secrets()
        .filter_map(|option| {
            let (in_file, file) = (said.configured)(option)?;
            let name = option.variable();
            let change = changes.iter().find(|change| change.name == name);
            let (used, source) = match change.map(|change| (&change.value, &change.source)) {
                Some((Value::Text(text), source)) => (text.as_str(), source.clone()),
                Some((Value::Url(url), source)) => (url.0.as_str(), source.clone()),
                Some(_) => return None,
                None => (said.environment.filled(&name)?, said.environment.source(&name)),
            };
            let same = used == in_file || option == AirflowOption::LOAD_EXAMPLES && used.eq_ignore_ascii_case(&in_file);
            (!same).then(|| format!("{file} holds another value than {source}; {source} is used"))
        })
        .collect()
}
