//! The user's own `airflow.cfg` as a source of values. It is read and never written.

use std::path::Path;

use crate::airflow_version::AirflowOption;
use crate::source::Source;

/// The first words of a file that we wrote.
pub(crate) const MARK: &str = "# Written by airflow-entrypoint";

/// Whether an `airflow.cfg` is one of ours.
pub(crate) fn is_ours(text: &str) -> bool {
    text.starts_with(MARK)
}

/// The value of an option, as configparser gives it (`%%` is a percent sign); an empty one counts as unset.
pub(crate) fn value(text: &str, path: &Path, option: AirflowOption) -> Option<(String, Source)> {
    let mut inside = false;
    let mut found = None;
    for line in text.lines() {
        if let Some(section) = line.trim_end().strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            inside = section == option.section();
        } else if inside
            && !line.starts_with(['#', ';', ' ', '\t'])
            && let Some((key, value)) = line.split_once(['=', ':'])
            && key.trim().eq_ignore_ascii_case(&option.key())
        {
            found = Some(value.trim().replace("%%", "%"));
        }
    }
    let found = found.filter(|value| !value.is_empty())?;
    let name = format!("[{}] {}", option.section(), option.key());
    Some((found, Source::Option { file: path.to_owned(), name }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_in_their_section_alone() {
        let text = "[other]\nfernet_key = no\n[core]\n# fernet_key = no\nFernet_Key = a%%b = c\nexecutor =\n";
        let path = Path::new("/a.cfg");
        let source = Source::Option { file: path.into(), name: "[core] fernet_key".into() };
        assert_eq!(value(text, path, AirflowOption::FERNET_KEY), Some(("a%b = c".to_owned(), source)));
        assert_eq!(value(text, path, AirflowOption::EXECUTOR), None);
        assert_eq!(value(text, path, AirflowOption::BROKER_URL), None);
    }
}
