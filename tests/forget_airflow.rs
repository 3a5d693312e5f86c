//! What real Airflows do with rows that no key reads, and with the same rows once these have been forgotten, on all three kinds of databases.

use crate::databases::Kind;
use crate::home::Home;
use crate::sandbox::{V1, V2, V3, new_key};

/// Airflow's own command line in this process, and its triggers as its triggerer makes them.
const COMMON: &str = r#"
import airflow, asyncio, contextlib, datetime, os
from airflow.models import Connection, Variable
try:
    from airflow.utils.session import create_session
except ImportError:
    from airflow.utils.db import create_session
line = int(airflow.__version__.split(".")[0])
home = os.environ["AIRFLOW_HOME"]

def attempt(work):
    try:
        return repr(work())
    except BaseException as error:
        return type(error).__name__ + ": " + str(error)

def run(*words):
    if line == 1:
        from airflow.bin.cli import CLIFactory as commands
    else:
        from airflow.cli import cli_parser as commands
    def command():
        args = commands.get_parser().parse_args(words)
        args.func(args)
    with open(home + "/said", "w") as out, contextlib.redirect_stdout(out):
        ended = attempt(command)
    return ended + " " + open(home + "/said").read()

def exported(kind):
    run(kind, "export", home + "/" + kind + ".json")
    return open(home + "/" + kind + ".json").read()

def lost_trigger():
    from airflow.models.trigger import Trigger
    with create_session() as session:
        lost = session.query(Trigger).order_by(Trigger.id.desc()).first()
        session.expunge(lost)
    return lost

def trigger_runner(lost):
    from airflow.jobs.triggerer_job_runner import TriggerRunner
    runner = TriggerRunner()
    if line == 2:
        runner.update_triggers({lost.id})
    else:
        from airflow.executors.workloads import RunTrigger
        runner.to_create.append(RunTrigger(id=lost.id, classpath=lost.classpath, encrypted_kwargs=lost.encrypted_kwargs, ti=None))
        asyncio.run(runner.create_triggers())
    return list(runner.failed_triggers)

def says(text, *wanted):
    assert all(part in text for part in wanted), (text, wanted)
"#;

/// With the key of the environment: a connection, a variable, a deferred task on Airflow 2, a connection test on 3; `half` has its extra with
/// the first key and its password with the second.
const WRITE: &str = r#"
with create_session() as session:
    found = session.query(Connection).filter(Connection.conn_id == "half").first()
    name = "lost" if found else "kept"
    if found:
        found.set_password("p")
    else:
        session.add(Connection(conn_id="half", conn_type="http", extra='{"b": 2}'))
    session.add(Connection(conn_id=name, conn_type="http", host="h", password="p", extra='{"a": 1}'))
    variable = Variable(key=name)
    variable.set_val("v")
    session.add(variable)
    if line > 1:
        from airflow.models.trigger import Trigger
        place = "airflow" if line == 2 else "airflow.providers.standard"
        moment = datetime.datetime(2030, 1, 1, tzinfo=datetime.timezone.utc)
        trigger = Trigger(place + ".triggers.temporal.DateTimeTrigger", {"moment": moment})
        session.add(trigger)
        session.flush()
    if line == 2 and name == "lost":
        from airflow.models import DAG, DagRun, TaskInstance
        from airflow.operators.empty import EmptyOperator
        with DAG("d", schedule=None, start_date=moment):
            task = EmptyOperator(task_id="t")
        session.add(DagRun("d", "r", execution_date=moment, run_type="manual"))
        session.flush()
        waiting = TaskInstance(task, run_id="r", state="deferred")
        waiting.trigger_id = trigger.id
        session.add(waiting)
    if line == 3:
        from airflow.models.connection_test import ConnectionTestRequest
        session.add(ConnectionTestRequest(connection_id=name, conn_type="http", password="p", extra="{}", commit_on_success=True))
print("written")
"#;

const BEFORE: &str = r#"
says(run("connections", "get", "lost"), "Connection not found")
says(run("connections", "delete", "lost"), "InvalidToken")
says(run("connections", "add", "lost", "--conn-type", "http"), "InvalidToken")
says(run("connections", "export", home + "/connections.json"), "InvalidToken")
says(attempt(lambda: lost_trigger().kwargs), "InvalidToken")
says(attempt(lambda: trigger_runner(lost_trigger())), "InvalidToken")
if line == 3:
    from airflow.models.connection_test import ConnectionTestRequest
    with create_session() as session:
        test = session.query(ConnectionTestRequest).filter_by(connection_id="lost").one()
        says(attempt(test.to_connection), "InvalidToken")
print("as before")
"#;

const AFTER: &str = r#"
with create_session() as session:
    found = {c.conn_id: (c.host, c.get_password(), c.get_extra()) for c in session.query(Connection)}
expected = {"kept": ("h", "p", '{"a": 1}'), "half": (None, None, '{"b": 2}'), "lost": ("h", None, None)}
assert {name: found[name] for name in expected} == expected, found
assert Variable.get("kept") == "v"
says(attempt(lambda: Variable.get("lost")), "KeyError", "Variable lost does not exist")
if line == 1:
    says(run("connections", "-d", "--conn_id", "lost"), "Successfully deleted")
    says(run("connections", "-a", "--conn_id", "lost", "--conn_type", "http", "--conn_password", "new"), "Successfully added")
    run("variables", "-s", "lost", "new")
else:
    says(run("variables", "get", "lost"), "SystemExit: Variable lost does not exist")
    says(run("connections", "get", "lost", "-o", "json"), "None [", '"host": "h"', '"password": null')
    says(exported("connections"), '"half"', '"kept"', '"lost"')
    assert '"kept": "v"' in exported("variables") and "lost" not in exported("variables")
    says(run("connections", "delete", "lost"), "Successfully deleted")
    says(run("connections", "add", "lost", "--conn-type", "http", "--conn-password", "new"), "Successfully added")
    run("variables", "set", "lost", "new")
with create_session() as session:
    assert session.query(Connection).filter(Connection.conn_id == "lost").one().get_password() == "new"
assert Variable.get("lost") == "new"
if line > 1:
    from airflow.models.trigger import Trigger
    lost = lost_trigger()
    assert lost.kwargs == {"forgotten_since_no_fernet_key_read_it": True}, lost.kwargs
    [(number, error)] = trigger_runner(lost)
    assert number == lost.id and "unexpected keyword argument" in str(error), error
    with create_session() as session:
        assert "moment" in session.query(Trigger).order_by(Trigger.id).first().kwargs
if line == 2:
    from airflow.models import TaskInstance
    Trigger.submit_failure(trigger_id=lost.id, exc=error)
    with create_session() as session:
        task = session.query(TaskInstance).one()
        assert (task.state, task.next_method, task.trigger_id) == ("scheduled", "__fail__", None)
if line == 3:
    from airflow.models.connection_test import ConnectionTestRequest
    from airflow.triggers.base import BaseEventTrigger
    # As the DAG processor does with the triggers of assets.
    BaseEventTrigger.hash(lost.classpath, lost.kwargs)
    with create_session() as session:
        tests = session.query(ConnectionTestRequest)
        found = {t.connection_id: (t.password, t.extra, t.state, t.result_message) for t in tests}
        # The next test of that connection is not kept from its start.
        session.add(ConnectionTestRequest(connection_id="lost", conn_type="http"))
    lost = (None, None, "failed", "No Fernet key read its password or extra.")
    assert found == {"kept": ("p", "{}", "pending", None), "lost": lost}, found
print("as after")
"#;

/// A home whose database is ready, with this key in the file.
fn prepared(version: &'static str, kind: Option<Kind>, key: &str) -> Option<Home> {
    let home = Home::new(version, kind)?;
    home.keep(key);
    home.says(&["setup"], None, 0, "end, since all is prepared");
    Some(home)
}

fn forgotten(version: &'static str, kind: Option<Kind>) {
    let (key, lost) = (new_key(), new_key());
    let Some(home) = prepared(version, kind, &key) else { return };
    let airflow = |program: &str, key: &str, line: &str| home.python(&format!("{COMMON}{program}"), &[], key, line);
    airflow(WRITE, &key, "written");
    airflow(WRITE, &lost, "written");
    if version != V1 {
        airflow(BEFORE, &key, "as before");
    }
    let tests = if version == V3 { "connection_test_request `lost`: password, extra\n" } else { "" };
    let triggers = if version == V1 { "" } else { "trigger `2`: kwargs\n" };
    let listing = "connection `half`: password\nconnection `lost`: password, extra\n";
    home.says(
        &["key", "forget-unreadable", "--yes"],
        None,
        0,
        &format!("{listing}{tests}{triggers}variable `lost`: val\n"),
    );
    airflow(AFTER, &key, "as after");
    home.says(&["key", "rotate"], None, 0, "encrypted anew, all");
}

#[test]
fn k10_airflow_2_lives_with_what_was_forgotten_on_sqlite() {
    forgotten(V2, None);
}

#[test]
fn k10_airflow_2_lives_with_what_was_forgotten_on_postgres() {
    forgotten(V2, Some(Kind::Postgres));
}

#[test]
fn k10_airflow_2_lives_with_what_was_forgotten_on_mariadb() {
    forgotten(V2, Some(Kind::MariaDb));
}

#[test]
fn k10_airflow_3_lives_with_what_was_forgotten_on_sqlite() {
    forgotten(V3, None);
}

#[test]
fn k10_airflow_3_lives_with_what_was_forgotten_on_postgres() {
    forgotten(V3, Some(Kind::Postgres));
}

#[test]
fn k10_airflow_3_lives_with_what_was_forgotten_on_mariadb() {
    forgotten(V3, Some(Kind::MariaDb));
}

/// Its environment has no driver for MariaDB.
#[test]
fn k10_airflow_1_lives_with_what_was_forgotten_on_sqlite() {
    forgotten(V1, None);
}

#[test]
fn k10_airflow_1_lives_with_what_was_forgotten_on_postgres() {
    forgotten(V1, Some(Kind::Postgres));
}

/// The key is lost for good: a new one takes its place, and the deployment starts with it.
#[test]
fn k10_a_deployment_goes_on_without_its_key() {
    let (key, new) = (new_key(), new_key());
    let Some(home) = prepared(V3, None, &key) else { return };
    home.python(&format!("{COMMON}{WRITE}"), &[], &key, "written");
    home.says(&["setup"], None, 0, "reads all 7 encrypted values");
    home.keep(&new);
    home.says(
        &["key", "forget-unreadable", "--all", "--yes"],
        None,
        0,
        "connections that need a new extra: `half`, `kept`",
    );
    home.says(&["setup"], None, 0, "end, since all is prepared");
    home.python(&format!("{COMMON}{WRITE}"), &[], &new, "written");
    home.says(&["setup"], None, 0, "reads all 7 encrypted values");
}
