//! Python packages at start: by whom, for whom, once, and without another Airflow.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::referee::venv;
use crate::sandbox::{LINES, Sandbox, V2, V3, key_mode};

/// Both kinds of requirements, a home for the user site, and a pip that tells what it was given.
fn sandbox(version: &str) -> Sandbox {
    let sandbox =
        Sandbox::new(version).with_path("HOME", "home").with("_PIP_ADDITIONAL_REQUIREMENTS", "lxml 'six >= 1'");
    sandbox.write("requirements.txt", "flask\n");
    fs::create_dir_all(sandbox.path("home/.local/bin")).unwrap();
    let tell = format!(
        "cat \"$PIP_CONSTRAINT\" > {0}; for last; do :; done; cat \"$last\" > {1}",
        sandbox.text("constraints"),
        sandbox.text("additional")
    );
    sandbox.behave("pip-install", &tell);
    sandbox
}

fn installed(sandbox: &Sandbox) -> bool {
    let calls = sandbox.calls();
    sandbox.write("calls", "");
    calls.iter().any(|call| call.starts_with("pip ") || call.starts_with("uv "))
}

#[test]
fn r03_r05_r07_what_pip_is_told() {
    for version in LINES {
        let sandbox = sandbox(version);
        let outcome = sandbox.run(&["scheduler"]);
        let file = sandbox.text("requirements.txt");
        outcome.succeeds().says(&format!(
            "info: install the requirements of `{file}` and `_PIP_ADDITIONAL_REQUIREMENTS` with pip (set <fp>)"
        ));
        let additional =
            format!("{}/airflow-entrypoint-{}/requirements.txt", sandbox.text("tmp"), nix::unistd::geteuid());
        outcome.same(sandbox.call_words()[0].join(" "), format!("pip install --user -r {file} -r {additional}"));
        outcome.same(sandbox.read("additional").as_str(), "lxml\nsix >= 1\n");
        let core = if version == V3 { format!("apache-airflow-core=={version}\n") } else { String::new() };
        outcome.same(sandbox.read("constraints"), format!("apache-airflow=={version}\n{core}"));
        outcome.same(fs::metadata(&additional).unwrap().permissions().mode() & 0o777, key_mode());
        // The programs of the packages are found, and nothing of it is left in the environment.
        let seen = sandbox.seen("airflow-scheduler");
        outcome
            .check(seen["PATH"].ends_with(&format!(":{}", sandbox.text("home/.local/bin"))), "the folder of programs");
        outcome.check(!seen.contains_key("PIP_CONSTRAINT"), "the constraint stays");
    }
}

#[test]
fn the_same_set_is_installed_once() {
    let sandbox = sandbox(V2);
    sandbox.run(&["scheduler"]).succeeds();
    assert!(installed(&sandbox));
    let outcome = sandbox.run(&["worker"]);
    outcome.succeeds().says("info: the requirements are installed already (set <fp>)");
    assert!(!installed(&sandbox));
    // Whatever it follows from: the file, the variable, Airflow.
    sandbox.write("requirements.txt", "flask==1\n");
    sandbox.run(&["scheduler"]).succeeds();
    assert!(installed(&sandbox));
    sandbox.run_with("_PIP_ADDITIONAL_REQUIREMENTS", "lxml", &["scheduler"]).succeeds();
    assert!(installed(&sandbox));
    sandbox.write("prefix/lib/python3.11/site-packages/airflow/__init__.py", "__version__ = \"2.11.3rc1\"\n");
    sandbox.run(&["scheduler"]).succeeds();
    assert!(installed(&sandbox));
    assert_eq!(sandbox.read("constraints"), "apache-airflow==2.11.3rc1\n");
    // A failure is no installation.
    sandbox.behave("pip-install", "exit 2");
    sandbox.write("requirements.txt", "flask==2\n");
    sandbox
        .run(&["scheduler"])
        .fails(2, "<lines>airflow-entrypoint: error: cannot install the requirements: `pip ...` ended with status 2\n");
    assert!(installed(&sandbox));
    sandbox.behave("pip-install", "");
    sandbox.run(&["scheduler"]).succeeds();
    assert!(installed(&sandbox));
    // What names other files may be another set tomorrow.
    for text in ["-r other.txt\n", "./package\n", "x @ file:///package\n"] {
        sandbox.write("requirements.txt", text);
        for _ in ["first", "second"] {
            sandbox.run(&["scheduler"]).succeeds();
            assert!(installed(&sandbox), "{text}");
        }
    }
}

#[test]
fn r06_credentials_in_what_pip_says_are_not_shown() {
    let sandbox = sandbox(V2);
    let says = "echo Collecting x @ https://user:token@index/x.whl; printf 'no end of http://token@index/simple' >&2";
    for (status, behind) in [(0, "airflow-entrypoint: info: "), (3, "airflow-entrypoint: error: ")] {
        sandbox.behave("pip-install", &format!("{says}; exit {status}"));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.same(outcome.code(), status);
        let shown = format!("Collecting x @ https://***@index/x.whl\nno end of http://***@index/simple{behind}");
        outcome.check(outcome.stderr.contains(&shown), &shown);
        sandbox.write("requirements.txt", "another\n");
    }
    // Whoever stays behind with the stream holds nobody up for long.
    sandbox.behave("pip-install", "echo https://user:token@index; sleep 10 &");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().check(outcome.stderr.contains("https://***@index\n"), "its line");
}

#[test]
fn options_are_arguments() {
    let sandbox = sandbox(V2).with("_PIP_ADDITIONAL_REQUIREMENTS", "--no-cache-dir lxml");
    sandbox.behave("pip-install", "");
    sandbox.run(&["scheduler"]).succeeds();
    assert!(sandbox.calls()[0].ends_with("requirements.txt --no-cache-dir lxml"), "{:?}", sandbox.calls());
}

#[test]
fn r04_only_a_service_installs() {
    for arguments in
        [&["version"][..], &["connections", "list"], &["tasks", "run", "d", "t", "x"], &["setup"], &["mycmd"]]
    {
        let sandbox = sandbox(V2);
        sandbox.run(arguments).succeeds();
        assert!(!installed(&sandbox), "{arguments:?}");
    }
}

#[test]
fn uv_is_used_in_a_virtual_environment() {
    let sandbox = sandbox(V3);
    sandbox.program("uv", &sandbox.read("prefix/bin/pip"));
    sandbox.write("prefix/pyvenv.cfg", "");
    let outcome = sandbox.run(&["scheduler"]);
    let (python, file) = (sandbox.text("prefix/bin/python"), sandbox.text("requirements.txt"));
    outcome.succeeds().check(
        sandbox.calls()[0].starts_with(&format!("uv pip install --python {python} -r {file} -r ")),
        &format!("{:?}", sandbox.calls()),
    );
    outcome.says("info: install the requirements of <any> with uv (set <fp>)");
    sandbox.run(&["scheduler"]).says("info: the requirements are installed already (set <fp>)");
}

/// A real pip, in a virtual environment of its own, with packages that are made here.
#[test]
fn r01_r03_a_requirement_that_would_change_airflow_ends_the_start() {
    let Some(referee) = venv("referee", true) else { return };
    let sandbox = Sandbox::new("");
    let made = |words: &[&str]| {
        let output =
            Command::new(referee.join("bin/python")).args(words).current_dir(sandbox.path("")).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    fs::remove_dir_all(sandbox.path("prefix")).unwrap();
    made(&["-m", "venv", "prefix"]);
    // A wheel is a zip file with two folders in it.
    let wheels = "
import sys, zipfile
for name, version, requires in (('apache_airflow', '2.11.2', ''), ('apache_airflow', '2.11.3', ''), ('tool', '1', ''), ('greedy', '1', 'apache-airflow>=2.11.3')):
    with zipfile.ZipFile(f'wheels/{name}-{version}-py3-none-any.whl', 'w') as wheel:
        info = f'{name}-{version}.dist-info'
        requires = f'Requires-Dist: {requires}\\n' if requires else ''
        package = 'airflow' if name == 'apache_airflow' else name
        wheel.writestr(f'{package}/__init__.py', f'__version__ = \"{version}\"\\n')
        wheel.writestr(f'{info}/METADATA', f'Metadata-Version: 2.1\\nName: {name}\\nVersion: {version}\\n{requires}')
        wheel.writestr(f'{info}/WHEEL', 'Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        wheel.writestr(f'{info}/RECORD', '')
";
    fs::create_dir_all(sandbox.path("wheels")).unwrap();
    made(&["-c", wheels]);
    let pip = sandbox.text("prefix/bin/pip");
    let offline = ["install", "--quiet", "--no-index", "--find-links", &*sandbox.text("wheels")];
    let first = Command::new(&pip).args(offline).arg("apache-airflow==2.11.2").output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    sandbox.program("airflow", &format!("#!{}\nprint('ran')\n", sandbox.text("prefix/bin/python")));
    let sandbox = sandbox
        .with("PIP_NO_INDEX", "1")
        .with_path("PIP_FIND_LINKS", "wheels")
        .with("PIP_DISABLE_PIP_VERSION_CHECK", "1")
        .with("ENTRYPOINT_MIGRATE", "false")
        .with("ENTRYPOINT_WAIT_TIMEOUT", "off");
    let version = || sandbox.read("prefix/lib/python3.11/site-packages/airflow/__init__.py");
    sandbox.write("requirements.txt", "tool\n");
    let outcome = sandbox.run(&["scheduler"]);
    outcome.succeeds().same(outcome.stdout.as_str(), "ran\n");
    assert!(sandbox.path("prefix/lib/python3.11/site-packages/tool/__init__.py").exists(), "{outcome:?}");
    for requirement in ["greedy", "apache-airflow==2.11.3", "no-such-package"] {
        sandbox.write("requirements.txt", format!("{requirement}\n"));
        let outcome = sandbox.run(&["scheduler"]);
        outcome.fails(
            1,
            "<lines>airflow-entrypoint: error: cannot install the requirements: `pip ...` ended with status 1\n",
        );
        outcome.same(outcome.stdout.as_str(), "").same(version().as_str(), "__version__ = \"2.11.2\"\n");
    }
    // The control: without us pip does change it.
    let control = Command::new(&pip).args(offline).arg("greedy").output().unwrap();
    assert!(control.status.success() && version().contains("2.11.3"), "{}", String::from_utf8_lossy(&control.stderr));
}
