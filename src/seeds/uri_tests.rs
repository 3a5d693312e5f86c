use crate::airflow_version::Line;
use crate::seeds::tests::read_as;

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
