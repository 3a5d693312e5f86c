//! One variable: its value, or a table of `value` and `description`.

use zeroize::Zeroizing;

use super::node::Node;
use super::values::{LONGEST_NAME, Place, is_storable, text};
use super::{Cell, Same};

const FIELDS: [&str; 3] = ["description", "team_name", "value"];

/// The indent of what Airflow stores as JSON (`Variable.set`).
const INDENT: usize = 2;

/// Its columns, or none and why.
pub(super) fn cells(key: &str, node: &Node, place: &mut Place<'_>) -> Option<Vec<(&'static str, Cell)>> {
    if key.is_empty() || key.chars().count() > LONGEST_NAME || !is_storable(key) {
        place.wrong("expected a name of at most 250 characters");
        return None;
    }
    let Node::Table(entries) = node else { return Some(vec![value(node, place)?]) };
    // As `variables import` has it: any other table is a value itself.
    let Some(held) = node.entry("value") else { return Some(vec![value(node, place)?]) };
    place.must_know(entries, &FIELDS);
    let mut cells = vec![value(held, place)?];
    for field in ["description", "team_name"] {
        let Some(node) = node.entry(field) else { continue };
        if *node == Node::Null && field == "team_name" {
            continue;
        }
        let cell = text(entries, field, place).map_or(Cell::Null, Cell::Text);
        if matches!(&cell, Cell::Text(text) if !is_storable(text)) {
            place.wrong_in(field, "expected text without a NUL character");
        }
        cells.push((if field == "description" { "description" } else { "team_name" }, cell));
    }
    Some(cells)
}

/// Text as it is, anything else as JSON.
fn value(node: &Node, place: &mut Place<'_>) -> Option<(&'static str, Cell)> {
    let (text, same): (Zeroizing<String>, _) = match node {
        Node::Null => {
            place.wrong("expected a value, found nothing (Airflow exports nothing where its key is the wrong one)");
            return None;
        }
        Node::Text(text) => (text.clone(), Same::AsText),
        other => (other.json(Some(INDENT)), Same::AsJson),
    };
    Some(("val", Cell::Secret { text: Some(text), flag: "is_encrypted", same }))
}
