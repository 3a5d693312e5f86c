use super::*;

const FIRST: &str = "46BKJoQYlPPOexq0OhDZnIlNepKFf87WFwLbfzqDDho=";

fn source() -> Source {
    Source::Variable("URL".to_owned())
}

#[test]
fn verdicts() {
    let keys = FernetKeys::parse(FIRST.as_bytes()).unwrap();
    let name = keys.fingerprints();
    let mut tally = Tally::default();
    assert!(matches!(judge(Held::Nothing, &tally, &source()), Verdict::NothingEncrypted));
    tally.count(Holder::Connection, Some("one"), 1, 0);
    let Verdict::Fits(said) = judge(Held::Keys(&keys), &tally, &source()) else { panic!() };
    assert_eq!(said, format!("the Fernet key `{name}` reads the one encrypted value in the database"));
    tally.count(Holder::Connection, Some("two"), 2, 0);
    let Verdict::Fits(said) = judge(Held::Keys(&keys), &tally, &source()) else { panic!() };
    assert_eq!(said, format!("the Fernet key `{name}` reads all 3 encrypted values in the database"));
    tally.count(Holder::Variable, Some("lost\n"), 1, 1);
    tally.count(Holder::Connection, Some("half"), 2, 1);
    let Verdict::Partly(said) = judge(Held::Keys(&keys), &tally, &source()) else { panic!() };
    assert_eq!(
        said,
        format!(
            "the Fernet key `{name}` reads 4 of 6 encrypted values in the database; the others have another key: connection `half`; \
             variable `lost\\n`"
        )
    );
    let Verdict::Unknown(said) = judge(Held::Unknown(&source()), &tally, &source()) else { panic!() };
    assert!(said.starts_with("the database holds 6 encrypted values; "), "{said}");
}

#[test]
fn long_lists_are_cut_with_a_count() {
    let mut tally = Tally::default();
    for number in 0..100_000 {
        tally.count(Holder::Trigger, Some(&number.to_string()), 1, 1);
    }
    assert_eq!(tally.unread_names(), "triggers `0`, `1`, `2`, `3`, `4` and 99995 more");
    let Verdict::Misfit(error) = judge(Held::Nothing, &tally, &source()) else { panic!() };
    assert!(matches!(error, VerdictError::NoKey { values: 100_000, .. }));
}
