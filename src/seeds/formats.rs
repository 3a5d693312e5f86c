//! The text of a file as one tree, by the end of its name. A parser's own message may cite a value: only what it found and where is told.

use std::path::Path;

use serde::de::IgnoredAny;

use super::node::Node;

/// The formats, by the ends of names.
const ENDINGS: [&str; 5] = ["env", "json", "toml", "yaml", "yml"];

/// Whether a file's name is one of a seed.
pub(crate) fn is_seed(path: &Path) -> bool {
    ending(path).is_some_and(|ending| ENDINGS.contains(&ending.as_str()))
}

/// The end of a name behind its last dot; `.env` alone is one too.
fn ending(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    Some(name.rsplit_once('.')?.1.to_ascii_lowercase())
}

/// Whether a file is a list of `NAME=value`, which Airflow alone writes.
pub(super) fn is_lines(path: &Path) -> bool {
    ending(path).as_deref() == Some("env")
}

/// Whether a file is TOML, which Airflow never writes.
pub(super) fn is_toml(path: &Path) -> bool {
    ending(path).as_deref() == Some("toml")
}

/// Reads the text.
pub(super) fn parse(path: &Path, text: &str) -> Result<Node, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    match ending(path).as_deref() {
        Some("env") => lines(text),
        Some("json") => json(text),
        Some("toml") => toml::from_str(text).map_err(|problem| {
            let line = problem.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            format!("line {line}: {}", first_line(problem.message()))
        }),
        Some("yaml" | "yml") => yaml(text),
        _ => Err("expected a name that ends in `.toml`, `.yaml`, `.yml`, `.json` or `.env`".to_owned()),
    }
}

fn json(text: &str) -> Result<Node, String> {
    serde_json::from_str(text).map_err(|problem| {
        let message = problem.to_string();
        let message = message.split(" at line ").next().unwrap_or_default();
        format!("line {}: {}", problem.line().max(1), first_line(message))
    })
}

/// Whether a text is a JSON object; if not, what it is. It stays as it is.
pub(super) fn must_be_json_object(text: &str) -> Result<(), String> {
    match serde_json::from_str::<IgnoredAny>(text) {
        Ok(_) if text.trim_start().starts_with('{') => Ok(()),
        Ok(_) => Err("expected a JSON object, found other JSON".to_owned()),
        Err(problem) => Err(format!(
            "expected a JSON object, found what is no JSON from line {}, column {} on",
            problem.line(),
            problem.column()
        )),
    }
}

fn yaml(text: &str) -> Result<Node, String> {
    let options = serde_saphyr::options! {
        with_snippet: false,
        // A zip code or a password of digits is no octal number.
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|problem| {
        let line = problem.location().map_or(1, |location| location.line());
        format!("line {line}: {}", told(&problem.to_string()))
    })
}

/// The parsers of JSON and TOML say what they expected, and cite nothing.
fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// What the parser of YAML may be cited with: our own words in it, not what it found in the file.
fn told(message: &str) -> &str {
    const OURS: [&str; 3] =
        ["the key `", "a number that JSON does not have", "a number of more than 64 bits; put it in quotes"];
    match OURS.iter().find_map(|ours| Some((*ours, &message[message.find(ours)?..]))) {
        Some(("the key `", key)) => key.split_inclusive("twice").next().unwrap_or_default(),
        Some((ours, _)) => ours,
        None if message.contains("duplicate") => "a key is there twice",
        None => "it is no YAML; is everything closed, indented and in quotes?",
    }
}

/// `NAME=value`, a line each; blank lines and those that begin with `#` are passed over (`_parse_env_file` in
/// `airflow/secrets/local_filesystem.py`).
fn lines(text: &str) -> Result<Node, String> {
    let mut entries = Vec::new();
    for (index, line) in text.lines().enumerate() {
        if line.is_empty() || line.trim_start().starts_with('#') {
            continue;
        }
        let entry = line.split_once('=').filter(|(name, _)| !name.is_empty());
        let Some((name, value)) = entry else { return Err(format!("line {}: expected `NAME=value`", index + 1)) };
        // `connections export --serialization-format json`.
        let node = match value.starts_with('{') {
            true => json(value).unwrap_or_else(|_| Node::text(value)),
            false => Node::text(value),
        };
        entries.push((name.to_owned(), node));
    }
    Ok(Node::Table(entries))
}
