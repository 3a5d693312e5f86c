//! Tests of the program from outside: it is started as a container engine would start it, and judged by its streams, its status,
//! the files that it leaves and what the programs that it runs have seen.
//!
//! The rules: no sleeping until something has probably happened (a line, a listener or a pipe says so, and every wait has a
//! deadline); exact text and status for each error; a control beside every "nothing happened".
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "tests touch the world, and fail loudly"
)]

mod account;
mod airflow;
mod alias;
mod artifact;
mod celery;
mod client;
mod compose;
mod config;
mod config_cases;
mod containers;
mod databases;
mod deferred;
mod engine;
mod exec;
mod explain;
mod fakes;
mod forget;
mod forget_airflow;
mod forget_asked;
mod forget_kills;
mod forget_refusals;
mod ground;
mod hard_password;
mod home;
mod images;
mod init;
mod init_services;
mod interrupted;
mod key_cases;
mod key_places;
mod key_sources;
mod key_terminal;
mod key_verb;
mod keys;
mod launching;
mod leaks;
mod messages;
mod migrate;
mod migrate_airflow;
mod named_files;
mod namespace;
mod official;
mod official_compose;
mod order;
mod outcome;
mod plans;
mod points;
mod prepared;
mod process;
mod properties;
mod purity;
mod referee;
mod refused_calls;
mod registration;
mod render;
mod renewal;
mod renewal_airflow;
mod renewal_kills;
mod requirements;
mod rolling;
mod rotation;
mod rotation_airflow;
mod rotation_batches;
mod rotation_cuts;
mod rotation_given;
mod rotation_kills;
mod rotation_locks;
mod rotation_places;
mod rotation_rows;
mod rotation_status;
mod rotation_users;
mod run_as;
mod running;
mod said;
mod sandbox;
mod schema;
mod seed;
mod seed_airflow;
mod seed_base;
mod seed_races;
mod seed_refusals;
mod seed_task;
mod servers;
mod services;
mod settled;
mod stage;
mod store_kills;
mod store_mounts;
mod store_places;
mod supervise;
mod supervise_verb;
mod traced;
mod user;
mod vectors_puckel;
mod vectors_referee;
mod verdict;
mod verdict_airflow;
mod wait;
mod wait_many;
mod wait_protocol;
mod warm;
mod wire;
