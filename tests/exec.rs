//! E09, K07: `docker exec` into a running container, by the real Airflow's name and by ours: both see the database that the start made
//! from parts, and the key that it made.

use std::time::Duration;

use crate::engine::{DATABASE_PASSWORD, Deployment};

const PATIENCE: Duration = Duration::from_secs(300);

fn at_once<T: Sync>(all: &[T], each: impl Fn(&T) + Sync) {
    std::thread::scope(|scope| {
        for one in all {
            scope.spawn(|| each(one));
        }
    });
}

/// What is added by one name is read by the other, and no second key is made.
fn both_names_see_the_services_database_and_key(version: &str) {
    let Some(deployment) = Deployment::new(version) else { return };
    let image = deployment.image();
    deployment.postgres();
    let keys = format!("{}:/keys", deployment.volume("keys"));
    let password = format!("POSTGRES_PASSWORD={DATABASE_PASSWORD}");
    // What the official compose file says of the key: to Airflow alone that is no key.
    let variables = [
        "EXECUTOR=Local",
        "POSTGRES_HOST=postgres",
        &password,
        "ENTRYPOINT_MIGRATE=true",
        "AIRFLOW__CORE__FERNET_KEY=",
    ];
    let options = [&["-v", &*keys], &*variables.map(|variable| ["-e", variable]).concat()].concat();
    let container = deployment.run(&image, &options, &["scheduler"]);
    let fingerprint =
        deployment.log_line(&container, "Fernet key: made, and kept in `/keys/fernet.key`, fingerprint ", PATIENCE);
    deployment.log_line(&container, "the init of `airflow scheduler`", PATIENCE);

    let bare: &[&str] = &["airflow"];
    // The second one is how people called the bash entrypoint again, and got another key.
    let ours: &[&str] = &["airflow-entrypoint", "airflow"];
    let shell: &[&str] = &["/entrypoint.sh", "bash", "-c", "exec airflow \"$@\"", "airflow"];
    let exec = |name: &[&str], words: &[&str]| deployment.exec(&container, &[name, words].concat()).succeeded();
    let stories = [("first", bare, ours), ("second", ours, shell), ("third", shell, bare)];
    let stories = stories.map(|(id, writer, reader)| (id, writer, reader, deployment.secret()));
    at_once(&stories, |(id, writer, _, secret)| {
        exec(writer, &["connections", "add", id, "--conn-type", "http", "--conn-password", secret]);
    });
    let query = "select conn_id || ' ' || password from connection order by conn_id";
    let stored = deployment.exec("postgres", &["psql", "-U", "airflow", "-tAc", query]).succeeded().stdout;
    for ((id, ..), line) in stories.iter().zip(stored.lines()) {
        assert!(line.starts_with(&format!("{id} gAAAAA")), "{id} is not encrypted: {stored}");
    }
    at_once(&stories, |(id, _, reader, secret)| {
        let read = exec(reader, &["connections", "get", id, "-o", "json"]);
        assert!(read.stdout.trim_start().starts_with('['), "not the command's own output alone: {read}");
        assert!(read.stdout.contains(id) && read.stdout.contains(secret), "{read}");
    });
    let again = deployment.exec(&container, &["airflow-entrypoint", "key", "fingerprint"]).succeeded();
    assert_eq!(again.stdout.trim(), fingerprint);

    // The control: without what the start has written, Airflow sees neither.
    let alone =
        ["env", "AIRFLOW_CONFIG=/tmp/none.cfg", "/home/airflow/.local/bin/airflow", "connections", "get", "first"];
    let blind = deployment.exec(&container, &alone);
    assert!(blind.status != 0 && !blind.stdout.contains("first"), "{blind}");
}

#[test]
fn e09_k07_both_names_see_the_database_and_the_key_of_airflow_3() {
    both_names_see_the_services_database_and_key("3.3.2");
}

#[test]
fn e09_k07_both_names_see_the_database_and_the_key_of_airflow_2() {
    both_names_see_the_services_database_and_key("2.11.2");
}
