//! Process 1 of real containers: our init before Airflow, several processes as equals, a terminal.

use super::{PATIENCE, scheduler};
use crate::engine::{DATABASE_PASSWORD, Deployment};

/// The most that an init may hold in memory.
const MOST: u32 = 2048;

#[test]
fn process_1_is_a_small_init_that_reaps() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    deployment.postgres();
    let container = scheduler(&deployment, &image, &["-e", "ENTRYPOINT_EPHEMERAL_KEY=true"]);
    let read = |file: &str| deployment.exec(&container, &["cat", file]).succeeded().stdout;
    let line = deployment.until(PATIENCE, || Some(read("/proc/1/cmdline")).filter(|line| line.contains("--attend")));
    assert!(!line.contains(DATABASE_PASSWORD), "{line}");
    let status = read("/proc/1/status");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let memory: u32 = memory.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(memory <= MOST, "{memory} kB");
    // What nobody waits for: a shell that leaves at once leaves its child to process 1, which ends the zombie.
    let orphan = "(sh -c 'echo $$ > /tmp/orphan' &); until [ -s /tmp/orphan ]; do :; done; cat /tmp/orphan";
    let orphan = deployment.exec(&container, &["sh", "-c", orphan]).succeeded().stdout;
    let path = format!("/proc/{}", orphan.trim());
    deployment.until(PATIENCE, || (deployment.exec(&container, &["test", "-e", &path]).status != 0).then_some(()));
}

#[test]
fn s01_the_end_of_the_scheduler_is_the_end_of_the_container() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    deployment.postgres();
    let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
    let variables = [
        "EXECUTOR=Local",
        "POSTGRES_HOST=postgres",
        "ENTRYPOINT_EPHEMERAL_KEY=true",
        "ENTRYPOINT_STOP_GRACE=60s",
        &password,
    ];
    let container = deployment.run(&image, &variables.map(|variable| ["-e", variable]).concat(), &["webserver"]);
    // Lines of each stand behind its name.
    deployment.log_line(&container, "[scheduler] ", PATIENCE);
    deployment.log_line(&container, "[api-server] ", PATIENCE);
    let kill = "import os, pathlib, signal
found = [path.parent.name for path in pathlib.Path('/proc').glob('[0-9]*/cmdline') if b'airflow\\0scheduler' in path.read_bytes()]
os.kill(min(map(int, found)), signal.SIGKILL)";
    deployment.exec(&container, &["python", "-c", kill]).succeeded();
    assert_eq!(deployment.wait(&container), 137);
    let log = deployment.logs_of(&container);
    assert!(log.contains("warning: `airflow scheduler` ended with SIGKILL; stopping the others\n"), "{log}");
}

#[test]
fn s06_a_shell_in_a_container_with_a_terminal_has_job_control() {
    let Some(deployment) = Deployment::new("3.3.2") else { return };
    let image = deployment.image();
    let job = r#"sh -c 'trap \"echo con\"\"tinued\" CONT; echo re\"\"ady; while :; do sleep 0.1; done'\n"#;
    let steps = format!(
        r#"[["$ ", "echo flags=$-\n"], ["flags=himBHs", "{job}"], ["ready", "\u001a"], ["Stopped", "fg\n"],
            ["continued", "\u0003"], ["$ ", "exit 7\n"]]"#
    );
    let shell = ["bash", "--norc", "--noprofile", "-i"];
    for init in ["true", "false"] {
        let options = ["-e", &format!("ENTRYPOINT_INIT={init}"), "-e", "PS1=$ "];
        let said = deployment.at_terminal(&image, &steps, &options, &shell);
        assert_eq!(said.status, 7, "{said}");
        assert!(!said.stdout.contains("no job control"), "{said}");
    }
}
