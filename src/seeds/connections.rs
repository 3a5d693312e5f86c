//! One connection: a URI, or a table of its fields.

use zeroize::Zeroizing;

use super::node::Node;
use super::values::{LONGEST_NAME, Place, is_storable, number, text};
use super::{Cell, Same, formats, uri};
use crate::airflow_version::Line;

const FIELDS: [&str; 12] = [
    "conn_type",
    "description",
    "extra",
    "extra_dejson",
    "host",
    "login",
    "password",
    "port",
    "schema",
    "team_name",
    "uri",
    "conn_id",
];

/// What a URI says itself.
const NOT_BESIDE_URI: [&str; 6] = ["conn_type", "extra", "extra_dejson", "host", "port", "schema"];

type Cells = Vec<(&'static str, Cell)>;

/// Its columns, or none and why.
pub(super) fn cells(conn_id: &str, node: &Node, line: Line, place: &mut Place<'_>) -> Option<Cells> {
    // `sanitize_conn_id` in `airflow/models/connection.py`.
    let is_sound = |c: char| c.is_alphanumeric() || "_#!()-.:/\\".contains(c);
    if conn_id.is_empty() || conn_id.chars().count() > LONGEST_NAME || !conn_id.chars().all(is_sound) {
        place.wrong("expected a name of at most 250 letters, digits and `_#!()-.:/\\`");
        return None;
    }
    match node {
        Node::Text(uri) => from_uri(uri, line, place),
        Node::Table(entries) => from_table(conn_id, entries, line, place),
        other => {
            place.wrong(&format!("expected a URI or a table, found {}", other.kind()));
            None
        }
    }
}

fn from_uri(text: &str, line: Line, place: &mut Place<'_>) -> Option<Cells> {
    let parts = uri::parse(text, line).map_err(|problem| place.wrong(problem)).ok()?;
    let optional = |text: Option<String>| text.map_or(Cell::Null, |text| Cell::Text(Zeroizing::new(text)));
    let extra = checked_extra(parts.extra.map(Zeroizing::new), place)?;
    let cells = vec![
        ("conn_type", optional(Some(parts.conn_type))),
        ("host", optional(Some(parts.host))),
        ("schema", optional(Some(parts.schema))),
        ("login", optional(parts.login)),
        ("port", parts.port.map_or(Cell::Null, |port| Cell::Number(port.into()))),
        ("password", password_cell(parts.password.map(Zeroizing::new))),
        ("extra", extra_cell(extra)),
    ];
    storable(cells, place)
}

fn from_table(conn_id: &str, entries: &[(String, Node)], line: Line, place: &mut Place<'_>) -> Option<Cells> {
    let before = place.count();
    place.must_know(entries, &FIELDS);
    let is_said = |field: &str| entries.iter().find(|(name, node)| name == field && *node != Node::Null);
    if let Some(other) = text(entries, "conn_id", place)
        && other.as_str() != conn_id
    {
        place.wrong_in("conn_id", "expected the name under which the connection stands");
    }
    let description = entries.iter().any(|(name, _)| name == "description");
    let mut cells = match is_said("uri") {
        Some(_) => {
            if let Some(field) = NOT_BESIDE_URI.into_iter().find(|field| is_said(field).is_some()) {
                place.wrong(&format!("expected `uri` or `{field}`, found both"));
            }
            let uri = text(entries, "uri", place)?;
            let mut cells = from_uri(&uri, line, place)?;
            // So that nobody has to percent-encode them.
            for (column, cell) in &mut cells {
                match (*column, text(entries, column, place)) {
                    ("login", Some(login)) => *cell = Cell::Text(login),
                    ("password", password @ Some(_)) => *cell = password_cell(password),
                    _ => {}
                }
            }
            cells
        }
        None => fields(entries, place)?,
    };
    if description {
        cells.push(("description", optional(text(entries, "description", place))));
    }
    if is_said("team_name").is_some() {
        cells.push(("team_name", optional(text(entries, "team_name", place))));
    }
    (place.count() == before).then_some(cells).and_then(|cells| storable(cells, place))
}

fn fields(entries: &[(String, Node)], place: &mut Place<'_>) -> Option<Cells> {
    let field = |name: &str| entries.iter().find(|(field, _)| field == name).map(|(_, node)| node);
    let before = place.count();
    let conn_type = text(entries, "conn_type", place).filter(|conn_type| !conn_type.is_empty());
    if conn_type.is_none() && place.count() == before {
        place.wrong("expected a `conn_type` such as `postgres`, or a `uri`");
    }
    let port = match field("port") {
        None | Some(Node::Null) => Cell::Null,
        Some(Node::Text(text)) if text.is_empty() => Cell::Null,
        Some(node) => number(node, "port", 0, 65_535, place).map_or(Cell::Null, Cell::Number),
    };
    let extra = match (field("extra"), field("extra_dejson")) {
        (Some(one), Some(other)) if *one != Node::Null && *other != Node::Null => {
            place.wrong("expected `extra` or `extra_dejson`, found both");
            return None;
        }
        (Some(node), _) if *node != Node::Null => Some(node),
        (_, node) => node,
    };
    let extra = match extra {
        None | Some(Node::Null) => None,
        Some(Node::Text(text)) => checked_extra(Some(text.clone()), place)?,
        Some(Node::Table(entries)) if entries.is_empty() => None,
        Some(node @ Node::Table(_)) => Some(node.json(None)),
        Some(other) => {
            place.wrong_in("extra", &format!("expected a table or the text of a JSON object, found {}", other.kind()));
            None
        }
    };
    Some(vec![
        ("conn_type", optional(conn_type)),
        ("host", optional(text(entries, "host", place))),
        ("schema", optional(text(entries, "schema", place))),
        ("login", optional(text(entries, "login", place))),
        ("port", port),
        ("password", password_cell(text(entries, "password", place))),
        ("extra", extra_cell(extra)),
    ])
}

/// An extra that is a JSON object; Airflow 3 takes nothing else, and the earlier ones read nothing else out of it.
#[expect(clippy::option_option, reason = "no extra, and no usable one")]
fn checked_extra(extra: Option<Zeroizing<String>>, place: &mut Place<'_>) -> Option<Option<Zeroizing<String>>> {
    let extra = extra.filter(|extra| !extra.is_empty());
    if let Some(text) = &extra
        && let Err(problem) = formats::must_be_json_object(text)
    {
        place.wrong_in("extra", &problem);
        return None;
    }
    Some(extra)
}

fn optional(text: Option<Zeroizing<String>>) -> Cell {
    text.map_or(Cell::Null, Cell::Text)
}

/// Airflow stores no empty password (`set_password`).
fn password_cell(text: Option<Zeroizing<String>>) -> Cell {
    Cell::Secret { text: text.filter(|text| !text.is_empty()), flag: "is_encrypted", same: Same::AsText }
}

/// Nor an empty extra (`set_extra`).
fn extra_cell(text: Option<Zeroizing<String>>) -> Cell {
    Cell::Secret { text: text.filter(|text| !text.is_empty()), flag: "is_extra_encrypted", same: Same::AsJson }
}

/// What no column could hold.
fn storable(cells: Cells, place: &mut Place<'_>) -> Option<Cells> {
    let bad = cells.iter().find(|(_, cell)| matches!(cell, Cell::Text(text) if !is_storable(text)));
    match bad {
        Some((column, _)) => {
            place.wrong_in(column, "expected text without a NUL character");
            None
        }
        None => Some(cells),
    }
}
