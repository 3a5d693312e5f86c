//! Which file is of our own form, and what a bare one of Airflow's holds.

use std::path::Path;

use super::Kind;
use super::formats;
use super::node::Node;
use crate::nearest::nearest;

/// Whose form a file has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// As Airflow exports it: every value stands there as it is.
    Airflows,
    /// With the tables `connections`, `variables` and `pools`; values may refer to variables and files.
    Ours,
}

/// What a file says about each kind.
pub(super) type Sections = Vec<(Kind, Vec<(String, Node)>)>;

const FORMS: &str = "expected the tables `connections`, `variables` or `pools`, \
    or one of these words in the name of a file that Airflow has exported";

/// Takes a file's tree apart.
pub(super) fn sections(path: &Path, node: Node) -> Result<(Shape, Sections), String> {
    let entries = match node {
        Node::Table(entries) => entries,
        // An empty YAML file is nothing.
        Node::Null => Vec::new(),
        other => return Err(format!("expected a table, found {}", other.kind())),
    };
    let kind_of = |name: &str| Kind::ALL.into_iter().find(|kind| kind.plural() == name);
    let named = named(path);
    let is_ours =
        |(name, node): &(String, Node)| kind_of(name).is_some() && matches!(node, Node::Table(_) | Node::Null);
    let ours = !entries.is_empty() && !formats::is_lines(path) && entries.iter().all(is_ours);
    if ours {
        let says = |kind: Kind| entries.iter().any(|(name, _)| kind_of(name) == Some(kind));
        if let Some(kind) = named.filter(|kind| !says(*kind)) {
            return Err(format!(
                "its name says {}, and it has the tables of a file of our own, without that one",
                kind.plural()
            ));
        }
        let section = |(name, node): (String, Node)| match node {
            Node::Table(entries) => kind_of(&name).map(|kind| (kind, entries)),
            _ => None,
        };
        return Ok((Shape::Ours, entries.into_iter().filter_map(section).collect()));
    }
    if formats::is_toml(path) || entries.iter().any(is_ours) && named.is_none() {
        let Some((name, node)) = entries.iter().find(|entry| !is_ours(entry)) else {
            return Ok((Shape::Ours, Vec::new()));
        };
        if kind_of(name).is_some() {
            return Err(format!("`{name}`: expected a table, found {}", node.kind()));
        }
        let meant = nearest(name, Kind::ALL.map(|kind| kind.plural().to_owned()));
        let meant = meant.map(|meant| format!("; did you mean `{meant}`?")).unwrap_or_default();
        return Err(format!("there is no table `{name}`{meant}"));
    }
    match named.or_else(|| by_shape(&entries)) {
        Some(kind) => Ok((Shape::Airflows, vec![(kind, entries)])),
        None if entries.is_empty() => Ok((Shape::Ours, Vec::new())),
        None => Err(format!("it does not say what it holds: {FORMS}")),
    }
}

/// The kind that a file's name has in it.
fn named(path: &Path) -> Option<Kind> {
    let name = path.file_name()?.to_str()?.to_ascii_lowercase();
    let mut kinds = Kind::ALL.into_iter().filter(|kind| name.contains(kind.plural()));
    kinds.next().filter(|_| kinds.next().is_none())
}

/// The kind that every entry looks like.
fn by_shape(entries: &[(String, Node)]) -> Option<Kind> {
    let all = |field: &str| !entries.is_empty() && entries.iter().all(|(_, node)| node.entry(field).is_some());
    match (all("conn_type"), all("slots")) {
        (true, false) => Some(Kind::Connection),
        (false, true) => Some(Kind::Pool),
        _ => None,
    }
}

#[cfg(test)]
#[path = "shapes_tests.rs"]
mod tests;
