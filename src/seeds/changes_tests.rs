use super::*;

#[test]
fn a_change_is_what_airflow_would_see_as_one() {
    let held = |text: &str| Held::Text(Some(Zeroizing::new(text.to_owned())));
    let text = |text: &str| Cell::Text(Zeroizing::new(text.to_owned()));
    let secret = |text: Option<&str>, same| Cell::Secret {
        text: text.map(|text| Zeroizing::new(text.to_owned())),
        flag: "is_encrypted",
        same,
    };
    for (number, (cell, held, expected)) in [
        (text("h"), held("h"), false),
        (text("h"), held("H"), true),
        (text(""), Held::Text(None), false),
        (Cell::Null, held(""), false),
        (Cell::Null, held("h"), true),
        (Cell::Number(5), held("5"), false),
        (Cell::Number(5), Held::Text(None), true),
        (Cell::Switch(true), held("true"), false),
        (Cell::Switch(true), held("0"), true),
        (Cell::Switch(false), Held::Text(None), false),
        (secret(Some("p"), Same::AsText), held("p"), false),
        (secret(Some("p"), Same::AsText), Held::Unreadable, true),
        (secret(None, Same::AsText), Held::Unreadable, true),
        (secret(None, Same::AsText), held("p"), true),
        (secret(Some("{\"a\": 1, \"b\": 2}"), Same::AsJson), held("{\"b\":2,\"a\":1}"), false),
        (secret(Some("{\"a\": 1}"), Same::AsJson), held("{\"a\": \"1\"}"), true),
        (secret(Some("{\"a\": 123456789012345678901}"), Same::AsJson), held("{\"a\": 123456789012345678902}"), true),
        (secret(Some("{\"a\": 1}"), Same::AsText), held("{\"a\":1}"), true),
        (secret(Some(""), Same::AsText), Held::Text(None), true),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(differs(&cell, &held), expected, "{number}");
    }
}
