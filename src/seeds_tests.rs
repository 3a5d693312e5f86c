use super::node::Node;
use super::*;

/// What a file says, a line a cell; or its problems.
pub(in crate::seeds) fn read_as(path: &str, text: &str, line: Line) -> Result<Vec<String>, Vec<String>> {
    let around = Surroundings {
        line,
        variable: &|name| match name {
            "EMPTY" => Some(""),
            "PASSWORD" => Some("p$w${X}\n"),
            "PORT" => Some("5432"),
            _ => None,
        },
        file: &|path| match path.to_str().unwrap() {
            "/run/secrets/x" | "/seed/x" => Ok(Zeroizing::new("from file $".to_owned())),
            "/seed/extra" => Ok(Zeroizing::new("{\"a\": 1}".to_owned())),
            _ => Err("no such file or directory".to_owned()),
        },
    };
    let mut seeds = Seeds::new(SeedMode::Add);
    match seeds.take(Path::new(path), text, &around) {
        Ok(()) => Ok(seeds.rows.iter().flat_map(shown).collect()),
        Err(SeedError::File { path: named, problems }) => {
            assert_eq!(named, Path::new(path));
            Err(problems)
        }
        Err(other) => panic!("{other}"),
    }
}

fn shown(row: &Row) -> Vec<String> {
    let cell = |cell: &Cell| match cell {
        Cell::Null => None,
        Cell::Number(number) => Some(number.to_string()),
        Cell::Secret { text, .. } => text.as_ref().map(|text| format!("*{}", **text)),
        Cell::Switch(switch) => Some(switch.to_string()),
        Cell::Text(text) => Some(text.to_string()),
    };
    let cells = row.cells.iter().filter_map(|(column, value)| Some(format!("{column}={}", cell(value)?)));
    std::iter::once(row.to_string()).chain(cells).collect()
}

fn ours(text: &str) -> Result<Vec<String>, Vec<String>> {
    read_as("/seed/seed.yaml", text, Line::V2)
}

fn problem(text: &str) -> String {
    ours(text).unwrap_err().join("\n")
}

#[test]
fn u09_a_file_of_ours_in_each_format() {
    let yaml = "
connections:
  db: {uri: 'postgresql://u@h:${PORT}/s', password: $PASSWORD}
  web:
    conn_type: http
    port: ${PORT}
    extra: {token: {file: /run/secrets/x}, list: [1, {file: x}]}
variables:
  text: a $$ b
  number: 5
  told: {value: x, description: d}
pools:
  p: 3
  q: {slots: -1, description: d, include_deferred: true}
";
    let toml = r#"
[connections]
db = { uri = "postgresql://u@h:${PORT}/s", password = "$PASSWORD" }
[connections.web]
conn_type = "http"
port = "${PORT}"
extra = { token = { file = "/run/secrets/x" }, list = [1, { file = "x" }] }
[variables]
text = "a $$ b"
number = 5
told = { value = "x", description = "d" }
[pools]
p = 3
q = { slots = -1, description = "d", include_deferred = true }
"#;
    let json = r#"{"connections": {"db": {"uri": "postgresql://u@h:${PORT}/s", "password": "$PASSWORD"},
        "web": {"conn_type": "http", "port": "${PORT}", "extra": {"token": {"file": "/run/secrets/x"}, "list": [1, {"file": "x"}]}}},
        "variables": {"text": "a $$ b", "number": 5, "told": {"value": "x", "description": "d"}},
        "pools": {"p": 3, "q": {"slots": -1, "description": "d", "include_deferred": true}}}"#;
    let mut expected = vec![
        "connection `db`",
        "conn_type=postgres",
        "host=h",
        "schema=s",
        "login=u",
        "port=5432",
        "password=*p$w${X}\n",
        "connection `web`",
        "conn_type=http",
        "port=5432",
        "extra=*{\"token\": \"from file $\", \"list\": [1, \"from file $\"]}",
        "variable `text`",
        "val=*a $ b",
        "variable `number`",
        "val=*5",
        "variable `told`",
        "val=*x",
        "description=d",
        "pool `p`",
        "slots=3",
        "pool `q`",
        "slots=-1",
        "description=d",
        "include_deferred=true",
    ];
    expected.sort_unstable();
    // TOML's tables have no order.
    let sorted = |name: &str, text: &str| {
        let read = read_as(&format!("/seed/a.{name}"), text, Line::V2);
        read.map(|mut lines| {
            lines.sort_unstable();
            lines
                .iter()
                .map(|line| {
                    line.replace(
                        "{\"list\": [1, \"from file $\"], \"token\": \"from file $\"}",
                        "{\"token\": \"from file $\", \"list\": [1, \"from file $\"]}",
                    )
                })
                .collect::<Vec<_>>()
        })
    };
    for (name, text) in [("yaml", yaml), ("yml", yaml), ("toml", toml), ("json", json)] {
        assert_eq!(sorted(name, text).unwrap(), expected, "{name}");
    }
}

#[test]
fn u09_problems_name_the_place_and_no_value() {
    for (text, expected) in [
        (
            "connections: {c: {conn_type: http, pasword: hush}}",
            "connection `c`: there is no field `pasword`; did you mean `password`?",
        ),
        ("connections: {c: {host: hush}}", "connection `c`: expected a `conn_type` such as `postgres`, or a `uri`"),
        (
            "connections: {c: {conn_type: 5}}",
            "connection `c`: `conn_type`: expected text, found a number (put it in quotes)",
        ),
        (
            "connections: {c: {conn_type: a, port: 70000}}",
            "connection `c`: `port`: expected a whole number from 0 to 65535",
        ),
        (
            "connections: {c: {conn_type: a, port: hush}}",
            "connection `c`: `port`: expected a whole number from 0 to 65535",
        ),
        (
            "connections: {c: {conn_type: a, password: 123}}",
            "connection `c`: `password`: expected text, found a number (put it in quotes)",
        ),
        (
            "connections: {c: {conn_type: a, extra: '{hush'}}",
            "connection `c`: `extra`: expected a JSON object, found what is no JSON from line 1, column 2 on",
        ),
        (
            "connections: {c: {conn_type: a, extra: '[1]'}}",
            "connection `c`: `extra`: expected a JSON object, found other JSON",
        ),
        (
            "connections: {c: {conn_type: a, extra: [1]}}",
            "connection `c`: `extra`: expected a table or the text of a JSON object, found a list",
        ),
        (
            "connections: {c: {conn_type: a, extra: {}, extra_dejson: {}}}",
            "connection `c`: expected `extra` or `extra_dejson`, found both",
        ),
        ("connections: {c: {uri: 'a://h', host: b}}", "connection `c`: expected `uri` or `host`, found both"),
        (
            "connections: {c: {conn_type: a, conn_id: b}}",
            "connection `c`: `conn_id`: expected the name under which the connection stands",
        ),
        (
            "connections: {c d: 'a://b'}",
            "connection `c d`: expected a name of at most 250 letters, digits and `_#!()-.:/\\`",
        ),
        ("connections: {c: hush}", "connection `c`: expected a URI like `type://login:password@host:port/schema`"),
        ("connections: {c: 3}", "connection `c`: expected a URI or a table, found a number"),
        ("connections: {c: '${HIDDEN}'}", "connection `c`: `HIDDEN` is not set"),
        (
            "connections: {c: {conn_type: a, extra: {x: ['${HIDDEN}']}}}",
            "connection `c`: `extra.x.0`: `HIDDEN` is not set",
        ),
        (
            "connections: {c: {conn_type: '${EMPTY:?say it}'}}",
            "connection `c`: `conn_type`: `EMPTY` is not set: say it",
        ),
        (
            "connections: {c: {conn_type: a, password: {file: /no}}}",
            "connection `c`: `password`: cannot read the file `/no`: no such file or directory",
        ),
        (
            "connections: {c: {conn_type: a, host: \"a\\0\"}}",
            "connection `c`: `host`: expected text without a NUL character",
        ),
        (
            "variables: {v: null}",
            "variable `v`: expected a value, found nothing (Airflow exports nothing where its key is the wrong one)",
        ),
        (
            "variables: {v: {value: 1, descripton: hush}}",
            "variable `v`: there is no field `descripton`; did you mean `description`?",
        ),
        ("variables: {v: cost $5}", "variable `v`: expected a name, `{` or `$` behind `$` (write `$$` for a dollar)"),
        ("pools: {p: {description: x}}", "pool `p`: expected `slots`"),
        ("pools: {p: 1.5}", "pool `p`: `slots`: expected a whole number from -1 to 2147483647"),
        (
            "pools: {p: {slots: 1, include_deferred: perhaps}}",
            "pool `p`: `include_deferred`: expected `true` or `false`",
        ),
        ("pools: {p: {slots: 1, slot: 2}}", "pool `p`: there is no field `slot`; did you mean `slots`?"),
        ("pools:\n  p: 1\n  p: 2\n", "line 3: a key is there twice"),
        ("pools: {p: hush", "line 1: it is no YAML; is everything closed, indented and in quotes?"),
        ("variables: {v: !hush x}", "line 1: it is no YAML; is everything closed, indented and in quotes?"),
    ] {
        assert_eq!(problem(text), expected, "{text}");
    }
    for (path, text, expected) in [
        ("/x/a.json", "{\"a\": \"hush\",}", "line 1: trailing comma"),
        ("/x/a.json", "{\"a\":\n hush}", "line 2: expected value"),
        ("/x/a.json", "{\"a\": 1, \"a\": 2}", "line 1: the key `a` is there twice"),
        ("/x/a.toml", "a = 'hush", "line 1: invalid literal string, expected `'`"),
        ("/x/a.toml", "a = 1\na = 2", "line 2: duplicate key"),
        ("/x/connections.env", "a=http://h\nhush\n", "line 2: expected `NAME=value`"),
    ] {
        assert_eq!(read_as(path, text, Line::V2), Err(vec![expected.to_owned()]), "{text}");
    }
    // All of a file at once.
    let several = "connections: {c: hush, d: {}}\npools: {p: x}";
    assert_eq!(ours(several).unwrap_err().len(), 3);
}

#[test]
fn what_json_lacks_is_text() {
    let toml = "[variables]\nday = 2020-01-31\n[variables.nested]\nat = 07:32:00\n";
    let read = read_as("/x/a.toml", toml, Line::V2).unwrap();
    assert_eq!(read, ["variable `day`", "val=*2020-01-31", "variable `nested`", "val=*{\n  \"at\": \"07:32:00\"\n}"]);
    // YAML's words for yes and no are Airflow's: text is in quotes.
    let yaml = "variables: {a: yes, b: 'yes', c: 0123, d: 1_000, e: 1e3, f: 'no'}";
    let read = ours(yaml).unwrap();
    let values: Vec<_> = read.iter().filter_map(|line| line.strip_prefix("val=*")).collect();
    assert_eq!(values, ["true", "yes", "0123", "1_000", "1000.0", "no"]);
}

#[test]
fn nothing_is_seeded_twice() {
    let around = Surroundings { line: Line::V3, variable: &|_| None, file: &|_| Err(String::new()) };
    let mut seeds = Seeds::new(SeedMode::Add);
    seeds.take(Path::new("/a.yaml"), "pools: {p: 1}", &around).unwrap();
    // A variable of the same name is something else.
    seeds.take(Path::new("/b.yaml"), "variables: {p: 1}", &around).unwrap();
    let error = seeds.take(Path::new("/c.yaml"), "pools: {p: 1}", &around).unwrap_err();
    assert_eq!(error.to_string(), "cannot seed from `/c.yaml`: pool `p`: it is in `/a.yaml` already");
}

#[test]
fn deep_nodes_are_no_end_of_the_stack() {
    let deep = format!("{{\"variables\": {{\"v\": {}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read_as("/x/a.json", &deep, Line::V2), Err(vec!["line 1: recursion limit exceeded".to_owned()]));
    assert!(read_as("/x/a.yaml", &deep, Line::V2).is_err());
    assert!(matches!(Node::text("x"), Node::Text(_)));
}
