use super::*;

#[test]
fn versions_are_read_as_far_as_they_matter() {
    for (text, expected) in [
        ("2.11.2", Some((2, 11, 2))),
        ("3.0.0rc1", Some((3, 0, 0))),
        ("1.10.15+composer", Some((1, 10, 15))),
        ("3.1", Some((3, 1, 0))),
        (" 2.7.0\n", Some((2, 7, 0))),
        ("3", None),
        ("latest", None),
        ("", None),
        ("0.1", None),
    ] {
        let version = Version::parse(text).map(|v| (v.major, v.minor, v.patch));
        assert_eq!(version, expected, "{text:?}");
    }
}

#[test]
fn m05_c16_names_by_version() {
    for (text, migrate, conn, web, jwt) in [
        ("1.10.15", "initdb", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
        ("2.2.5", "db upgrade", "AIRFLOW__CORE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
        ("2.6.3", "db upgrade", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
        ("2.9.0", "db migrate", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__WEBSERVER__SECRET_KEY", false),
        ("3.1.0", "db migrate", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "AIRFLOW__API__SECRET_KEY", true),
    ] {
        let version = Version::parse(text).unwrap();
        assert_eq!(version.migrate_command().join(" "), migrate, "{text}");
        assert_eq!(version.sql_alchemy_conn().variable(), conn, "{text}");
        assert_eq!(version.web_secret().variable(), web, "{text}");
        assert_eq!(version.has_jwt_secret(), jwt, "{text}");
    }
}

#[test]
fn the_version_is_found_in_the_package_source() {
    assert_eq!(version_in_source("#\nversion = '1.10.15'\n"), Some("1.10.15"));
    assert_eq!(version_in_source("import x\n__version__ = \"3.3.2rc1\"\nversion = 1\n"), Some("3.3.2rc1"));
    assert_eq!(version_in_source("version = compute()\n"), None);
}

#[test]
fn the_interpreter_is_found_in_the_script() {
    for (script, expected) in [
        ("#!/opt/venv/bin/python\nimport x", Some("/opt/venv/bin/python")),
        ("#!/usr/local/bin/python3.11 -s\n", Some("/usr/local/bin/python3.11")),
        ("#!/bin/sh\n'''exec' \"/a very long/bin/python\" \"$0\" \"$@\"\n' '''\n", Some("/a very long/bin/python")),
        ("#!/usr/bin/env python\n", None),
        ("\x7fELF", None),
    ] {
        assert_eq!(interpreter(script), expected, "{script:?}");
    }
}
