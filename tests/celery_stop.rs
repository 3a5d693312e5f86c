//! S04: what `docker stop` does to a task that a Celery worker is running.

use std::time::{Duration, Instant};

use super::{Stack, worker};
use crate::engine::Deployment;

/// What the process says that supervises a task, when a signal comes to it.
const REACHED_THE_TASK: &str = "Received signal, forwarding to task subprocess";

/// A run of the DAG `long`, whose task has begun.
fn begin(stack: &Stack<'_>, run: &str) {
    let body = format!(r#"{{"dag_run_id": "{run}", "logical_date": null}}"#);
    stack.ask("POST", "/api/v2/dags/long/dagRuns", &body, &[&format!(r#""dag_run_id":"{run}""#)]);
    // In its own code: before that a signal is not for it yet.
    let path = format!("/api/v2/dags/long/dagRuns/{run}/taskInstances/work/logs/1?full_content=true");
    stack.ask("GET", &path, "", &["the long task has begun"]);
}

fn end(stack: &Stack<'_>, run: &str) -> bool {
    let path = format!("/api/v2/dags/long/dagRuns/{run}/taskInstances/work");
    let words = [r#""state":"success""#, r#""state":"failed""#];
    stack.ask("GET", &path, "", &words).contains(words[0])
}

#[test]
fn s04_docker_stop_lets_a_running_task_finish() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.build("image");
    let mut stack = Stack::start(&deployment, &image);
    begin(&stack, "finishes");
    let begun = Instant::now();
    deployment.stop(&stack.worker, 60);
    let log = deployment.logs_of(&stack.worker);
    assert_eq!(deployment.exit_status(&stack.worker), 0, "{log}");
    assert!(log.contains("Warm shutdown") && !log.contains(REACHED_THE_TASK), "{log}");
    assert!(begun.elapsed() > Duration::from_secs(10), "it was not waited for");
    assert!(end(&stack, "finishes"), "{log}");

    // The control: sent to the whole group the same signal reaches the task.
    deployment.remove(&stack.worker);
    let variables = [&stack.variables[..], &["ENTRYPOINT_SIGNAL_SCOPE=group".to_owned()]].concat();
    stack.worker = worker(&deployment, &image, &variables, &["worker"]);
    begin(&stack, "is-told");
    deployment.stop(&stack.worker, 60);
    let log = deployment.logs_of(&stack.worker);
    assert!(log.contains(REACHED_THE_TASK), "{log}");
}
