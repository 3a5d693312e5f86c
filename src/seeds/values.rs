//! The values of a file of our own: `${VARIABLE}` filled in, `{ file = PATH }` read; and what each field may be.

use std::path::Path;

use zeroize::Zeroizing;

use super::node::Node;
use super::{Kind, Surroundings};
use crate::nearest::nearest;
use crate::template;

/// Where we are, for a message; and the list of messages.
pub(super) struct Place<'p> {
    of: String,
    path: Vec<String>,
    problems: &'p mut Vec<String>,
}

impl<'p> Place<'p> {
    pub(super) fn of(kind: Kind, name: &str, problems: &'p mut Vec<String>) -> Self {
        Self { of: format!("{kind} `{name}`"), path: Vec::new(), problems }
    }

    /// Notes what is wrong here.
    pub(super) fn wrong(&mut self, problem: &str) {
        let path = if self.path.is_empty() { String::new() } else { format!("`{}`: ", self.path.join(".")) };
        self.problems.push(format!("{}: {path}{problem}", self.of));
    }

    /// The same of one of its fields.
    pub(super) fn wrong_in(&mut self, field: &str, problem: &str) {
        self.path.push(field.to_owned());
        self.wrong(problem);
        self.path.pop();
    }

    /// How much is wrong so far.
    pub(super) fn count(&self) -> usize {
        self.problems.len()
    }

    /// Notes each field that there is none of.
    pub(super) fn must_know(&mut self, entries: &[(String, Node)], fields: &[&str]) {
        for (name, _) in entries.iter().filter(|(name, _)| !fields.contains(&name.as_str())) {
            let meant = nearest(name, fields.iter().map(|&field| field.to_owned()));
            let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
            self.wrong(&format!("there is no field `{name}`{meant}"));
        }
    }
}

/// Fills in variables and reads files, everywhere below a node.
pub(super) fn resolve(node: &mut Node, place: &mut Place<'_>, seed: &Path, around: &Surroundings<'_>) {
    match node {
        Node::Text(text) => {
            if let Some(filled) = interpolated(text, place, around) {
                *text = filled;
            }
        }
        Node::Table(entries) => {
            if let [(name, Node::Text(path))] = entries.as_slice()
                && name == "file"
            {
                let read = interpolated(path, place, around).and_then(|path| {
                    let path = seed.parent().unwrap_or(Path::new("")).join(path.as_str());
                    let read = (around.file)(&path);
                    read.map_err(|cause| place.wrong(&format!("cannot read the file `{}`: {cause}", path.display())))
                        .ok()
                });
                if let Some(text) = read {
                    *node = Node::Text(text);
                }
                return;
            }
            for (name, node) in entries {
                place.path.push(name.clone());
                resolve(node, place, seed, around);
                place.path.pop();
            }
        }
        Node::List(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                place.path.push(index.to_string());
                resolve(node, place, seed, around);
                place.path.pop();
            }
        }
        Node::Null | Node::Number(_) | Node::Switch(_) => {}
    }
}

fn interpolated(text: &str, place: &mut Place<'_>, around: &Surroundings<'_>) -> Option<Zeroizing<String>> {
    if !text.contains('$') {
        return Some(Zeroizing::new(text.to_owned()));
    }
    let filled = template::interpolate(text, &|name| (around.variable)(name));
    filled.map(Zeroizing::new).map_err(|error| place.wrong(&error.problem)).ok()
}

/// A field that is text. Absent and null are the same but to whom it matters.
pub(super) fn text(entries: &[(String, Node)], field: &str, place: &mut Place<'_>) -> Option<Zeroizing<String>> {
    match entries.iter().find(|(name, _)| name == field).map(|(_, node)| node) {
        None | Some(Node::Null) => None,
        Some(Node::Text(text)) => Some(text.clone()),
        Some(other) => {
            place.wrong_in(field, &format!("expected text, found {} (put it in quotes)", other.kind()));
            None
        }
    }
}

/// A field that is a whole number, or text of digits, from `least` to `most`.
pub(super) fn number(node: &Node, field: &str, least: i64, most: i64, place: &mut Place<'_>) -> Option<i64> {
    let parsed = match node {
        Node::Number(digits) => digits.parse().ok(),
        Node::Text(digits) => digits.trim().parse().ok(),
        _ => None,
    };
    let number = parsed.filter(|number| (least..=most).contains(number));
    if number.is_none() {
        place.wrong_in(field, &format!("expected a whole number from {least} to {most}"));
    }
    number
}

/// The longest name of a connection or a variable (`ID_LEN` in `airflow/models/base.py`).
pub(super) const LONGEST_NAME: usize = 250;

/// Whether a column of text may hold this: PostgreSQL takes no NUL.
pub(super) fn is_storable(text: &str) -> bool {
    !text.contains('\0')
}
