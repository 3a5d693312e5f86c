//! A login of a real Airflow ends when the secret that has signed it is rotated, and a new one works.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::prepared::{Ready, copy};
use crate::referee::venv;
use crate::running::Running;
use crate::sandbox::{Sandbox, V2, V3};

const PATIENCE: Duration = Duration::from_secs(120);
const PASSWORD: &str = "a pässword";

/// Logs in and keeps the token or the session in a file, or uses what was kept there; says whether it was let in. The server may be just
/// starting.
const PROBE: &str = r#"
import http.cookiejar, json, re, sys, time, urllib.error, urllib.parse, urllib.request
way, port, kept, password = sys.argv[1:]
base = f"http://127.0.0.1:{port}"

def ask(path, data=None, headers={}, opener=urllib.request.build_opener()):
    deadline = time.monotonic() + 90
    while True:
        try:
            with opener.open(urllib.request.Request(base + path, data, headers), timeout=30) as answer:
                return answer.status, answer.url, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.url, ""
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)

if way.endswith("token"):
    if way == "new-token":
        body = json.dumps({"username": "admin", "password": password}).encode()
        status, _, text = ask("/auth/token", body, {"Content-Type": "application/json"})
        assert status == 201, status
        open(kept, "w").write(json.loads(text)["access_token"])
    status, *_ = ask("/api/v2/connections", headers={"Authorization": "Bearer " + open(kept).read()})
else:
    jar = http.cookiejar.LWPCookieJar(kept)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    if way == "new-session":
        _, _, page = ask("/login/", opener=opener)
        token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)[1]
        form = urllib.parse.urlencode({"csrf_token": token, "username": "admin", "password": password}).encode()
        ask("/login/", form, {"Referer": base + "/login/"}, opener)
        jar.save(ignore_discard=True)
    else:
        jar.load(ignore_discard=True)
    status, url, _ = ask("/home", opener=opener)
    status = 401 if "/login" in url else status
print("in" if status == 200 else "out")
"#;

struct Deployment {
    sandbox: Sandbox,
    venv: PathBuf,
    port: u16,
    way: &'static str,
}

impl Deployment {
    fn web(&self) -> Running {
        let command = if self.way == "token" { "api-server" } else { "webserver" };
        self.sandbox.start(&[command, "-p", &self.port.to_string()])
    }

    fn stop(&self, web: Running) {
        web.signal(web.main_pid(false), Signal::SIGTERM);
        web.finish_within(PATIENCE);
    }

    /// Whether what was kept lets us in, or a new login.
    #[track_caller]
    fn lets_in(&self, login: &str) -> bool {
        let (way, kept) = (format!("{login}-{}", self.way), self.sandbox.text("kept"));
        let mut probe = Command::new(self.venv.join("bin/python"));
        let output = probe.args(["-c", PROBE, &way, &self.port.to_string(), &kept, PASSWORD]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout == b"in\n"
    }
}

fn rotated(version: &'static str, way: &'static str, flag: &str) {
    let Some(venv) = venv(&format!("airflow-{version}"), true) else { return };
    let sandbox = Sandbox::new("")
        .with("PATH", format!("{}:/usr/bin:/bin", Path::new(&venv).join("bin").display()))
        .with_path("HOME", "home")
        .with("AIRFLOW__CORE__LOAD_EXAMPLES", "False")
        .with("ENTRYPOINT_WEB_SCHEDULER", "false")
        // Each worker imports all of Airflow at each start.
        .with("AIRFLOW__WEBSERVER__WORKERS", "1")
        .with("AIRFLOW__API__WORKERS", "1")
        .with("_AIRFLOW_WWW_USER_CREATE", "true")
        .with("_AIRFLOW_WWW_USER_PASSWORD", PASSWORD);
    Ready::new(version).with(None, |kept| copy(&kept.join("airflow.db"), &sandbox.path("home")));
    sandbox.start(&["setup"]).finish_within(PATIENCE).succeeds();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let deployment = Deployment { sandbox, venv, port, way };

    let web = deployment.web();
    assert!(deployment.lets_in("new"));
    deployment.stop(web);
    // The control: a restart alone ends no login, nor on Airflow 3 does another web secret.
    if version == V3 {
        deployment.sandbox.run(&["key", "rotate", "--web"]).succeeds();
    }
    let web = deployment.web();
    assert!(deployment.lets_in("old"));
    let what = if version == V3 { "logins and API tokens end" } else { "logins end" };
    deployment.sandbox.run(&["key", "rotate", flag]).succeeds().says(&format!("info: <any>{what}, and<any>"));
    assert!(deployment.lets_in("old"), "before the restart");
    deployment.stop(web);
    let web = deployment.web();
    assert!(!deployment.lets_in("old"));
    assert!(deployment.lets_in("new"));
    deployment.stop(web);
}

#[test]
fn a_session_of_airflow_2_ends_with_the_web_secret() {
    rotated(V2, "session", "--web");
}

#[test]
fn a_token_of_airflow_3_ends_with_the_jwt_secret() {
    rotated(V3, "token", "--jwt");
}
