//! What a run left behind, and the report of it in every failure.

use std::fmt::{self, Debug, Formatter};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Instant;

/// A finished run.
pub(crate) struct Outcome {
    pub(crate) command: String,
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    /// The key folder, as it was at the end.
    pub(crate) keys: String,
    /// When the process ended.
    pub(crate) ended: Instant,
}

impl Debug for Outcome {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\ncommand: {}\nstatus: {}", self.command, self.status)?;
        writeln!(f, "--- stdout\n{}--- stderr\n{}--- key folder\n{}---", self.stdout, self.stderr, self.keys)
    }
}

impl Outcome {
    /// The status as a shell sees it.
    pub(crate) fn code(&self) -> i32 {
        self.status.code().unwrap_or_else(|| 128 + self.status.signal().unwrap_or(0))
    }

    /// It ended well.
    #[track_caller]
    pub(crate) fn succeeds(&self) -> &Self {
        self.check(self.status.success(), "expected status 0")
    }

    /// It ended with this status, and its whole stderr is like this (`is_like`).
    #[track_caller]
    pub(crate) fn fails(&self, status: i32, stderr: &str) -> &Self {
        self.check(self.status.code() == Some(status), &format!("expected status {status}"));
        self.check(is_like(&self.stderr, stderr), &format!("expected this stderr:\n{stderr}"))
    }

    /// Some line of its stderr is like this, behind our name.
    #[track_caller]
    pub(crate) fn says(&self, line: &str) -> &Self {
        let line = format!("airflow-entrypoint: {line}");
        self.check(self.stderr.lines().any(|said| is_like(said, &line)), &format!("expected this line:\n{line}"))
    }

    /// Fails with the report unless this holds.
    #[track_caller]
    pub(crate) fn check(&self, holds: bool, what: &str) -> &Self {
        assert!(holds, "{what}{self:?}");
        self
    }

    /// Fails with the report unless both are the same.
    #[track_caller]
    pub(crate) fn same<T: PartialEq + Debug>(&self, found: T, expected: T) -> &Self {
        assert!(found == expected, "expected {expected:#?}, found {found:#?}{self:?}");
        self
    }
}

/// Whether a text is like the pattern: `<n>` stands for a number, `<s>` for seconds with one decimal, `<fp>` for a fingerprint,
/// `<time>` for a time of day and date, `<any>` for anything in one line, `<lines>` for any number of whole lines.
pub(crate) fn is_like(text: &str, pattern: &str) -> bool {
    const HOLES: [&str; 6] = ["<n>", "<s>", "<fp>", "<time>", "<any>", "<lines>"];
    let Some((at, hole)) = HOLES.iter().filter_map(|hole| Some((pattern.find(hole)?, *hole))).min() else {
        return text == pattern;
    };
    let Some(text) = text.strip_prefix(&pattern[..at]) else { return false };
    let behind = &pattern[at + hole.len()..];
    let fits = |filling: &str| match hole {
        "<n>" => !filling.is_empty() && filling.bytes().all(|byte| byte.is_ascii_digit()),
        "<s>" => filling.split_once('.').is_some_and(|(whole, tenth)| {
            tenth.len() == 1
                && !whole.is_empty()
                && (whole.bytes().chain(tenth.bytes())).all(|byte| byte.is_ascii_digit())
        }),
        "<fp>" => filling.len() == 8 && filling.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "<time>" => {
            let shape: String = filling.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            shape == "0000-00-00T00:00:00Z"
        }
        "<lines>" => filling.is_empty() || filling.ends_with('\n'),
        _ => !filling.contains('\n'),
    };
    (0..=text.len()).any(|end| text.is_char_boundary(end) && fits(&text[..end]) && is_like(&text[end..], behind))
}

/// The files of a folder, one a line: type and mode, owner, size, name.
pub(crate) fn listing(folder: &Path) -> String {
    let Ok(entries) = fs::read_dir(folder) else { return "(no such folder)\n".to_owned() };
    let mut lines: Vec<_> = entries
        .filter_map(|entry| {
            // What another start has removed meanwhile is not there.
            let (name, metadata) = (entry.as_ref().unwrap().file_name(), entry.unwrap().metadata().ok()?);
            let (mode, uid, gid) = (metadata.permissions().mode(), metadata.uid(), metadata.gid());
            Some(format!("{} {mode:o} {uid}:{gid} {}\n", name.to_string_lossy(), metadata.len()))
        })
        .collect();
    lines.sort();
    lines.concat()
}

#[test]
fn patterns_tell_texts_apart() {
    for (text, pattern, expected) in [
        ("tries: 12, in 3.4 s", "tries: <n>, in <s> s", true),
        ("tries: , in 3.4 s", "tries: <n>, in <s> s", false),
        ("tries: 12, in 34 s", "tries: <n>, in <s> s", false),
        ("key 0123abcd", "key <fp>", true),
        ("key 0123abcg", "key <fp>", false),
        ("at 2026-01-31T08:30:00Z", "at <time>", true),
        ("a\nb\nc\n", "<lines>c\n", true),
        ("a\nbc\n", "<lines>c\n", false),
        ("one line", "one <any>", true),
        ("one\nline", "one<any>", false),
        ("same", "same", true),
        ("same ", "same", false),
    ] {
        assert_eq!(is_like(text, pattern), expected, "{text:?} and {pattern:?}");
    }
}
