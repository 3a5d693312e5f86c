use super::*;

/// The endpoints of a URL as they are shown, joined by blanks.
fn shown(url: &str) -> Result<String, &'static str> {
    endpoints(url).map(|all| all.iter().map(Endpoint::to_string).collect::<Vec<_>>().join(" "))
}

fn redacted(url: &str) -> String {
    Redacted(url).to_string()
}

#[test]
fn c07_the_port_is_that_of_the_url_or_the_usual_one() {
    for (scheme, port) in [
        ("amqp", 5672),
        ("amqps", 5671),
        ("db+postgresql", 5432),
        ("mariadb+pymysql", 3306),
        ("mongodb", 27017),
        ("mssql+pyodbc", 1433),
        ("mysql", 3306),
        ("mysql+mysqldb", 3306),
        ("oracle+cx_oracle", 1521),
        ("postgres", 5432),
        ("postgresql", 5432),
        ("postgresql+psycopg2", 5432),
        ("pyamqp", 5672),
        ("redis", 6379),
        ("rediss", 6379),
        ("rpc", 5672),
        ("sentinel", 26379),
    ] {
        assert_eq!(shown(&format!("{scheme}://u:p@h/d")).unwrap(), format!("h:{port}"), "{scheme}");
        assert_eq!(shown(&format!("{scheme}://u:p@h:1/d")).unwrap(), "h:1", "{scheme}");
    }
    for none in ["sqs://id:key@", "sqlite:////a.db", "filesystem://", "memory://", ""] {
        assert_eq!(endpoints(none), Ok(vec![]), "{none}");
    }
}

#[test]
fn c08_w07_w08_hosts_addresses_lists_and_sockets() {
    for (url, expected) in [
        ("postgresql://u:p@[2001:db8::5]:6543/d", "[2001:db8::5]:6543"),
        ("postgresql://[::1]/d", "[::1]:5432"),
        ("redis://[::1]:/0", "[::1]:6379"),
        ("postgresql://u:p@h1:1,h2:2/d", "h1:1 h2:2"),
        ("postgresql://h1,[::1]:2,h3/d", "h1:5432 [::1]:2 h3:5432"),
        ("postgresql://u:p@/d?host=h1:1&host=h2", "h1:1 h2:5432"),
        ("sentinel://a:1/0;sentinel://b/0", "a:1 b:26379"),
        ("amqp://u:p@a//;b:2;", "a:5672 b:2"),
        ("amqp://a//; redis://b", "a:5672 b:6379"),
        ("postgresql:///d", "localhost:5432"),
        ("redis://", "localhost:6379"),
        ("redis://h", "h:6379"),
        ("redis://h?x=1", "h:6379"),
        ("postgresql:///d?host=/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432"),
        ("postgresql:///d?host=%2Frun%2Fpg&x=1", "/run/pg/.s.PGSQL.5432"),
        ("mysql://u:p@/d?unix_socket=/run/my.sock", "/run/my.sock"),
        ("redis+socket:///run/redis.sock?virtual_host=1", "/run/redis.sock"),
        ("redis+socket://u:p@/run/redis.sock", "/run/redis.sock"),
        // Nobody encoded the password; the last `@` is what clients go by.
        ("postgresql://u:p@ss@db:1/d", "db:1"),
    ] {
        assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
    }
}

/// libpq: "port: ... or the socket file name extension for Unix-domain connections".
#[test]
fn w08_the_port_of_a_query() {
    for (url, expected) in [
        ("postgresql:///d?host=/run/pg&port=6543", "/run/pg/.s.PGSQL.6543"),
        ("postgresql:///d?host=h&port=6543", "h:6543"),
        ("postgresql:///d?port=6543&host=h", "h:6543"),
    ] {
        assert_eq!(shown(url).as_deref(), Ok(expected), "{url}");
    }
}

#[test]
fn c01_what_cannot_be_a_url_is_said() {
    let port = "expected a port from 1 to 65535 behind the host (is `@`, `:` or `/` in the password percent-encoded?)";
    for (url, expected) in [
        ("postgresql://h:port/d", port),
        ("postgresql://h:65536/d", port),
        ("postgresql://h:0/d", port),
        ("postgresql://u:p/w@h/d", port),
        ("postgresql://[::1/d", "expected `]` behind an IPv6 address"),
        ("h:5432/d", "expected a scheme and `://`"),
    ] {
        assert_eq!(endpoints(url), Err(expected), "{url}");
    }
}

#[test]
fn k14_no_password_is_shown() {
    for (url, expected) in [
        ("postgresql://u:p@h:1/d", "postgresql://u:***@h:1/d"),
        ("redis://:p@h/1", "redis://:***@h/1"),
        ("redis://u@h/1", "redis://u@h/1"),
        ("postgresql://u:p@ss:w/rd?#@h/d", "postgresql://u:***@h/d"),
        ("postgresql://h/d?user=u&password=p&sslmode=require", "postgresql://h/d?user=u&password=***&sslmode=require"),
        ("x://h?auth_token=t&API_KEY=k&PWD=p&secret=s&a", "x://h?auth_token=***&API_KEY=***&PWD=***&secret=***&a"),
        ("sentinel://:p@a:1;sentinel://:q@b:2", "sentinel://:***@a:1;sentinel://:***@b:2"),
        ("u:p@h/d", "u:***@h/d"),
        ("sqlite:////a.db", "sqlite:////a.db"),
    ] {
        assert_eq!(redacted(url), expected);
    }
}

/// A `;` may part two brokers or be in a password that nobody encoded: what cannot be told apart is not shown.
#[test]
fn k14_no_part_of_a_password_with_a_semicolon_is_shown() {
    for url in [
        "postgresql://u:sec;ret@h/d",
        "redis://:sec;ret@h/1",
        "redis://:se;c;ret@h/1",
        "sentinel://:sec;ret@a:1;sentinel://:sec;ret@b:2",
        "amqp://u:sec;ret@a//;u:sec;ret@b//",
    ] {
        let shown = redacted(url);
        assert!(["sec", "se;", "ret"].iter().all(|part| !shown.contains(part)), "{url} is shown as {shown}");
    }
}

#[test]
fn r06_what_others_say_is_shown_without_userinfo() {
    for (text, expected) in [
        ("nothing", "nothing"),
        (
            "Looking in indexes: https://u:tok@h:8/simple, https://tok@i/",
            "Looking in indexes: https://***@h:8/simple, https://***@i/",
        ),
        ("git+https://github.com/a/b.git@v1", "git+https://github.com/a/b.git@v1"),
        ("git+https://tok@github.com/a/b.git@v1", "git+https://***@github.com/a/b.git@v1"),
        ("'https://u:p/w?x@h/s' failed\n", "'https://***@h/s' failed\n"),
        ("https://h:8080/a@b", "https://h:8080/a@b"),
        ("https://u:a@b@h/ x@y", "https://***@h/ x@y"),
        ("https://u:größe@h", "https://***@h"),
        ("://@", "://***@"),
    ] {
        assert_eq!(without_userinfo(text), expected);
    }
}
