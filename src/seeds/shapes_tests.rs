use crate::airflow_version::Line;
use crate::seeds::tests::read_as;

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
