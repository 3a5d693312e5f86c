//! One pool: its slots, or a table of its fields.

use super::Cell;
use super::node::Node;
use super::values::{Place, is_storable, number, text};

const FIELDS: [&str; 4] = ["description", "include_deferred", "slots", "team_name"];

/// Its columns, or none and why.
pub(super) fn cells(pool: &str, node: &Node, place: &mut Place<'_>) -> Option<Vec<(&'static str, Cell)>> {
    if pool.is_empty() || !is_storable(pool) {
        place.wrong("expected a name");
        return None;
    }
    // -1 is a pool without a limit (`airflow/models/pool.py`).
    let slots = |node: &Node, place: &mut Place<'_>| number(node, "slots", -1, i32::MAX.into(), place);
    let Node::Table(entries) = node else { return Some(vec![("slots", Cell::Number(slots(node, place)?))]) };
    place.must_know(entries, &FIELDS);
    let Some(said) = node.entry("slots") else {
        place.wrong("expected `slots`");
        return None;
    };
    let mut cells = vec![("slots", Cell::Number(slots(said, place)?))];
    if node.entry("description").is_some() {
        let description = text(entries, "description", place);
        if description.as_ref().is_some_and(|text| !is_storable(text)) {
            place.wrong_in("description", "expected text without a NUL character");
        }
        cells.push(("description", description.map_or(Cell::Null, Cell::Text)));
    }
    match node.entry("include_deferred") {
        None | Some(Node::Null) => {}
        Some(Node::Switch(switch)) => cells.push(("include_deferred", Cell::Switch(*switch))),
        Some(Node::Text(text)) if matches!(text.as_str(), "true" | "false") => {
            cells.push(("include_deferred", Cell::Switch(text.as_str() == "true")));
        }
        Some(_) => place.wrong_in("include_deferred", "expected `true` or `false`"),
    }
    if let Some(team) = text(entries, "team_name", place) {
        cells.push(("team_name", Cell::Text(team)));
    }
    Some(cells)
}
