use super::*;

const FIRST: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";
const SECOND: &str = "7qmma0wOpce2BrpK8rdF8708-tO0ikF09KaKpnOyE9I=";
const AIRFLOWS: &str = "AIRFLOW__CORE__FERNET_KEY";
const COMMAND: &str = "AIRFLOW__CORE__FERNET_KEY_CMD";

/// One situation, for the Fernet key on Airflow 3 unless said otherwise.
struct Case {
    kind: SecretKind,
    variables: Vec<(&'static str, String)>,
    stored: Stored,
    configured: Option<(&'static str, &'static str)>,
    creation: Creation,
    fernet: Option<Decision>,
    /// What the command of `COMMAND` prints, if it can be asked.
    printed: Option<Result<Zeroizing<Vec<u8>>, String>>,
}

fn case() -> Case {
    Case {
        kind: SecretKind::Fernet,
        variables: vec![],
        stored: Stored::Absent,
        configured: None,
        creation: Creation::Allowed,
        fernet: None,
        printed: None,
    }
}

fn secret(kind: SecretKind, text: &str) -> Secret {
    Secret::parse(kind, text.as_bytes()).unwrap()
}

fn kept(kind: SecretKind, text: &str) -> Stored {
    Stored::Present { content: Secret::parse(kind, text.as_bytes()), facts: "facts".to_owned(), mode: 0o600 }
}

fn variable(name: &str) -> Source {
    Source::Variable(name.to_owned())
}

fn given(text: &str, name: &str) -> Decision {
    Decision::Use { secret: secret(SecretKind::Fernet, text), source: variable(name) }
}

impl Case {
    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.variables.push((name, value.to_owned()));
        self
    }

    fn decide(self) -> (Result<Decision, String>, Vec<String>) {
        let variables = self.variables.into_iter().map(|(name, value)| (name.into(), value.into()));
        let mut warnings = Vec::new();
        let configured = |option: AirflowOption| {
            let name = format!("[{}] {}", option.section(), option.key());
            let (_, value) = self.configured.filter(|(known, _)| *known == name)?;
            Some((value.to_owned(), Source::Option { file: "/a.cfg".into(), name }))
        };
        let decision = decide(
            self.kind,
            &Evidence {
                environment: &Environment::new(variables),
                stored: &|kind| if kind == self.kind { self.stored.clone() } else { Stored::Absent },
                configured: &configured,
                command: &|name| self.printed.clone().filter(|_| name == COMMAND),
                key_dir: Path::new("/keys"),
                creation: &self.creation,
                version: Version::parse("3.3.2").unwrap(),
            },
            self.fernet.as_ref(),
            &mut warnings,
        );
        (decision.map_err(|error| error.to_string()), warnings)
    }

    /// The decision, with the warning that the user's own `airflow.cfg` has another key.
    fn beside_another(self) -> Result<Decision, String> {
        let (decision, warnings) = self.decide();
        assert!(warnings.len() == 1 && warnings[0].contains(" holds another Fernet key "), "{warnings:?}");
        decision
    }

    /// The decision, of which nothing has to be warned.
    fn quietly(self) -> Result<Decision, String> {
        let (decision, warnings) = self.decide();
        assert_eq!(warnings, Vec::<String>::new());
        decision
    }
}

#[test]
fn k06_the_first_source_that_is_set_wins() {
    let configured = || Case { configured: Some(("[core] fernet_key", FIRST)), ..case() };
    let stored = || Case { stored: kept(SecretKind::Fernet, SECOND), ..configured() };
    let in_file = Source::Option { file: "/a.cfg".into(), name: "[core] fernet_key".to_owned() };
    let from_file =
        Decision::Use { secret: secret(SecretKind::Fernet, SECOND), source: Source::File("/keys/fernet.key".into()) };

    assert_eq!(case().quietly(), Ok(Decision::Generate("/keys/fernet.key".into())));
    let from_configuration = Decision::Use { secret: secret(SecretKind::Fernet, FIRST), source: in_file };
    assert_eq!(configured().quietly(), Ok(from_configuration));
    assert_eq!(stored().beside_another(), Ok(from_file.clone()));
    assert_eq!(stored().with("FERNET_KEY", SECOND).beside_another(), Ok(given(SECOND, "FERNET_KEY")));
    assert_eq!(
        stored().with("FERNET_KEY", SECOND).with(AIRFLOWS, SECOND).beside_another(),
        Ok(given(SECOND, AIRFLOWS))
    );
    // K05: empty is unset.
    assert_eq!(stored().with("FERNET_KEY", "").with(AIRFLOWS, "").beside_another(), Ok(from_file));
    assert_eq!(case().with(AIRFLOWS, "").quietly(), Ok(Decision::Generate("/keys/fernet.key".into())));
}

#[test]
fn a_source_that_cannot_be_used_is_an_error() {
    let not_a_key =
        "expected 32 bytes in url-safe base64 (44 characters), found 3 characters that end in the middle of a byte";
    let stored = || Case { stored: kept(SecretKind::Fernet, FIRST), ..case() };
    for name in [AIRFLOWS, "FERNET_KEY"] {
        let error = format!("cannot use the Fernet key of `{name}`: {not_a_key}");
        assert_eq!(stored().with(name, "abc").quietly(), Err(error));
    }
    let damaged = Case { stored: kept(SecretKind::Fernet, "abc"), ..case() };
    assert_eq!(damaged.quietly(), Err(format!("cannot use the Fernet key of `/keys/fernet.key`: {not_a_key} (facts)")));
    let unreadable = Case { stored: Stored::Unreadable(Unreadable::Denied("cause".to_owned())), ..case() };
    assert_eq!(unreadable.quietly(), Err("cannot read the Fernet key `/keys/fernet.key`: cause".to_owned()));
    let configured = Case { configured: Some(("[core] fernet_key", "abc")), ..case() };
    assert_eq!(
        configured.quietly(),
        Err(format!("cannot use the Fernet key of `[core] fernet_key` in `/a.cfg`: {not_a_key}"))
    );
    // What was never filled in is no value.
    for text in ["$FERNET_KEY", "{FERNET_KEY}"] {
        let reference = Case { configured: Some(("[core] fernet_key", text)), ..case() };
        assert_eq!(reference.quietly(), Ok(Decision::Generate("/keys/fernet.key".into())), "{text}");
    }
}

#[test]
fn a_given_key_and_another_on_the_volume_are_both_used() {
    let both = |stored: &str| Case { stored: kept(SecretKind::Fernet, stored), ..case() };
    let list = format!("{FIRST},{SECOND}");
    let (decision, warnings) = both(SECOND).with("FERNET_KEY", FIRST).decide();
    assert_eq!(decision, Ok(given(&list, "FERNET_KEY")));
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].ends_with("hold different Fernet keys; both are handed to Airflow, `FERNET_KEY` first"));
    // None twice, in any order.
    let (decision, _) = both(&list).with("FERNET_KEY", SECOND).decide();
    assert_eq!(decision, Ok(given(&format!("{SECOND},{FIRST}"), "FERNET_KEY")));
    assert_eq!(both(SECOND).with("FERNET_KEY", &list).quietly(), Ok(given(&list, "FERNET_KEY")));
    // Of other secrets one is used.
    let web = Case { kind: SecretKind::Web, stored: kept(SecretKind::Web, "stored"), ..case() };
    let source = variable("AIRFLOW__API__SECRET_KEY");
    let expected = Decision::Use { secret: secret(SecretKind::Web, "given"), source };
    assert_eq!(web.with("AIRFLOW__API__SECRET_KEY", "given").quietly(), Ok(expected));
    // What cannot be read stays on the volume, and is said.
    for stored in [kept(SecretKind::Fernet, "abc"), Stored::Unreadable(Unreadable::Denied("cause".to_owned()))] {
        let (decision, warnings) = Case { stored, ..case() }.with("FERNET_KEY", FIRST).decide();
        assert_eq!((decision, warnings.len()), (Ok(given(FIRST, "FERNET_KEY")), 1));
    }
}

#[test]
fn x03_x07_what_airflow_fetches_is_left_to_it() {
    for name in ["AIRFLOW__CORE__FERNET_KEY_CMD", "AIRFLOW__CORE__FERNET_KEY_SECRET"] {
        let left = || Case { stored: kept(SecretKind::Fernet, SECOND), ..case() }.with(name, "x");
        assert_eq!(left().quietly(), Ok(Decision::Leave { source: variable(name), secret: None }));
        assert_eq!(
            left().with("FERNET_KEY", FIRST).quietly(),
            Ok(Decision::Leave { source: variable(name), secret: None })
        );
        // As with Airflow itself, its plain variable hides it.
        let (decision, _) = left().with(AIRFLOWS, FIRST).decide();
        assert_eq!(decision, Ok(given(&format!("{FIRST},{SECOND}"), AIRFLOWS)));
    }
    let configured = Case { configured: Some(("[core] fernet_key_cmd", "cat x")), ..case() };
    let source = Source::Option { file: "/a.cfg".into(), name: "[core] fernet_key_cmd".to_owned() };
    assert_eq!(configured.quietly(), Ok(Decision::Leave { source, secret: None }));
}

#[test]
fn x03_what_a_command_prints_is_looked_at() {
    let printed = |text: Result<&str, &str>| {
        let printed = text.map(|text| Zeroizing::new(text.as_bytes().to_vec())).map_err(str::to_owned);
        Case { printed: Some(printed), ..case() }.with(COMMAND, "cat x")
    };
    let known = Decision::Leave { source: variable(COMMAND), secret: Some(secret(SecretKind::Fernet, FIRST)) };
    assert_eq!(printed(Ok(&format!("{FIRST}\n"))).quietly(), Ok(known.clone()));
    assert!(
        printed(Ok("abc")).quietly().unwrap_err().starts_with(&format!("cannot use the Fernet key of `{COMMAND}`: "))
    );
    let failed = printed(Err("why")).quietly().unwrap_err();
    assert!(failed.contains(COMMAND) && failed.ends_with("why"), "{failed}");
    // What is known serves to derive others from.
    let web = Case { kind: SecretKind::Web, creation: Creation::UseOnly, fernet: Some(known), ..case() };
    assert_eq!(web.quietly(), Ok(Decision::Derive));
}

#[test]
fn d05_h04_without_a_place_none_is_made() {
    let refused = || Creation::Refused("why".to_owned());
    let fernet = || Some(given(FIRST, "FERNET_KEY"));
    let generated = || Some(Decision::Generate("/keys/fernet.key".into()));
    let no_place = |kind: &str| Err(format!("cannot create a {kind} in `/keys`: why"));
    let file = |name: &str| Ok(Decision::Generate(Path::new("/keys").join(name)));
    for (kind, creation, fernet, expected) in [
        (SecretKind::Fernet, Creation::Allowed, None, file("fernet.key")),
        (SecretKind::Fernet, refused(), None, no_place("Fernet key")),
        (SecretKind::Fernet, Creation::UseOnly, None, Ok(Decision::Without)),
        (SecretKind::Fernet, Creation::Later, None, Ok(Decision::Without)),
        (SecretKind::Web, Creation::Later, fernet(), Ok(Decision::Without)),
        (SecretKind::Jwt, Creation::Allowed, fernet(), file("jwt_secret.key")),
        (SecretKind::Jwt, refused(), fernet(), Ok(Decision::Derive)),
        (SecretKind::Jwt, Creation::UseOnly, fernet(), Ok(Decision::Derive)),
        (
            SecretKind::Jwt,
            refused(),
            Some(Decision::Leave { source: variable("X"), secret: None }),
            no_place("JWT secret"),
        ),
        (SecretKind::Jwt, Creation::UseOnly, Some(Decision::Without), Ok(Decision::Without)),
        (SecretKind::Jwt, Creation::Allowed, generated(), file("jwt_secret.key")),
        (SecretKind::Web, Creation::Allowed, generated(), file("web_secret.key")),
        (SecretKind::Web, refused(), fernet(), Ok(Decision::Derive)),
        (SecretKind::Web, refused(), Some(Decision::Without), Ok(Decision::WithoutPlace("why".to_owned()))),
    ] {
        let what = format!("{kind} with {creation:?} and {fernet:?}");
        assert_eq!(Case { kind, creation, fernet, ..case() }.quietly(), expected, "{what}");
    }
}

#[test]
fn k18_a_published_default_is_no_secret() {
    let web = || Case { kind: SecretKind::Web, ..case() };
    let (decision, warnings) = web().with("AIRFLOW__API__SECRET_KEY", "temporary_key").decide();
    assert_eq!(decision, Ok(Decision::Generate("/keys/web_secret.key".into())));
    assert_eq!(
        warnings,
        ["`AIRFLOW__API__SECRET_KEY` holds a published default, which protects nothing; it is not used"]
    );
    let configured = Case { configured: Some(("[api] secret_key", "temporary_key")), ..web() };
    assert_eq!(configured.quietly(), Ok(Decision::Generate("/keys/web_secret.key".into())));
    // C16: under the name of another line it counts too.
    let old = "AIRFLOW__WEBSERVER__SECRET_KEY";
    let expected = Decision::Use { secret: secret(SecretKind::Web, "mine"), source: variable(old) };
    assert_eq!(web().with(old, "mine").quietly(), Ok(expected));
}

#[test]
fn facts_are_what_ls_would_say() {
    let shown = facts(45, 50_000, 0, 0o100_640, "2026-01-31T08:30:00Z");
    assert_eq!(shown, "45 bytes, owner 50000:0, mode 0640, modified 2026-01-31T08:30:00Z");
}

#[test]
fn key_files_that_everybody_can_get_at_are_told_in_one_line() {
    let told = |modes: [u32; 3], dir: &str| {
        let stored = |kind| match modes[SecretKind::ALL.iter().position(|&known| known == kind).unwrap()] {
            0 => Stored::Absent,
            mode => Stored::Present { content: Err("damaged".to_owned()), facts: String::new(), mode },
        };
        open_to_everybody(SecretKind::ALL.into_iter(), &stored, Path::new(dir))
    };
    let one = "everybody can get at `/k/fernet.key` (mode 0644); `chmod o= /k/fernet.key` keeps it to owner and group";
    let two = "everybody can get at `/k/web_secret.key` (mode 0604), `/k/jwt_secret.key` (mode 0602); \
               `chmod o= /k/web_secret.key /k/jwt_secret.key` keeps it to owner and group";
    assert_eq!(told([0o100_644, 0o600, 0], "/k").as_deref(), Some(one));
    assert_eq!(told([0o640, 0o604, 0o602], "/k").as_deref(), Some(two));
    assert_eq!(told([0o660, 0o600, 0], "/k"), None);
    assert_eq!(told([0o644; 3], "/run/secrets"), None);
}
