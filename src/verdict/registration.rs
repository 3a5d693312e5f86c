//! The fingerprints that all containers on one database agree on: ours against the registered one.

use crate::secret::SecretKind;

/// A fingerprint in the table, and who put it there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub fingerprint: String,
    pub host: String,
    pub role: String,
    /// UTC, as in all our messages.
    pub registered: String,
}

/// What ours is beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Comparison {
    /// They agree.
    Agrees,
    /// They agree, and ours is the newer one: the next container is compared with it.
    Follows,
    Differs,
    /// It follows from another Fernet key of a list that agrees: that was rotated, and this with it.
    Rotated,
}

/// Compares ours with the registered one. Lists of Fernet keys agree when one key is in both, since each container then reads what
/// the other has written with it: during a rotation there are containers with `old`, `old,new` and `new,old`. What is registered follows the
/// rotation, and is not turned back by a container that knows nothing but a key that is on its way out.
pub(crate) fn compare(kind: SecretKind, ours: &str, registered: &str) -> Comparison {
    if ours == registered {
        return Comparison::Agrees;
    }
    if kind != SecretKind::Fernet {
        return Comparison::Differs;
    }
    let known: Vec<_> = registered.split(',').collect();
    let mut keys = ours.split(',');
    let all_known = keys.clone().all(|key| known.contains(&key));
    match keys.any(|key| known.contains(&key)) {
        false => Comparison::Differs,
        true if all_known && known.first() != ours.split(',').next().as_ref() => Comparison::Agrees,
        true => Comparison::Follows,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_passes_in_every_order() {
        for (ours, registered, expected) in [
            ("old", "old", Comparison::Agrees),
            ("old,new", "old", Comparison::Follows),
            ("old", "old,new", Comparison::Follows),
            ("new,old", "old", Comparison::Follows),
            ("new,old", "old,new", Comparison::Agrees),
            ("old,new", "new,old", Comparison::Agrees),
            ("old", "new,old", Comparison::Agrees),
            ("new", "new,old", Comparison::Follows),
            ("new", "old,new", Comparison::Agrees),
            ("newer,new", "new,old", Comparison::Follows),
            ("old", "new", Comparison::Differs),
            ("other", "new,old", Comparison::Differs),
        ] {
            assert_eq!(compare(SecretKind::Fernet, ours, registered), expected, "{ours} beside {registered}");
        }
        assert_eq!(compare(SecretKind::Web, "a", "a"), Comparison::Agrees);
        assert_eq!(compare(SecretKind::Web, "b", "a"), Comparison::Differs);
    }
}
