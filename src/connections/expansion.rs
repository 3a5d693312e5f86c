//! What Airflow makes of `$NAME` in a value: it expands every value that it reads, over and over until nothing changes
//! (`expand_env_var` in `airflow/configuration.py`). Who waits for the server of such a value must read it likewise.

use std::borrow::Cow;

use crate::environment::Environment;

/// Values that refer to each other in a circle would never end; Airflow does not end either.
const MOST_ROUNDS: usize = 10;

/// Replaces `$NAME` and `${NAME}` of variables that are there; others stay as they are (Python's `os.path.expandvars`).
pub(crate) fn expanded<'t>(text: &'t str, environment: &Environment) -> Cow<'t, str> {
    let mut text = Cow::Borrowed(text);
    for _ in 0..MOST_ROUNDS {
        match once(&text, environment) {
            Some(next) => text = Cow::Owned(next),
            None => break,
        }
    }
    text
}

/// One round; `None` when it changes nothing.
fn once(text: &str, environment: &Environment) -> Option<String> {
    let mut output = String::with_capacity(text.len());
    let mut rest = text;
    let mut changed = false;
    while let Some(dollar) = rest.find('$') {
        output.push_str(&rest[..dollar]);
        rest = &rest[dollar..];
        match reference(rest).and_then(|(name, length)| Some((environment.lookup(name)?, length))) {
            Some((value, length)) => {
                output.push_str(value);
                rest = &rest[length..];
                changed = true;
            }
            None => {
                output.push('$');
                rest = &rest[1..];
            }
        }
    }
    output.push_str(rest);
    (changed && output != text).then_some(output)
}

/// The name of the reference that the text begins with, and its length.
fn reference(text: &str) -> Option<(&str, usize)> {
    let behind = text.strip_prefix('$')?;
    if let Some(braced) = behind.strip_prefix('{') {
        let end = braced.find('}')?;
        return Some((&braced[..end], end + 3));
    }
    let end = behind.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(behind.len());
    (end > 0).then(|| (&behind[..end], end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_read_as_airflow_reads_it() {
        let pairs = [("USER", "me"), ("PASS", "p$w"), ("URL", "pg://$USER@h"), ("A", "$B"), ("B", "$A"), ("E", "")];
        let environment = Environment::new(pairs.map(|(name, value)| (name.into(), value.into())));
        for (text, expected) in [
            ("no reference", "no reference"),
            ("pg://$USER:${PASS}@h", "pg://me:p$w@h"),
            ("$URL/d", "pg://me@h/d"),
            ("$NONE ${NONE} $ ${", "$NONE ${NONE} $ ${"),
            ("$$USER", "$me"),
            ("[$E]", "[]"),
            ("%24USER", "%24USER"),
        ] {
            assert_eq!(expanded(text, &environment), expected, "{text}");
        }
        // A circle ends.
        assert!(expanded("$A", &environment).starts_with('$'));
    }
}
