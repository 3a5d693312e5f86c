//! When one of several processes ends: whether it is started again, and after which pause.

use std::time::Duration;

/// The pause before the first restart; each further one is twice as long.
const FIRST: Duration = Duration::from_secs(1);
/// No pause is longer.
const LONGEST: Duration = Duration::from_secs(30);

/// The pause before the next start of a member that was started again `used` times; none when that is as often as it may be.
pub(crate) fn pause(used: u32, limit: u32) -> Option<Duration> {
    (used < limit).then(|| FIRST.saturating_mul(1 << used.min(8)).min(LONGEST))
}

/// `off`, or how often at most.
pub(crate) fn limit(text: &str) -> Option<u32> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("off") { Some(0) } else { text.parse().ok() }
}

#[test]
fn pauses_grow_and_end() {
    let seconds = |limit: u32| (0..).map_while(move |used| pause(used, limit)).map(|pause| pause.as_secs());
    assert_eq!(seconds(7).collect::<Vec<_>>(), [1, 2, 4, 8, 16, 30, 30]);
    assert_eq!(seconds(1000).max(), Some(30));
    assert_eq!(pause(0, 0), None);
    assert_eq!([limit("off"), limit("3"), limit("-1"), limit("on")], [Some(0), Some(3), None, None]);
}
