//! Deployments that Compose makes: what belongs to one is a project with the deployment's name, and is removed with it.

use std::process::Command;

use crate::engine::Deployment;
use crate::said::{Said, run};

impl Deployment {
    /// Runs one of our scripts with a Compose project of its own.
    pub(crate) fn compose(&self, words: &[&str]) -> Said {
        // Of the ports below those that the kernel hands out.
        let port = 20_000 + u32::from_str_radix(&self.id[self.id.len() - 4..], 16).unwrap() % 10_000;
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("COMPOSE_PROJECT_NAME", &self.id).env("WEB_PORT", port.to_string());
        command.env("AIRFLOW_VERSION", &self.version).env("ENTRYPOINT_IMAGE", self.name("up"));
        run(&mut command)
    }

    /// The containers of our Compose project: service and id.
    pub(crate) fn compose_containers(&self) -> Vec<(String, String)> {
        let label = format!("label=com.docker.compose.project={}", self.id);
        let format = "{{.Label \"com.docker.compose.service\"}} {{.ID}}";
        let said = self.docker(&["ps", "-a", "--filter", &label, "--format", format]).stdout;
        said.lines().filter_map(|line| line.split_once(' ')).map(|(name, id)| (name.into(), id.into())).collect()
    }

    /// The containers and volumes of our Compose project.
    pub(crate) fn compose_leftovers(&self) -> String {
        let label = format!("label=com.docker.compose.project={}", self.id);
        let containers = self.docker(&["ps", "-aq", "--filter", &label]).stdout;
        containers + &self.docker(&["volume", "ls", "-q", "--filter", &label]).stdout
    }
}
