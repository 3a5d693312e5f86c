use super::node::Node;
use super::*;

/// What a file says, a line a cell; or its problems.
fn read_as(path: &str, text: &str, line: Line) -> Result<Vec<String>, Vec<String>> {
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
fn what_airflow_exports_is_taken_literally() {
    let connection = "connection `c`";
    for (path, text, expected) in [
        (
            "/x/export.json",
            r#"{"c": {"conn_type": "http", "description": null, "login": null, "password": "a$b${C}", "host": null, "port": 80, "schema": null, "extra": "{\"a\": \"$x\"}"}}"#,
            vec![connection, "conn_type=http", "port=80", "password=*a$b${C}", "extra=*{\"a\": \"$x\"}"],
        ),
        (
            "/x/prod-connections.yaml",
            "c:\n  conn_type: http\n  password: a$b\n  port: null\n",
            vec![connection, "conn_type=http", "password=*a$b"],
        ),
        ("/x/connections.json", r#"{"c": "http://h/$x"}"#, vec![connection, "conn_type=http", "host=h", "schema=$x"]),
        (
            "/x/connections.env",
            "# a comment\n\nc=http://u:p%24w@h\nd={\"conn_type\": \"ftp\"}\n",
            vec![
                connection,
                "conn_type=http",
                "host=h",
                "schema=",
                "login=u",
                "password=*p$w",
                "connection `d`",
                "conn_type=ftp",
            ],
        ),
        (
            "/x/variables.json",
            r#"{"a": "$x", "b": {"file": "/run/secrets/x"}, "c": {"value": {"y": true}, "description": null}, "d": false}"#,
            vec![
                "variable `a`",
                "val=*$x",
                "variable `b`",
                "val=*{\n  \"file\": \"/run/secrets/x\"\n}",
                "variable `c`",
                "val=*{\n  \"y\": true\n}",
                "variable `d`",
                "val=*false",
            ],
        ),
        ("/x/variables.env", "a=b=c\n", vec!["variable `a`", "val=*b=c"]),
        (
            "/x/p.json",
            r#"{"p": {"description": "", "include_deferred": false, "slots": 3}}"#,
            vec!["pool `p`", "slots=3", "description=", "include_deferred=false"],
        ),
    ] {
        assert_eq!(read_as(path, text, Line::V2).unwrap(), expected, "{path}");
    }
}

#[test]
fn what_a_file_holds_is_never_guessed() {
    const UNKNOWN: &str = "it does not say what it holds: expected the tables `connections`, `variables` or `pools`, \
        or one of these words in the name of a file that Airflow has exported";
    for (path, text, expected) in [
        ("/x/a.json", r#"{"a": "http://h"}"#, UNKNOWN),
        ("/x/a.yaml", "a: {conn_type: http}\nb: {slots: 3}\n", UNKNOWN),
        ("/x/connections-and-pools.json", r#"{"a": "b"}"#, UNKNOWN),
        ("/x/a.env", "a=b\n", UNKNOWN),
        ("/x/a.yaml", "[1]", "expected a table, found a list"),
        ("/x/a.yaml", "pools: {}\nvaraibles: {}\n", "there is no table `varaibles`; did you mean `variables`?"),
        ("/x/pools.toml", "[p]\nslots = 3\n", "there is no table `p`"),
        ("/x/a.toml", "pools = 3\n", "`pools`: expected a table, found a number"),
        (
            "/x/variables.json",
            r#"{"pools": {}}"#,
            "its name says variables, and it has the tables of a file of our own, without that one",
        ),
        ("/x/seed.txt", "", "expected a name that ends in `.toml`, `.yaml`, `.yml`, `.json` or `.env`"),
    ] {
        assert_eq!(read_as(path, text, Line::V2), Err(vec![expected.to_owned()]), "{path} {text}");
    }
    // Nothing is nothing, and an own file may be called after one of its tables.
    for (path, text) in [
        ("/x/a.yaml", ""),
        ("/x/a.toml", "# nothing\n"),
        ("/x/a.json", "{}"),
        ("/x/a.yaml", "pools:\n"),
        ("/x/pools.yaml", "pools: {}\nvariables: {}"),
    ] {
        assert_eq!(read_as(path, text, Line::V2), Ok(vec![]), "{path} {text}");
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
fn uris_by_line() {
    let read =
        |uri: &str, line| read_as("/x/connections.env", &format!("c={uri}"), line).map(|lines| lines[1..].join(" "));
    let typed = "http://h/?n=5&b=true&t=x+y&e=&f=1.50";
    assert_eq!(
        read(typed, Line::V2).unwrap(),
        "conn_type=http host=h schema= extra=*{\"n\": \"5\", \"b\": \"true\", \"t\": \"x y\", \"e\": \"\", \"f\": \"1.50\"}"
    );
    assert_eq!(
        read(typed, Line::V3).unwrap(),
        "conn_type=http host=h schema= extra=*{\"n\": 5, \"b\": true, \"t\": \"x y\", \"e\": \"\", \"f\": 1.5}"
    );
    let whole = "http://h/?__extra__=%7B%22a%22%3A1%7D";
    assert_eq!(read(whole, Line::V3).unwrap(), "conn_type=http host=h schema= extra=*{\"a\":1}");
    assert!(read(whole, Line::V1).unwrap().ends_with("extra=*{\"__extra__\": \"{\\\"a\\\":1}\"}"));
    for (uri, expected) in [
        ("http://https://h:80/s", "conn_type=http host=https://h schema=s port=80"),
        ("my-type://u%40:p%2F@H%2Fost:1", "conn_type=my_type host=H/ost schema= login=u@ port=1 password=*p/"),
        ("postgresql://HOST", "conn_type=postgres host=host schema="),
        ("a://@:80", "conn_type=a host= schema= login= port=80"),
        ("a://[::1]:80/s#x?y", "conn_type=a host=::1 schema=s port=80"),
        ("a://u:@h", "conn_type=a host=h schema= login=u"),
    ] {
        assert_eq!(read(uri, Line::V2).as_deref(), Ok(expected), "{uri}");
    }
    for (uri, expected) in [
        (
            "my_type://h",
            "connection `c`: the type of a URI cannot have `_` in it: write `-`, which Airflow makes a `_`",
        ),
        (
            "a://h:x",
            "connection `c`: expected a port of digits behind the host; special characters of login and password must be percent-encoded, or stand in `login` and `password` beside `uri`",
        ),
        ("a://h:70000", "connection `c`: expected a port from 0 to 65535"),
        ("a://b://c://d", "connection `c`: there is `://` in it more than twice"),
        ("a://a://h", "connection `c`: the host's protocol is the type of the connection: leave it out"),
        (
            "a://u:p@b://h",
            "connection `c`: the protocol of a host stands in front of login and password: `type://protocol://login:password@host`",
        ),
        ("a://[::1", "connection `c`: expected a `]` behind the `[` of the host"),
        (
            "a://h/?__extra__=hush",
            "connection `c`: `extra`: expected a JSON object, found what is no JSON from line 1, column 1 on",
        ),
    ] {
        assert_eq!(read(uri, Line::V2), Err(vec![expected.to_owned()]), "{uri}");
    }
}

#[test]
fn a_change_is_what_airflow_would_see_as_one() {
    use super::changes::{Held, differs};
    let held = |text: &str| Held::Text(Some(Zeroizing::new(text.to_owned())));
    let text = |text: &str| Cell::Text(Zeroizing::new(text.to_owned()));
    let secret = |text: Option<&str>, same| Cell::Secret {
        text: text.map(|text| Zeroizing::new(text.to_owned())),
        flag: "is_encrypted",
        same,
    };
    for (number, (cell, held, expected)) in [
        (text("h"), held("h"), false),
        (text("h"), held("H"), true),
        (text(""), Held::Text(None), false),
        (Cell::Null, held(""), false),
        (Cell::Null, held("h"), true),
        (Cell::Number(5), held("5"), false),
        (Cell::Number(5), Held::Text(None), true),
        (Cell::Switch(true), held("true"), false),
        (Cell::Switch(true), held("0"), true),
        (Cell::Switch(false), Held::Text(None), false),
        (secret(Some("p"), Same::AsText), held("p"), false),
        (secret(Some("p"), Same::AsText), Held::Unreadable, true),
        (secret(None, Same::AsText), Held::Unreadable, true),
        (secret(None, Same::AsText), held("p"), true),
        (secret(Some("{\"a\": 1, \"b\": 2}"), Same::AsJson), held("{\"b\":2,\"a\":1}"), false),
        (secret(Some("{\"a\": 1}"), Same::AsJson), held("{\"a\": \"1\"}"), true),
        (secret(Some("{\"a\": 123456789012345678901}"), Same::AsJson), held("{\"a\": 123456789012345678902}"), true),
        (secret(Some("{\"a\": 1}"), Same::AsText), held("{\"a\":1}"), true),
        (secret(Some(""), Same::AsText), Held::Text(None), true),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(differs(&cell, &held), expected, "{number}");
    }
}

#[test]
fn deep_nodes_are_no_end_of_the_stack() {
    let deep = format!("{{\"variables\": {{\"v\": {}1{}}}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(read_as("/x/a.json", &deep, Line::V2), Err(vec!["line 1: recursion limit exceeded".to_owned()]));
    assert!(read_as("/x/a.yaml", &deep, Line::V2).is_err());
    assert!(matches!(Node::text("x"), Node::Text(_)));
}
