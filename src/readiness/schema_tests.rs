use super::*;

fn set(revisions: &[&str]) -> BTreeSet<String> {
    revisions.iter().map(|&revision| revision.to_owned()).collect()
}

fn history(revisions: &[&str], heads: &[&str]) -> History {
    History { revisions: set(revisions), heads: set(heads) }
}

#[test]
fn migrations_are_read_in_every_way_that_they_were_ever_written() {
    let files = [
        "\"\"\"Text\n\nRevision ID: no\nrevision history\n\"\"\"\nrevision = 'a'\ndown_revision = None\n",
        "# x\nrevision = \"b\"\ndown_revision = 'a'\nbranch_labels = None\ndepends_on = 'a'\n",
        "revision: str = \"c\"\r\ndown_revision: str | None = \"a\"  # not \"z\"\r\n",
        "revision='d'\ndown_revision = ('b', \"c\")\n",
        "revision = \"e\"\ndown_revision: Union[str, Tuple[str, ...], None] = (\n    \"d\",\n)\nother = \"x\"\n",
        "    revision = \"inner\"\nrevision_of = \"other\"\n",
        "",
    ];
    assert_eq!(History::read(files), Some(history(&["a", "b", "c", "d", "e"], &["e"])));
    assert_eq!(History::read(files[..3].iter().copied()).unwrap().heads, set(&["b", "c"]));
    assert_eq!(History::read(files[5..].iter().copied()), None);
    assert_eq!(History::read([]), None);
}

#[test]
fn only_airflow_3_has_migrations_of_the_fab_provider() {
    let mut installed = Installed::new("3.0.0", "/s/airflow/__init__.py".into()).unwrap();
    assert_eq!(Migrations::of(&installed, Line::V3, FabTables::Needed), None);
    installed.package = Some("/s/airflow".into());
    for (line, fab) in
        [(Line::V1, None), (Line::V2, None), (Line::V3, Some("/s/airflow/providers/fab/migrations/versions".into()))]
    {
        let found = Migrations::of(&installed, line, FabTables::Needed).unwrap();
        assert_eq!((found.core, found.fab), ("/s/airflow/migrations/versions".into(), fab));
    }
}

#[test]
fn a_database_is_judged() {
    let expected = Expected {
        line: Line::V3,
        core: history(&["a", "b", "c"], &["c"]),
        fab: Some(history(&["f", "g"], &["g"])),
        needs_fab: FabTables::MayBeMissing,
    };
    let stored = |core: &[&str]| Stored {
        core: set(core),
        fab: None,
        default_pool: Presence::There,
        table_before_3: Presence::Absent,
    };
    let says = |expected: &Expected, stored: &Stored| judge(expected, stored).to_string();

    assert_eq!(says(&expected, &stored(&["c"])), "the schema is at its head `c`");
    assert_eq!(says(&expected, &stored(&[])), "the database has no schema, and this Airflow's head is `c`");
    assert_eq!(says(&expected, &stored(&["b"])), "the schema is at `b`, and this Airflow's head is `c`");
    assert_eq!(says(&expected, &stored(&["a", "b"])), "the schema is at `a` and `b`, and this Airflow's head is `c`");
    let unfinished = Stored { default_pool: Presence::Absent, ..stored(&["c"]) };
    assert_eq!(says(&expected, &unfinished), "the last migration was not finished, and this Airflow's head is `c`");

    // One unknown revision among known ones is enough.
    let unknown = "the schema is at `c` and `z`, which this Airflow does not know (its head is `c`)";
    assert_eq!(says(&expected, &stored(&["c", "z"])), unknown);
    let why = |expected: &Expected, stored: &Stored| match judge(expected, stored) {
        State::Foreign(foreign) => Some(foreign.why),
        _ => None,
    };
    assert_eq!(why(&expected, &stored(&["z"])), Some(Why::Unknown));
    let old = Stored { table_before_3: Presence::There, ..stored(&["z"]) };
    assert_eq!(why(&expected, &old), Some(Why::BeforeSquash));
    let line_2 = Expected { line: Line::V2, ..expected.clone() };
    assert_eq!(why(&line_2, &old), Some(Why::Unknown));
    let line_1 = Expected { line: Line::V1, fab: None, ..expected.clone() };
    assert_eq!(says(&line_1, &unfinished), "the schema is at its head `c`");

    // The FAB provider's: compared where they are, and missed where they are needed.
    let fab = |found: &[&str]| Stored { fab: Some(set(found)), ..stored(&["c"]) };
    assert_eq!(says(&expected, &fab(&["g"])), "the schema is at its head `c` and `g`");
    assert_eq!(says(&expected, &fab(&["f"])), "the schema is at `c` and `f`, and this Airflow's head is `c` and `g`");
    assert_eq!(says(&expected, &fab(&[])), "the schema is at `c`, and this Airflow's head is `c` and `g`");
    assert_eq!(why(&expected, &fab(&["z"])), Some(Why::UnknownFab));
    let needed = Expected { needs_fab: FabTables::Needed, ..expected };
    let without = "the schema is without the tables of the FAB provider, and this Airflow's head is `c` and `g`";
    assert_eq!(says(&needed, &stored(&["c"])), without);
    assert_eq!(says(&needed, &fab(&["g"])), "the schema is at its head `c` and `g`");
    let not_installed = Expected { fab: None, ..needed };
    assert_eq!(says(&not_installed, &fab(&["z"])), "the schema is at its head `c`");
}
