use super::*;

fn lookup(name: &str) -> Option<&'static str> {
    match name {
        "EMPTY" => Some(""),
        "LINES" => Some("a\nb"),
        "PERCENT" => Some("p%40w%%"),
        "SET" => Some("value"),
        "TRICK" => Some("${SET} $SET $$"),
        _ => None,
    }
}

fn rendered(template: &str) -> Result<String, String> {
    render(template, &lookup)
        .map_err(|error| format!("line {}, column {}: {}", error.line, error.column, error.problem))
}

#[test]
fn all_forms() {
    for (template, expected) in [
        ("no reference at all }", "no reference at all }"),
        ("$SET/${SET}", "value/value"),
        ("$$SET $${SET}", "$SET ${SET}"),
        ("${SET:-d} ${EMPTY:-d} ${EMPTY-d} ${NONE:-d} ${NONE-d}", "value d  d d"),
        ("[${SET:+v}] [${EMPTY:+v}] [${EMPTY+v}] [${NONE:+v}] [${NONE+v}]", "[v] [] [v] [] []"),
        ("${SET:?m} ${EMPTY?m}", "value "),
        ("${NONE:-${ALSO_NONE:-${SET}}}", "value"),
        ("${SET:-${NONE}}", "value"),
        ("${SET:+a = ${SET}\n}b", "a = value\nb"),
        ("${NONE:+${ALSO_NONE} $$ ${X:-}}!", "!"),
        ("${SET:-$}", "value"),
    ] {
        assert_eq!(rendered(template).as_deref(), Ok(expected), "{template:?}");
    }
}

#[test]
fn c21_a_value_is_never_looked_at_again() {
    assert_eq!(rendered("${TRICK}").as_deref(), Ok("${SET} $SET $$"));
    assert_eq!(rendered("${NONE:-${TRICK}}").as_deref(), Ok("${SET} $SET $$"));
}

#[test]
fn c03_percent_is_doubled_in_values_alone() {
    assert_eq!(rendered("%(x)s ${PERCENT}").as_deref(), Ok("%(x)s p%%40w%%%%"));
}

#[test]
fn a_text_takes_values_as_they_are() {
    assert_eq!(interpolate("%(x)s ${PERCENT} $LINES $$", &lookup).as_deref(), Ok("%(x)s p%40w%% a\nb $"));
}

#[test]
fn errors_have_line_and_column_and_no_value() {
    for (template, expected) in [
        ("a\nb ${NONE}", "line 2, column 3: `NONE` is not set"),
        ("é$NONE", "line 1, column 2: `NONE` is not set"),
        ("${NONE:?say so}", "line 1, column 1: `NONE` is not set: say so"),
        ("${EMPTY:?}", "line 1, column 1: `EMPTY` is not set"),
        ("${LINES}", "line 1, column 1: the value of `LINES` has a line end in it"),
        ("${SET", "line 1, column 1: expected `}` or one of `:-` `-` `:?` `?` `:+` `+` behind `SET`"),
        ("${NONE:-x", "line 1, column 1: expected a closing `}`"),
        ("${SET:-x", "line 1, column 1: expected a closing `}`"),
        ("${}", "line 1, column 1: expected a name behind `${`"),
        ("cost: $5", "line 1, column 7: expected a name, `{` or `$` behind `$` (write `$$` for a dollar)"),
        ("$", "line 1, column 1: expected a name, `{` or `$` behind `$` (write `$$` for a dollar)"),
    ] {
        assert_eq!(rendered(template), Err(expected.to_owned()), "{template:?}");
    }
}

#[test]
fn the_line_at_fault_is_shown_without_what_may_be_secret() {
    for (template, expected) in [
        ("[a]\nx = ${NONE}\n", "`NONE` is not set\n2 | x = ${NONE.\n  |     ^"),
        (
            "url = a:pw@${NONE:-${ALSO}}/d",
            "`ALSO` is not set\n1 | url = .............${ALSO....\n  |                    ^",
        ),
        (
            "é: pw $5 pw",
            "expected a name, `{` or `$` behind `$` (write `$$` for a dollar)\n1 | é: .. $5 ..\n  |       ^",
        ),
        ("pw $NONE pw", "`NONE` is not set\n1 | .. $NONE ..\n  |    ^"),
    ] {
        assert_eq!(render(template, &lookup).unwrap_err().to_string(), expected, "{template}");
    }
}
