use super::*;
use crate::verdict::Holder;

fn key(letter: char) -> FernetKeys {
    FernetKeys::parse(format!("{}A=", String::from(letter).repeat(42)).as_bytes()).unwrap()
}

fn list(keys: &[&FernetKeys]) -> FernetKeys {
    keys[1..].iter().fold(keys[0].clone(), |list, key| list.followed_by(key))
}

#[test]
fn a_rolling_rotation_keeps_each_key_until_it_is_retired() {
    let (old, new) = (key('o'), key('n'));
    let print = new.fingerprints();
    let one = State::new(old.clone(), None);
    let staged = one.stage(&new).unwrap();
    assert_eq!(staged, list(&[&old, &new]));
    let two = State::new(staged, Some(&print));
    assert_eq!(two.staged(), Some(print.clone()));
    for refused in [two.stage(&key('x')).err(), two.retire().err()] {
        assert!(matches!(refused, Some(RotationError::StagedAlready { print: found }) if found == print));
    }
    let promoted = two.promote().unwrap();
    assert_eq!(promoted, list(&[&new, &old]));
    // Again, when the answer to the first call was lost.
    let three = State::new(promoted.clone(), Some(&print));
    assert_eq!((three.staged(), three.rotate(&key('x')).unwrap()), (None, None));
    assert_eq!(three.promote().unwrap(), promoted);
    assert!(matches!(State::new(promoted, None).promote(), Err(RotationError::NothingStaged { .. })));
    assert!(matches!(three.stage(&key('x')), Err(RotationError::Unfinished { .. })));
    assert_eq!(three.retire().unwrap(), Some(new.clone()));
    let four = State::new(new.clone(), Some(&print));
    assert_eq!((four.staged(), four.retire().unwrap()), (None, None));
    assert!(matches!(four.promote(), Err(RotationError::NothingStaged { .. })));
}

#[test]
fn a_rotation_is_begun_once_and_takes_what_is_staged() {
    let (old, new, other) = (key('o'), key('n'), key('x'));
    let begun = State::new(old.clone(), None).rotate(&new).unwrap().unwrap();
    assert_eq!(begun, list(&[&new, &old]));
    assert_eq!(State::new(begun, None).rotate(&other).unwrap(), None);
    let staged = State::new(list(&[&old, &new]), Some(&new.fingerprints()));
    assert_eq!(staged.rotate(&other).unwrap(), Some(list(&[&new, &old])));
    // A note about a key that is no longer there.
    let gone = State::new(list(&[&new, &old]), Some(&other.fingerprints()));
    assert_eq!(gone.staged(), None);
}

#[test]
fn a_survey_says_what_would_be_lost() {
    let keys = list(&[&key('n'), &key('o')]);
    let mut survey = Survey::new(&keys);
    survey.of_key = vec![3, 1];
    assert!(survey.needs_older(&keys).is_ok() && survey.stops(Unread::Stops).is_ok());
    survey.older.count(Holder::Connection, Some("c"), 1, 1);
    survey.unread.count(Holder::Variable, Some("v"), 1, 1);
    let needed = survey.needs_older(&keys).unwrap_err().to_string();
    assert!(needed.contains(&older(&keys)) && needed.ends_with("(connection `c`)"), "{needed}");
    assert!(survey.stops(Unread::Stops).unwrap_err().to_string().ends_with("variable `v`"));
    assert!(survey.stops(Unread::Skipped).is_ok());
    let text = table(&State::new(keys.clone(), None), Some(&survey));
    let prints: Vec<_> = keys.each().map(|key| key.fingerprints()).collect();
    assert_eq!(
        text,
        format!(
            "{}  encrypts and reads; 3 encrypted values would be lost without it\n{}  reads; 1 encrypted value would be lost without it\n",
            prints[0], prints[1]
        )
    );
}
