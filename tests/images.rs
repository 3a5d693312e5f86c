//! What the containers of tests are made from. Each image is built once for what goes into it, and serves all tests and runs until
//! another one of its kind is built.

use std::fs::{self, File};
use std::process::Command;

use crate::engine::{Deployment, docker};
use crate::prepared::hash;
use crate::said::{Said, repository, run};
use crate::sandbox::BINARY;

/// Where all images of tests are.
const REPOSITORY: &str = "airflow-entrypoint-test";
/// Where the local Airflow image has what is installed.
pub(crate) const INSTALLED: &str = "/home/airflow/.local";

/// What the Dockerfile reads, with the executable that is tested instead of one that is compiled.
const BUILD: &str = r#"
executable=$1; shift
tar -c Dockerfile Cargo.toml Cargo.lock .cargo docker/templates src -C "${executable%/*}" "${executable##*/}" |
    docker build --force-rm --build-arg EXECUTABLE="${executable##*/}" "$@" -
"#;

/// PostgreSQL whose data folder holds the database of a new Airflow. No label: containers would inherit it.
const PREPARE: &str = r#"
name=$1 network=$2 postgres=$3 airflow=$4 image=$5
trap 'docker rm -f -v "$name" >/dev/null' EXIT
docker run -d --name "$name" --network "$network" -e POSTGRES_USER=airflow -e POSTGRES_PASSWORD=for-now -e POSTGRES_DB=airflow \
    "$postgres" postgres -c fsync=off
timeout 60 sh -c 'until docker exec "$1" pg_isready --quiet --host=127.0.0.1; do sleep 0.25; done' wait "$name"
docker run --rm --network "$network" -e AIRFLOW__DATABASE__SQL_ALCHEMY_CONN="postgresql+psycopg2://airflow:for-now@$name/airflow" \
    "$airflow" airflow db migrate
docker stop -t 60 "$name"
docker commit --change 'ENV POSTGRES_PASSWORD=' "$name" "$image"
"#;

/// The file that says who uses or makes something.
fn lock_file(name: &str) -> File {
    let name = format!("{REPOSITORY}-{}.lock", name.replace(['/', ':'], "-"));
    File::options().append(true).create(true).open(std::env::temp_dir().join(name)).unwrap()
}

fn id(image: &str) -> Vec<u8> {
    docker(&["image", "inspect", "--format", "{{.Id}}", image]).succeeded().stdout.into_bytes()
}

/// The image that the first stage of a build has ended with, where the builder makes images of stages.
fn first_stage(said: &Said) -> Option<String> {
    let second = said.stdout.match_indices(" : FROM ").nth(1)?.0;
    let line = said.stdout[..second].lines().rev().find_map(|line| line.strip_prefix(" ---> "))?;
    Some(line.to_owned())
}

impl Deployment {
    /// The tag of a local image, which is built if it is not there. Within a run of all tests it is looked for once.
    pub(crate) fn local_image(&self, name: &str) -> String {
        let seen = std::env::var_os("AIRFLOW_ENTRYPOINT_RUN")
            .map(|folder| std::path::Path::new(&folder).join(format!("image-{}", name.replace(':', "-"))));
        if let Some(tag) = seen.as_ref().and_then(|seen| fs::read_to_string(seen).ok()) {
            return tag;
        }
        let script = "docker/local/build \"$1\" >&2; docker/local/build --tag \"$1\"";
        let said = run(Command::new("bash").args(["-ec", script, "build", name])).succeeded();
        let tag = said.stdout.trim().to_owned();
        if let Some(seen) = seen {
            let whole = seen.with_extension(&self.id);
            fs::write(&whole, &tag).unwrap();
            fs::rename(whole, seen).unwrap();
        }
        tag
    }

    fn airflow(&self) -> String {
        self.local_image(&format!("airflow:{}", self.version))
    }

    /// The image of the Dockerfile with the executable that is tested, on the local Airflow image.
    pub(crate) fn image(&self) -> String {
        let airflow = self.airflow();
        let read = |path: &str| fs::read(repository().join(path)).unwrap();
        let inputs = [read(BINARY), read("Dockerfile"), id(&airflow), BUILD.into()];
        let kind = format!("entrypoint-{}", self.version);
        self.made_once(&kind, &inputs, |image| self.build(image, &[]))
    }

    /// The same as an image of this deployment's own, which it may remove and build again. Its layers are those of the other one.
    pub(crate) fn own_image(&self, name: &str) -> String {
        self.image();
        let image = self.name(name);
        self.build(&image, &["--label", &format!("built-as={image}")]);
        image
    }

    /// The image of the Dockerfile as anyone builds it, from the sources.
    pub(crate) fn image_from_source(&self) -> String {
        let image = self.name("from-source");
        let arguments = [("RUST_IMAGE", self.local_image("rust")), ("AIRFLOW_IMAGE", self.airflow())];
        let arguments = arguments.map(|(name, value)| format!("{name}={value}"));
        let options = ["--build-arg", &arguments[0], "--build-arg", &arguments[1]];
        let building = lock_file("from-source");
        building.lock().unwrap();
        let said = run(Command::new("docker").args(["build", "-t", &image]).args(options).arg(".")).succeeded();
        // The dependencies stay compiled for the next one, and what was compiled for the one before goes.
        let kept = format!("{REPOSITORY}/from-source-stage");
        let old = docker(&["images", "--quiet", &kept]).stdout;
        if let Some(stage) = first_stage(&said).filter(|stage| stage != old.trim()) {
            docker(&["tag", &stage, &kept]).succeeded();
            docker(&["rmi", old.trim()]);
        }
        image
    }

    fn build(&self, image: &str, options: &[&str]) -> Said {
        let airflow = self.airflow();
        // The executable is copied in an image that is there anyway.
        let images = [format!("AIRFLOW_IMAGE={airflow}"), format!("RUST_IMAGE={airflow}")];
        let given = ["-t", image, "--build-arg", &images[0], "--build-arg", &images[1]];
        run(Command::new("bash").args(["-euo", "pipefail", "-c", BUILD, "build", BINARY]).args(given).args(options))
            .succeeded()
    }

    /// PostgreSQL with the database of this Airflow, as `db migrate` leaves an empty one.
    pub(crate) fn prepared_image(&self) -> String {
        let (postgres, airflow) = (self.local_image("postgres"), self.airflow());
        let inputs = [id(&postgres), id(&airflow), PREPARE.into()];
        self.made_once(&format!("postgres-{}", self.version), &inputs, |image| {
            let words = [&*self.name("prepare"), &*self.id, &*postgres, &*airflow, image];
            run(Command::new("bash").args(["-euo", "pipefail", "-c", PREPARE, "prepare"]).args(words)).succeeded()
        })
    }

    /// A volume with what the local Airflow image has installed, where the engine keeps images in a file system of a process's: to
    /// read through that costs an Airflow that starts as much time again.
    pub(crate) fn installed(&self) -> Option<&str> {
        let make = || {
            let driver = docker(&["info", "--format", "{{.Driver}}"]).succeeded().stdout;
            driver.trim().contains("fuse").then(|| {
                let airflow = self.airflow();
                let making = lock_file("installed");
                making.lock().unwrap();
                let kind = format!("{REPOSITORY}-installed-{}", self.version);
                let volume = format!("{kind}-{}", hash(&[id(&airflow)]));
                if docker(&["volume", "inspect", &volume]).status != 0 {
                    // A new volume takes over what is there. One that no container uses goes.
                    let fill = ["run", "--rm", "-v", &format!("{volume}:{INSTALLED}"), &airflow, "true"];
                    let filled = docker(&fill);
                    let old = docker(&["volume", "ls", "--quiet", "--filter", &format!("name={kind}-")]).stdout;
                    old.lines().filter(|name| filled.status != 0 || *name != volume).for_each(|name| {
                        docker(&["volume", "rm", name]);
                    });
                    filled.succeeded();
                }
                volume
            })
        };
        self.installed.get_or_init(make).as_deref()
    }

    /// The image of this kind for these inputs. It stays while this deployment is there; those of other inputs that nobody uses go
    /// when a new one has been built.
    fn made_once(&self, kind: &str, inputs: &[Vec<u8>], make: impl FnOnce(&str) -> Said) -> String {
        let tag = hash(inputs);
        let image = format!("{REPOSITORY}/{kind}:{tag}");
        let making = lock_file(kind);
        making.lock().unwrap();
        let used = lock_file(&image);
        used.lock_shared().unwrap();
        self.in_use.lock().unwrap().push(used);
        if docker(&["image", "inspect", &image]).status != 0 {
            let said = make(&image);
            // The next build finds its layers.
            if let Some(stage) = first_stage(&said) {
                docker(&["tag", &stage, &format!("{REPOSITORY}/{kind}-stage:{tag}")]).succeeded();
            }
            let mine = |line: &&str| {
                line.strip_prefix(&format!("{REPOSITORY}/{kind}")).is_some_and(|rest| rest.starts_with([':', '-']))
            };
            let all = docker(&["images", "--format", "{{.Repository}}:{{.Tag}}"]).stdout;
            for old in all.lines().filter(mine).filter(|line| !line.ends_with(&format!(":{tag}"))) {
                // A stage goes with its image.
                if lock_file(&old.replace("-stage:", ":")).try_lock().is_ok() {
                    docker(&["rmi", old]);
                }
            }
        }
        image
    }
}
