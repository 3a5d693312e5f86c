use super::*;

const V1: &str = "1.10.15";
const V2: &str = "2.11.2";
const V3: &str = "3.3.2";

fn words(text: &str) -> Vec<OsString> {
    text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect()
}

/// Class and words of what a command becomes, on a machine where only `bash`, `test` and `clear` are programs.
fn command(text: &str, version: &str) -> (Class, String) {
    let words = words(text);
    let on_path = words.first().is_some_and(|word| ["bash", "test", "clear"].iter().any(|name| word == name));
    match look_up(&words, false, on_path, Version::parse(version).unwrap()) {
        Lookup::Found(Command { class, words, .. }) => {
            (class, words.iter().map(|word| word.to_str().unwrap()).collect::<Vec<_>>().join(" "))
        }
        Lookup::Unknown { .. } => panic!("`{text}` is unknown"),
    }
}

#[test]
fn m05_names_are_translated_to_the_installed_line() {
    for (said, on_1, on_2, on_3) in [
        ("webserver -p 9090", "webserver -p 9090", "webserver -p 9090", "api-server -p 9090"),
        ("api-server", "webserver", "webserver", "api-server"),
        ("worker -q high", "worker -q high", "celery worker -q high", "celery worker -q high"),
        ("celery worker", "worker", "celery worker", "celery worker"),
        ("flower", "flower", "celery flower", "celery flower"),
        ("initdb", "initdb", "db migrate", "db migrate"),
        ("upgradedb", "upgradedb", "db migrate", "db migrate"),
        ("db init", "initdb", "db migrate", "db migrate"),
        ("db upgrade", "upgradedb", "db migrate", "db migrate"),
        ("db migrate", "upgradedb", "db migrate", "db migrate"),
        ("db check", "checkdb", "db check", "db check"),
        ("list_dags", "list_dags", "dags list", "dags list"),
        ("dags list", "list_dags", "dags list", "dags list"),
        ("trigger_dag d -c {}", "trigger_dag d -c {}", "dags trigger d -c {}", "dags trigger d -c {}"),
        ("rotate_fernet_key", "rotate_fernet_key", "rotate-fernet-key", "rotate-fernet-key"),
        ("users create -u x", "create_user -u x", "users create -u x", "users create -u x"),
        ("connections list", "connections list", "connections list", "connections list"),
        ("variables --get x", "variables --get x", "variables --get x", "variables --get x"),
        ("scheduler -n 5", "scheduler -n 5", "scheduler -n 5", "scheduler -n 5"),
        ("dags backfill x", "backfill x", "dags backfill x", "dags backfill x"),
    ] {
        for (version, expected) in [(V1, on_1), (V2, on_2), (V3, on_3)] {
            // With and without `airflow` in front it is the same (E02).
            assert_eq!(command(said, version).1, format!("airflow {expected}"), "{said} on {version}");
            assert_eq!(
                command(&format!("airflow {said}"), version).1,
                format!("airflow {expected}"),
                "{said} on {version}"
            );
        }
    }
    assert_eq!(command("upgradedb", "2.5.0").1, "airflow db upgrade");
    assert_eq!(command("db migrate", "2.5.0").1, "airflow db upgrade");
}

#[test]
fn e02_e07_first_words() {
    for (said, class) in [
        ("webserver", Class::Service),
        ("airflow webserver", Class::Service),
        ("", Class::Service),
        ("airflow", Class::Plain),
        ("version", Class::Plain),
        ("celery worker", Class::Service),
        ("celery stop", Class::Plain),
        ("tasks run d t x", Class::Task),
        ("run d t x", Class::Task),
        ("connections list", Class::Database),
        ("list_dags", Class::Database),
        ("webserver --help", Class::Plain),
        ("bash", Class::Other),
        ("test -f x", Class::Other),
        ("airflow test d t x", Class::Database),
        ("/bin/true", Class::Other),
    ] {
        assert_eq!(command(said, V2).0, class, "{said}");
    }
    assert_eq!(command("", V3).1, "airflow api-server");
}

#[test]
fn an_unknown_word_has_a_nearest_one() {
    for (said, expected) in [("webservr", Some("webserver")), ("shceduler", Some("scheduler")), ("xyzzy", None)] {
        let lookup = look_up(&words(said), false, false, Version::parse(V2).unwrap());
        assert_eq!(lookup, Lookup::Unknown { word: said.to_owned(), nearest: expected.map(str::to_owned) });
    }
}

#[test]
fn raw_commands_are_not_airflows() {
    let lookup = look_up(&words("webserver -p 1"), true, true, Version::parse(V2).unwrap());
    let command = Command { class: Class::Other, words: words("webserver -p 1"), note: None, said_webserver: false };
    assert_eq!(lookup, Lookup::Found(command));
    let lookup = look_up(&words("webserver"), true, false, Version::parse(V2).unwrap());
    assert_eq!(lookup, Lookup::Unknown { word: "webserver".to_owned(), nearest: None });
}

#[test]
fn a_translation_is_said_and_nothing_else_is() {
    let note = |said: &str, version: &str| match look_up(&words(said), false, false, Version::parse(version).unwrap()) {
        Lookup::Found(command) => command.note,
        Lookup::Unknown { .. } => panic!("unknown"),
    };
    assert_eq!(note("webserver -p 1", V3).as_deref(), Some("`webserver` is `api-server` in Airflow 3.3.2"));
    assert_eq!(note("celery worker -q x", V1).as_deref(), Some("`celery worker` is `worker` in Airflow 1.10.15"));
    assert_eq!(note("webserver -p 1", V2), None);
    assert_eq!(note("scheduler", V3), None);
    assert_eq!(note("", V2), None);
}

#[test]
fn e01_arguments_pass_untouched() {
    let odd: Vec<OsString> = ["webserver", "", "a b", "--", "$HOME"].into_iter().map(OsString::from).collect();
    match look_up(&odd, false, false, Version::parse(V3).unwrap()) {
        Lookup::Found(command) => {
            assert_eq!(command.words[..2], words("airflow api-server")[..]);
            assert_eq!(command.words[2..], odd[1..]);
        }
        Lookup::Unknown { .. } => panic!("unknown"),
    }
}
