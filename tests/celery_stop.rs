//! S04: what `docker stop` does to a task that a Celery worker is running.

use super::{PATIENCE, Stack, WORKER};

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

pub(super) fn s04_docker_stop_lets_a_running_task_finish(stack: &mut Stack<'_>, image: &str) {
    let deployment = stack.deployment;
    begin(stack, "finishes");
    std::thread::scope(|scope| {
        let stop = scope.spawn(|| deployment.stop(&stack.worker, 60));
        deployment.log_line(&stack.worker, "Warm shutdown", PATIENCE);
        assert!(!stop.is_finished(), "the task was not waited for");
        // The task ends when this is there, and not before.
        deployment.exec(&stack.worker, &["touch", "/tmp/go"]).succeeded();
    });
    let log = deployment.logs_of(&stack.worker);
    assert_eq!(deployment.exit_status(&stack.worker), 0, "{log}");
    assert!(!log.contains(REACHED_THE_TASK), "{log}");
    stack.new_worker(image, &["ENTRYPOINT_SIGNAL_SCOPE=group"], &WORKER);
    assert!(end(stack, "finishes"), "{log}");

    // The control: sent to the whole group the same signal reaches the task.
    begin(stack, "is-told");
    deployment.stop(&stack.worker, 60);
    let log = deployment.logs_of(&stack.worker);
    assert!(log.contains(REACHED_THE_TASK), "{log}");
}
