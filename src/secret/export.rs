//! Secrets in the forms in which other places keep them. The only texts of ours that hold secrets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::cli::ExportForm;
use crate::secret::{Secret, SecretKind};
use crate::steps::SecretStep;

/// The secrets in a form. `secret` gives those that there are.
pub(crate) fn text<'s>(
    form: ExportForm,
    steps: &[SecretStep],
    secret: impl Fn(SecretKind) -> Option<&'s Secret>,
) -> Zeroizing<String> {
    let known = steps.iter().filter_map(|step| Some((step, secret(step.kind)?.reveal())));
    Zeroizing::new(match form {
        // `docker secret create` takes every byte of it.
        ExportForm::DockerSecret => known.take(1).map(|(_, value)| value.to_string()).collect(),
        ExportForm::Env => {
            known.map(|(step, value)| format!("{}={}\n", step.option.variable(), quoted(&value))).collect()
        }
        ExportForm::K8sSecret => {
            let head =
                "apiVersion: v1\nkind: Secret\nmetadata:\n  name: airflow-keys\ntype: Opaque\ndata:\n".to_owned();
            // The names of the files in the key folder: mounted there, it is one.
            head + &known
                .map(|(step, value)| format!("  {}: {}\n", step.kind.file_name(), STANDARD.encode(&*value)))
                .collect::<String>()
        }
    })
}

/// For a shell, where the value needs it; ours never do, so that the lines are good for `--env-file` too.
fn quoted(value: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-=,.:/@%+".contains(c);
    if value.chars().all(is_plain) {
        return value.to_owned();
    }
    shlex::try_quote(value).map_or_else(|_| value.to_owned(), |quoted| quoted.into_owned())
}
