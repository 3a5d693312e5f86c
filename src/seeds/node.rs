//! What TOML, JSON and YAML have in common, in the order in which it was written; and Python's way to write it as JSON.

use std::fmt::{self, Write};

use serde::Deserialize;
use serde::de::{Deserializer, Error, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

/// A value. Text may be secret: it is wiped when dropped, and there is no `Debug`.
#[derive(Clone, PartialEq)]
pub(super) enum Node {
    List(Vec<Self>),
    Null,
    /// As it would stand in JSON.
    Number(String),
    Switch(bool),
    Table(Vec<(String, Self)>),
    Text(Zeroizing<String>),
}

impl Node {
    pub(super) fn text(text: &str) -> Self {
        Self::Text(Zeroizing::new(text.to_owned()))
    }

    /// What it is, for a message.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::List(_) => "a list",
            Self::Null => "nothing",
            Self::Number(_) => "a number",
            Self::Switch(_) => "true or false",
            Self::Table(_) => "a table",
            Self::Text(_) => "text",
        }
    }

    /// The entry of a table.
    pub(super) fn entry(&self, name: &str) -> Option<&Self> {
        match self {
            Self::Table(entries) => entries.iter().find(|(key, _)| key == name).map(|(_, node)| node),
            _ => None,
        }
    }

    /// As Python's `json.dumps` writes it: `", "` and `": "` between, nothing but ASCII. With an indent each entry has a line.
    pub(super) fn json(&self, indent: Option<usize>) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::new());
        // Writing to a string cannot fail.
        let _ = self.write(&mut text, indent, 0);
        text
    }

    fn write(&self, out: &mut String, indent: Option<usize>, depth: usize) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Switch(switch) => write!(out, "{switch}"),
            Self::Number(number) => out.write_str(number),
            Self::Text(text) => write_text(out, text),
            Self::List(nodes) if nodes.is_empty() => out.write_str("[]"),
            Self::Table(entries) if entries.is_empty() => out.write_str("{}"),
            Self::List(nodes) => {
                out.push('[');
                for (index, node) in nodes.iter().enumerate() {
                    separate(out, index, indent, depth + 1);
                    node.write(out, indent, depth + 1)?;
                }
                close(out, ']', indent, depth);
                Ok(())
            }
            Self::Table(entries) => {
                out.push('{');
                for (index, (name, node)) in entries.iter().enumerate() {
                    separate(out, index, indent, depth + 1);
                    write_text(out, name)?;
                    out.push_str(": ");
                    node.write(out, indent, depth + 1)?;
                }
                close(out, '}', indent, depth);
                Ok(())
            }
        }
    }
}

fn separate(out: &mut String, index: usize, indent: Option<usize>, depth: usize) {
    match indent {
        Some(width) => {
            out.push_str(if index > 0 { ",\n" } else { "\n" });
            out.extend(std::iter::repeat_n(' ', width * depth));
        }
        None if index > 0 => out.push_str(", "),
        None => {}
    }
}

fn close(out: &mut String, bracket: char, indent: Option<usize>, depth: usize) {
    if let Some(width) = indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', width * depth));
    }
    out.push(bracket);
}

fn write_text(out: &mut String, text: &str) -> fmt::Result {
    out.push('"');
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            ' '..='~' => out.push(letter),
            _ => letter.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| write!(out, "\\u{unit:04x}"))?,
        }
    }
    out.push('"');
    Ok(())
}

/// A float as Python's `repr` has it: at least two digits of exponent, with a sign.
fn float(number: f64) -> String {
    let text = format!("{number:?}");
    match text.split_once('e') {
        None => text,
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

/// What TOML's reader calls a date, which has no counterpart in JSON.
const TOML_DATE: &str = "$__toml_private_datetime";

impl<'de> Visitor<'de> for Reader {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E: Error>(self, switch: bool) -> Result<Node, E> {
        Ok(Node::Switch(switch))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Number(number.to_string()))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Node, E> {
        if !number.is_finite() {
            return Err(E::custom("a number that JSON does not have"));
        }
        // A whole number that no longer fits was read as a float, and has lost its last digits.
        if number.fract() == 0.0 && number.abs() >= 9_223_372_036_854_775_808.0 {
            return Err(E::custom("a number of more than 64 bits; put it in quotes"));
        }
        Ok(Node::Number(float(number)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Node, E> {
        Ok(Node::text(text))
    }

    fn visit_unit<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        Node::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let mut nodes = Vec::new();
        while let Some(node) = sequence.next_element()? {
            nodes.push(node);
        }
        Ok(Node::List(nodes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let mut entries: Vec<(String, Node)> = Vec::new();
        while let Some((name, node)) = map.next_entry::<String, Node>()? {
            if name == TOML_DATE {
                return Ok(node);
            }
            // Python would silently take the last one.
            if entries.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom(format!("the key `{name}` is there twice")));
            }
            entries.push((name, node));
        }
        Ok(Node::Table(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(json: &str, indent: Option<usize>) -> String {
        let node: Node = serde_json::from_str(json).unwrap();
        node.json(indent).to_string()
    }

    #[test]
    fn json_is_written_as_python_writes_it() {
        for (json, expected) in [
            ("{\"b\":1,\"a\":[true,null,\"x\"]}", "{\"b\": 1, \"a\": [true, null, \"x\"]}"),
            ("\"é😀\\u0007\\n\\\\\\\"/\"", "\"\\u00e9\\ud83d\\ude00\\u0007\\n\\\\\\\"/\""),
            ("[1.0,1e16,0.1,1e-5,-2.5e-7,123456789012]", "[1.0, 1e+16, 0.1, 1e-05, -2.5e-07, 123456789012]"),
            ("[[],{},\"\\u007f\"]", "[[], {}, \"\\u007f\"]"),
        ] {
            assert_eq!(dumped(json, None), expected);
        }
        let expected = "{\n  \"a\": [\n    1,\n    {}\n  ],\n  \"b\": \"x\"\n}";
        assert_eq!(dumped("{\"a\":[1,{}],\"b\":\"x\"}", Some(2)), expected);
    }

    #[test]
    fn what_would_be_changed_by_reading_is_refused() {
        for (json, expected) in [
            ("{\"a\": 1, \"a\": 2}", "the key `a` is there twice"),
            ("123456789012345678901234567890", "a number of more than 64 bits; put it in quotes"),
        ] {
            let error = serde_json::from_str::<Node>(json).err().unwrap().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
