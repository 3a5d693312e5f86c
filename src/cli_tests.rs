use super::*;
use crate::fernet_keys::forgetting::Forgetting;
use crate::fernet_keys::rotation::{Others, Rotation, Unread};
use crate::secret::SecretKind;

fn read(text: &str) -> Result<Invocation, String> {
    let arguments = text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
    super::read(arguments).map_err(|error| error.to_string())
}

fn run(mode: Mode, text: &str, raw: bool) -> Result<Invocation, String> {
    let words = text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
    Ok(Invocation { mode, job: Job::Command { words, raw } })
}

#[test]
fn commands_are_left_alone() {
    assert_eq!(read("webserver --help"), run(Mode::Carry, "webserver --help", false));
    assert_eq!(read(""), run(Mode::Carry, "", false));
    assert_eq!(read("-- setup x"), run(Mode::Carry, "setup x", true));
    let (text, json) = (Mode::Explain(Form::Text), Mode::Explain(Form::Json));
    assert_eq!(read("explain"), run(text, "", false));
    assert_eq!(read("explain webserver -p 1"), run(text, "webserver -p 1", false));
    assert_eq!(read("explain -- bash"), run(text, "bash", true));
    assert_eq!(read("explain --json"), run(json, "", false));
    assert_eq!(read("explain --json webserver --json"), run(json, "webserver --json", false));
    assert_eq!(read("render-cfg scheduler"), run(Mode::RenderConfig(Secrets::Hidden), "scheduler", false));
    assert_eq!(read("render-cfg --show-secrets"), run(Mode::RenderConfig(Secrets::Shown), "", false));
}

#[test]
fn verbs() {
    assert_eq!(read("setup"), Ok(Invocation { mode: Mode::Carry, job: Job::Setup }));
    assert_eq!(read("key show --yes").unwrap().job, Job::Key(KeyVerb::Show { yes: true }));
    let rotate = KeyVerb::Rotate { force: true, jwt: false, skip_unreadable: false, web: false };
    assert_eq!(read("key rotate --force").unwrap().job, Job::Key(rotate));
    let expected = Rotation::Rotate { others: Others::Ignored, unread: Unread::Stops };
    assert_eq!((rotate.rotation(), KeyVerb::Generate.rotation()), (Some(expected), None));
    let renews = |text: &str| match read(text).unwrap().job {
        Job::Key(verb) => (verb.rotation(), verb.renewal()),
        job => panic!("{job:?}"),
    };
    let both: &[SecretKind] = &[SecretKind::Web, SecretKind::Jwt];
    assert_eq!(renews("key rotate --jwt --web"), (None, Some((both, Others::Stop))));
    assert_eq!(renews("key rotate --force --web"), (None, Some((&both[..1], Others::Ignored))));
    assert_eq!(renews("key rotate").1, None);
    assert!(read("key rotate --web --skip-unreadable").unwrap_err().contains("cannot be used with"));
    let forget = Forgetting { all: true, yes: false };
    assert_eq!(read("key forget-unreadable --all").unwrap().job, Job::Key(KeyVerb::ForgetUnreadable(forget)));
    assert_eq!(KeyVerb::ForgetUnreadable(forget).rotation(), Some(Rotation::Forget(forget)));
    let export = KeyVerb::Export { form: ExportForm::K8sSecret };
    assert_eq!(read("key export --as k8s-secret").unwrap().job, Job::Key(export));
    assert!(read("key shwo").unwrap_err().contains("unrecognized subcommand `shwo`"));
    assert_eq!(read("explain setup"), Ok(Invocation { mode: Mode::Explain(Form::Text), job: Job::Setup }));
    let seed = |mode, files: &[&str]| Job::Seed { mode, files: files.iter().map(PathBuf::from).collect() };
    assert_eq!(read("seed").unwrap().job, seed(None, &[]));
    assert_eq!(read("seed --mode sync a b").unwrap().job, seed(Some(SeedMode::Sync), &["a", "b"]));
    assert_eq!(read("explain seed a"), Ok(Invocation { mode: Mode::Explain(Form::Text), job: seed(None, &["a"]) }));
    assert_eq!(read("-- seed a"), run(Mode::Carry, "seed a", true));
    assert!(read("seed --mode all").unwrap_err().contains("invalid value `all`"));
    let words = |text: &str| text.split(' ').map(OsString::from).collect::<Vec<_>>();
    assert_eq!(read("supervise a b").unwrap().job, Job::Supervise(words("a b")));
    assert_eq!(
        read("explain supervise a").unwrap(),
        Invocation { mode: Mode::Explain(Form::Text), job: Job::Supervise(words("a")) }
    );
    for text in ["init -- a --help", "init a --help"] {
        assert_eq!(read(text).unwrap().job, Job::Init(InitJob::Run(words("a --help"))), "{text}");
    }
    for text in ["init", "supervise", "init --", "init --attend", "init --attend 1 group"] {
        assert!(read(text).is_err(), "{text}");
    }
    let manner = Manner { scope: Scope::Process, withholds: true };
    for manner in [manner, Manner { scope: Scope::Group, withholds: false }] {
        let arguments = attending(7, manner).into_iter().map(OsString::from).collect();
        let job = super::read(arguments).unwrap().job;
        assert_eq!(job, Job::Init(InitJob::Attend { child: 7, manner }));
    }
    assert!(read("explain --jsno").unwrap_err().contains("unexpected argument `--jsno`"));
    assert!(read("setup now").unwrap_err().contains("unexpected argument `now`"));
    for words in [
        "init --help",
        "supervise -h",
        "key --help",
        "key",
        "--help",
        "-h",
        "setup --help",
        "explain --help",
        "render-cfg --help",
        "--version",
    ] {
        assert!(
            matches!(read(words), Ok(Invocation { job: Job::Say(text), .. }) if text.contains("airflow-entrypoint")),
            "{words}"
        );
    }
}
