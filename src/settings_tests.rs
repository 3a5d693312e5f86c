use std::time::Duration;

use super::*;

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use crate::settings::puckel::Parts;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|&(name, value)| (name.into(), value.into())))
}

fn read(variables: &[(&str, &str)], file: &str) -> Result<Settings, String> {
    let file = SettingsFile { path: "/e.toml".into(), text: file.to_owned() };
    Settings::read(&environment(variables), Some(&file)).map_err(|error| error.to_string())
}

#[test]
fn without_a_word_every_setting_has_its_default() {
    let expected = Settings {
        airflow_version: None,
        check_secrets: SecretsCheck::Stop,
        ephemeral_key: false,
        forward_signals: Forwarded::Auto,
        init: Choice::Auto,
        key_dir: None,
        migrate: Choice::Auto,
        official: Official::default(),
        prepare: Prepare::Auto,
        puckel: Puckel::default(),
        requirements: "/requirements.txt".into(),
        restart: 0,
        run_as: None,
        secrets: Handover::Plain,
        seed: vec![],
        seed_mode: SeedMode::Add,
        signal_scope: None,
        stop_grace: WaitTimeout::After(Duration::from_secs(30)),
        template: None,
        umask: None,
        user_mode: UserMode::Create,
        wait_timeout: WaitTimeout::After(Duration::from_secs(100)),
        web_scheduler: Choice::Auto,
        warnings: vec![],
        written: TABLE
            .iter()
            .filter(|row| !row.default.is_empty())
            .map(|row| (row.name, row.default.to_owned(), Source::Default))
            .collect(),
    };
    assert_eq!(read(&[], ""), Ok(expected.clone()));
    assert_eq!(Settings::read(&environment(&[]), None).unwrap(), expected);
    // An empty variable is none, whatever it is for.
    let empty: Vec<_> = TABLE.iter().map(|row| variable(row.name)).collect();
    let empty: Vec<_> = empty.iter().map(|name| (name.as_str(), "")).collect();
    assert_eq!(read(&empty, ""), Ok(expected));
}

#[test]
fn the_environment_is_before_the_file_and_the_file_before_the_default() {
    let file =
        "migrate = true\nwait_timeout = '5m'\nephemeral_key = 'yes'\nkey_dir = '/k'\nairflow_version = '2.11.2'\n";
    let settings = read(&[("ENTRYPOINT_KEY_DIR", "/other"), ("ENTRYPOINT_MIGRATE", "")], file).unwrap();
    assert_eq!(settings.key_dir.as_deref(), Some(Path::new("/other")));
    assert_eq!(settings.migrate, Choice::Yes);
    assert_eq!(settings.wait_timeout, WaitTimeout::After(Duration::from_secs(300)));
    assert!(settings.ephemeral_key);
    assert_eq!(settings.airflow_version, Version::parse("2.11.2"));
    assert_eq!(settings.prepare, Prepare::Auto);
    // TOML's own numbers and switches are as good as text.
    let settings = read(&[], "wait_timeout = 90\nweb_scheduler = false\n").unwrap();
    assert_eq!(settings.wait_timeout, WaitTimeout::After(Duration::from_secs(90)));
    assert_eq!(settings.web_scheduler, Choice::No);
}

#[test]
fn each_setting_can_be_said_in_both_places_and_is_checked_in_both() {
    // Any text may be a user's name; who there is, is looked up later.
    for row in TABLE.iter().filter(|row| row.name != "run_as") {
        let name = variable(row.name);
        let (wrong, right) = match row.name {
            "airflow_version" => ("latest", "3.1.0"),
            "check_secrets" => ("perhaps", "warn"),
            "forward_signals" => ("some", "all"),
            "key_dir" | "requirements" | "seed" | "template" => ("relative", "/absolute"),
            "prepare" => ("sometimes", "always"),
            "restart" => ("often", "3"),
            "secrets" => ("hidden", "cmd"),
            "seed_mode" => ("replace", "sync"),
            "signal_scope" => ("session", "group"),
            "stop_grace" => ("off", "1s"),
            "umask" => ("0888", "027"),
            "wait_timeout" => ("soon", "1s"),
            _ => ("perhaps", "true"),
        };
        assert!(read(&[(&name, right)], "").is_ok() && read(&[], &format!("{} = '{right}'", row.name)).is_ok());
        let expected = row.expects;
        assert_eq!(
            read(&[(&name, wrong)], ""),
            Err(format!("cannot use `{name}`: expected {expected}, found `{wrong}`"))
        );
        assert_eq!(
            read(&[], &format!("{} = '{wrong}'", row.name)),
            Err(format!("cannot use `{}` in `/e.toml`: expected {expected}, found `{wrong}`", row.name))
        );
    }
}

#[test]
fn w11_durations() {
    let milliseconds = |number| Some(WaitTimeout::After(Duration::from_millis(number)));
    for (text, expected) in [
        ("off", Some(WaitTimeout::Off)),
        (" Forever ", Some(WaitTimeout::Forever)),
        ("250ms", milliseconds(250)),
        ("90s", milliseconds(90_000)),
        ("90", milliseconds(90_000)),
        ("5 m", milliseconds(300_000)),
        ("2H", milliseconds(7_200_000)),
        ("0", None),
        ("0s", None),
        ("-1", None),
        ("1.5s", None),
        ("1d", None),
        ("s", None),
        ("", None),
        ("18446744073709551615", None),
        ("18446744073709551616", None),
    ] {
        assert_eq!(WaitTimeout::parse(text), expected, "{text:?}");
    }
    assert_eq!(milliseconds(90_000).unwrap().to_string(), "at most 90s");
}

#[test]
fn c23_the_one_reading_of_yes_and_no() {
    for text in ["1", "on", "t", "true", "y", "yes", "TRUE", " Yes "] {
        assert_eq!((boolean(text), Choice::parse(text)), (Some(true), Some(Choice::Yes)), "{text}");
    }
    for text in ["0", "off", "f", "false", "n", "no", "FALSE", " No "] {
        assert_eq!((boolean(text), Choice::parse(text)), (Some(false), Some(Choice::No)), "{text}");
    }
    for text in ["", "2", "maybe", "yes please", "ja"] {
        assert_eq!((boolean(text), Choice::parse(text)), (None, None), "{text}");
    }
    assert_eq!((boolean("auto"), Choice::parse("Auto")), (None, Some(Choice::Auto)));
    for (text, expected) in [("y", Some(true)), ("N", Some(false)), ("", None)] {
        assert_eq!(read(&[("LOAD_EX", text)], "").unwrap().puckel.load_examples, expected, "{text}");
    }
    assert!(read(&[("LOAD_EX", "maybe")], "").is_err());
}

#[test]
fn a_misspelt_setting_has_a_nearest_one() {
    for (name, expected) in [
        ("ENTRYPOINT_KEYDIR", Some("ENTRYPOINT_KEY_DIR")),
        ("ENTRYPOINT_WAIT_TIME_OUT", Some("ENTRYPOINT_WAIT_TIMEOUT")),
        ("ENTRYPOINT_MIGRAET", Some("ENTRYPOINT_MIGRATE")),
    ] {
        let found = nearest(name, TABLE.iter().map(|row| variable(row.name)));
        assert_eq!(found.as_deref(), expected, "{name}");
    }
    assert_eq!(nearest("xyz", TABLE.iter().map(|row| row.name.to_owned())), None);
    let error = Settings::read(&environment(&[("ENTRYPOINT_KEYDIR", "/k")]), None).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("did you mean `ENTRYPOINT_KEY_DIR`?"));
}

#[test]
fn the_file_shows_no_line_of_itself() {
    for (text, line) in [("a = 'sec\n", 1), ("migrate = true\n\nx = sec ret\n", 3), ("\nmigrate = ['sec']\n", 2)] {
        let error = read(&[], text).unwrap_err();
        assert!(error.starts_with(&format!("cannot read the settings file `/e.toml`: line {line}: ")), "{error}");
        assert!(!error.contains("sec") && !error.contains('\n'), "{error}");
    }
    assert_eq!(
        read(&[], "fernet_key = 'sec'"),
        Err("cannot use the setting `fernet_key` in `/e.toml`: there is none of that name".to_owned())
    );
}

#[test]
fn ports_that_others_have_set_are_not_the_users_word() {
    for link in ["tcp://10.0.0.1:5432", "udp://10.0.0.1:53"] {
        let settings = read(&[("POSTGRES_PORT", link), ("REDIS_PORT", "7000")], "").unwrap();
        assert_eq!((settings.puckel.postgres.port, settings.puckel.redis.port), (None, Some(7000)));
        assert_eq!(
            settings.warnings,
            ["`POSTGRES_PORT` is a link that Kubernetes or Docker set for a service of that name; it is not used"]
        );
        assert_eq!(settings.puckel.postgres, Parts::default());
    }
    for (text, port) in [("5432", Some(5432)), (" 1 ", Some(1)), ("65535", Some(65535)), ("", None)] {
        assert_eq!(read(&[("POSTGRES_PORT", text)], "").unwrap().puckel.postgres.port, port, "{text:?}");
    }
    for text in ["0", "65536", "-1", "http", "54 32"] {
        assert!(read(&[("REDIS_PORT", text)], "").is_err(), "{text:?}");
    }
}

#[test]
fn what_is_not_text_is_an_error_where_it_is_ours_to_read() {
    let broken = || OsString::from_vec(b"\xff".to_vec());
    for name in ["ENTRYPOINT_KEY_DIR", "POSTGRES_PASSWORD", "EXECUTOR"] {
        let environment = Environment::new([(name.into(), broken())]);
        let error = Settings::read(&environment, None).unwrap_err().to_string();
        assert_eq!(error, format!("cannot read `{name}`: expected UTF-8 text"));
    }
    let others = Environment::new([("OTHER".into(), broken()), (broken(), "x".into())]);
    assert!(Settings::read(&others, None).is_ok());
}

#[test]
fn k14_what_may_be_a_secret_is_not_in_debug_output() {
    let variables = [("POSTGRES_PASSWORD", "hush"), ("REDIS_PASSWORD", "hush"), ("POSTGRES_EXTRAS", "?password=hush")];
    let settings = read(&variables, "").unwrap();
    assert_eq!(settings.puckel.postgres.password.as_deref(), Some("hush"));
    assert!(!format!("{settings:?}").contains("hush"), "{settings:?}");
    assert!(!format!("{:?}", environment(&variables)).contains("hush"));
}

#[test]
fn the_readme_has_every_setting_with_its_default_and_no_other() {
    let readme = include_str!("../README.md");
    for row in &TABLE {
        let default = if row.default.is_empty() { String::new() } else { format!("`{}` ", row.default) };
        let start = format!("| `{}` | {default}| ", variable(row.name));
        assert!(readme.lines().any(|line| line.starts_with(&start)), "README lacks: {start}");
    }
    let words = readme.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    for word in words.filter(|word| word.starts_with(PREFIX) && word.len() > PREFIX.len()) {
        let known = word == SETTINGS_FILE_VARIABLE || TABLE.iter().any(|row| variable(row.name) == word);
        assert!(known, "README names a setting that does not exist: {word}");
    }
}

#[test]
fn the_sample_file_has_every_setting_with_its_default() {
    let sample = include_str!("../docker/entrypoint.toml");
    let settings: String = sample
        .lines()
        .filter_map(|line| line.strip_prefix('#'))
        .filter(|line| !line.starts_with(' '))
        .fold(String::new(), |text, line| text + line + "\n");
    let table: toml::Table = toml::from_str(&settings).unwrap();
    let sampled: Vec<_> = table.iter().map(|(name, value)| (name.as_str(), value.as_str().unwrap())).collect();
    assert_eq!(sampled, TABLE.iter().map(|row| (row.name, row.default)).collect::<Vec<_>>());
    // As it is, it says nothing.
    assert_eq!(read(&[], sample), read(&[], ""));
}
