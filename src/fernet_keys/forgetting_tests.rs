use super::*;

fn keys() -> FernetKeys {
    FernetKeys::parse(format!("{}A=,{}A=", "a".repeat(42), "b".repeat(42)).as_bytes()).unwrap()
}

fn row(holder: Holder, table: &'static str, name: &str, columns: &[(usize, &'static str)]) -> Row {
    let value =
        |(index, column): &(usize, &'static str)| Value { index: *index, column, shape: Shape::Token, print: [0; 32] };
    let values = columns.iter().map(value).collect();
    Row { holder, table, id: "1".to_owned(), name: name.to_owned(), values }
}

fn some() -> Unreadable {
    let (password, extra) = ((0, "password"), (1, "extra"));
    let rows = vec![
        row(Holder::Connection, "connection", "both", &[password, extra]),
        row(Holder::Connection, "connection", "one\nline", &[password]),
        row(Holder::Connection, "connection", "extra", &[extra]),
        row(Holder::ConnectionTest, "connection_test_request", "tested", &[extra]),
        row(Holder::Trigger, "trigger", "7", &[(0, "kwargs")]),
        row(Holder::Variable, "variable", "v", &[(0, "val")]),
    ];
    Unreadable { rows, read: 1 }
}

fn registered(fingerprint: String) -> Option<Entry> {
    let [host, role, registered] = ["one", "scheduler", "then"].map(str::to_owned);
    Some(Entry { fingerprint, host, role, registered })
}

#[test]
fn every_row_is_named_in_one_line_of_its_own() {
    let listing = "connection `both`: password, extra\nconnection `one\\nline`: password\nconnection `extra`: extra\n\
        connection_test_request `tested`: extra\ntrigger `7`: kwargs\nvariable `v`: val\n";
    assert_eq!((some().listing().as_str(), some().values()), (listing, 7));
    assert_eq!(
        some().consequences(),
        [
            "connections that need a new password: `both`, `one\\nline`",
            "connections that need a new extra: `both`, `extra`",
            "variables to set anew: `v`",
            "triggers whose tasks fail: `7`",
            "connection tests to repeat: `tested`",
        ]
    );
    assert_eq!(Unreadable::default().consequences(), Vec::<String>::new());
}

#[test]
fn what_is_no_token_is_named() {
    for (text, shape) in
        [("gAAAAABl", Shape::Token), ("\"gAAAAABl\"\n", Shape::Token), ("", Shape::Other), ("plain", Shape::Other)]
    {
        assert_eq!(Shape::of(text), shape, "{text:?}");
    }
    let mut marked = row(Holder::Variable, "variable", "v", &[(0, "val")]);
    marked.values[0].shape = Shape::Other;
    let marked = Unreadable { rows: vec![marked], read: 1 };
    assert_eq!(marked.listing(), "variable `v`: val (no Fernet token)\n");
}

#[test]
fn what_another_key_may_read_is_not_forgotten() {
    let (keys, print) = (keys(), keys().fingerprints());
    let (first, second) = print.split_once(',').unwrap();
    for agreeing in
        [None, registered(print.clone()), registered(second.to_owned()), registered(format!("{second},{first}"))]
    {
        assert!(some().stops(&keys, agreeing).is_ok());
    }
    // A third key, wherever in the list it is.
    for list in [format!("{first},0badcafe"), format!("0badcafe,{first}"), "0badcafe".to_owned()] {
        let stopped = some().stops(&keys, registered(list)).unwrap_err();
        assert_eq!(
            stopped.to_string(),
            format!(
                "cannot forget what is not read here: `one` (scheduler) has registered the Fernet key `0badcafe`, which is not here (the \
                 keys are `{print}`)"
            )
        );
    }
    let nothing = Unreadable { read: 0, ..some() }.stops(&keys, registered(print.clone())).unwrap_err();
    let expected =
        format!("cannot forget what is not read here: the Fernet key `{print}` reads none of the 7 encrypted values");
    assert_eq!(nothing.to_string(), expected);
    // Where nothing is to be forgotten, no key is missing.
    let none = Unreadable { rows: Vec::new(), read: 0 };
    assert!(none.stops(&keys, registered("0badcafe".to_owned())).is_ok());
}
