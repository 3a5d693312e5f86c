//! The command line of dumb-init 1.2, for images that start it by that name.

use std::ffi::{OsStr, OsString};

/// The highest signal that it knows.
const HIGHEST: u8 = 31;
/// The version whose command line and manners these are.
const VERSION: &str = "dumb-init v1.2.5\n";

const REWRITE_USAGE: &str = "Usage: -r option takes <signum>:<signum>, where <signum> is between 1 and 31.\n\
    This option can be specified multiple times.\nUse --help for full usage.\n";

const OPTIONS: [(&str, char); 5] =
    [("help", 'h'), ("rewrite", 'r'), ("single-child", 'c'), ("verbose", 'v'), ("version", 'V')];

/// What was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Run this.
    Run(Wish),
    /// Say this, and end with this status.
    Say { text: String, status: u8 },
}

/// How the program is to be run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub words: Vec<OsString>,
    /// No session of its own, and signals for the child alone.
    pub single_child: bool,
    pub verbose: bool,
    /// Which signal becomes which; 0 is none.
    pub rewrites: Vec<(u8, u8)>,
}

impl Wish {
    /// The signal to hand on in place of this one; none for one that is not handed on. What stops a job stops a session for good.
    pub(crate) fn rewritten(&self, signal: u8, stops_a_job: bool, stop: u8) -> Option<u8> {
        let said = self.rewrites.iter().rev().find(|(from, _)| *from == signal).map(|(_, to)| *to);
        let default = if stops_a_job && !self.single_child { stop } else { signal };
        Some(said.unwrap_or(default)).filter(|&signal| signal != 0)
    }
}

/// Reads the words behind `name`, under which we were called.
pub(crate) fn read(name: &OsStr, arguments: &[OsString]) -> Asked {
    let name = name.to_string_lossy();
    let fail = |text: String| Asked::Say { text, status: 1 };
    let mut wish = Wish::default();
    let mut rest = arguments.iter();
    while let Some(word) = rest.as_slice().first() {
        let text = word.to_string_lossy();
        if !text.starts_with('-') || text == "-" {
            break;
        }
        rest.next();
        let (flags, mut value) = match text.strip_prefix("--") {
            Some("") => break,
            Some(long) => {
                let (long, value) = long.split_once('=').map_or((long, None), |(long, value)| (long, Some(value)));
                let mut known = OPTIONS.iter().filter(|(name, _)| name.starts_with(long));
                match (known.next(), known.next()) {
                    (Some((_, flag)), None) => (flag.to_string(), value.map(str::to_owned)),
                    // `--ver` is two.
                    (Some((name, flag)), _) if *name == long => (flag.to_string(), value.map(str::to_owned)),
                    _ => return fail(format!("{name}: unrecognized option '{text}'\n")),
                }
            }
            None => (text[1..].to_owned(), None),
        };
        for (index, flag) in flags.char_indices() {
            match flag {
                'c' => wish.single_child = true,
                'h' => return Asked::Say { text: help(&name), status: 0 },
                'v' => wish.verbose = true,
                'V' => return Asked::Say { text: VERSION.to_owned(), status: 0 },
                'r' => {
                    let behind = Some(flags[index + 1..].to_owned()).filter(|behind| !behind.is_empty());
                    let next = || rest.next().map(|word| word.to_string_lossy().into_owned());
                    let Some(value) = value.take().or(behind).or_else(next) else {
                        return fail(format!("{name}: option requires an argument -- 'r'\n"));
                    };
                    match rewrite(&value) {
                        Some(pair) => wish.rewrites.push(pair),
                        None => return fail(REWRITE_USAGE.to_owned()),
                    }
                    break;
                }
                _ => return fail(format!("{name}: invalid option -- '{flag}'\n")),
            }
        }
    }
    wish.words = rest.as_slice().to_vec();
    if wish.words.is_empty() {
        return fail(format!("Usage: {name} [option] program [args]\nTry {name} --help for full usage.\n"));
    }
    Asked::Run(wish)
}

fn rewrite(text: &str) -> Option<(u8, u8)> {
    let (from, to) = text.split_once(':')?;
    let (from, to) = (from.parse().ok()?, to.parse().ok()?);
    ((1..=HIGHEST).contains(&from) && to <= HIGHEST).then_some((from, to))
}

fn help(name: &str) -> String {
    format!(
        "{VERSION}Usage: {name} [option] command [[arg] ...]\n\n\
         airflow-entrypoint, which has the command line of dumb-init when it is called by that name: runs the command as its init.\n\n\
         \x20 -c, --single-child  no session of its own for the command, and signals for it alone\n\
         \x20 -r, --rewrite S:R   hand on signal R in place of signal S; 0 hands on none\n\
         \x20 -v, --verbose       say what is done\n\
         \x20 -h, --help          print this\n\
         \x20 -V, --version       print the version of dumb-init that this is like\n\n\
         DUMB_INIT_SETSID=0 is -c, DUMB_INIT_DEBUG=1 is -v.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Asked {
        let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).map(OsString::from).collect();
        super::read(OsStr::new("dumb-init"), &words)
    }

    fn wish(text: &str) -> (bool, bool, Vec<(u8, u8)>, String) {
        match read(text) {
            Asked::Run(wish) => {
                let words: Vec<_> = wish.words.iter().map(|word| word.to_string_lossy()).collect();
                (wish.single_child, wish.verbose, wish.rewrites, words.join(" "))
            }
            said => panic!("{text}: {said:?}"),
        }
    }

    #[test]
    fn options_end_where_the_command_begins() {
        assert_eq!(wish("cat -c -v"), (false, false, vec![], "cat -c -v".into()));
        assert_eq!(wish("-c -- -x"), (true, false, vec![], "-x".into()));
        assert_eq!(wish("-vc -r15:2 -r 1:0 a b"), (true, true, vec![(15, 2), (1, 0)], "a b".into()));
        assert_eq!(wish("--sing --rewrite=15:3 --rewrite 2:3 a"), (true, false, vec![(15, 3), (2, 3)], "a".into()));
        assert_eq!(wish("-vr 15:2 a"), (false, true, vec![(15, 2)], "a".into()));
    }

    #[test]
    fn mistakes_end_with_1() {
        for (text, said) in [
            ("", "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n"),
            ("-c", "Usage: dumb-init [option] program [args]\nTry dumb-init --help for full usage.\n"),
            ("--ver x", "dumb-init: unrecognized option '--ver'\n"),
            ("--yolo x", "dumb-init: unrecognized option '--yolo'\n"),
            ("-y x", "dumb-init: invalid option -- 'y'\n"),
            ("-r", "dumb-init: option requires an argument -- 'r'\n"),
            ("-r 15 x", REWRITE_USAGE),
            ("-r 0:1 x", REWRITE_USAGE),
            ("-r 1:32 x", REWRITE_USAGE),
            ("-r 15::12 x", REWRITE_USAGE),
        ] {
            assert_eq!(read(text), Asked::Say { text: said.to_owned(), status: 1 }, "{text}");
        }
        for text in ["-V x", "--version", "-h", "--help x"] {
            assert!(matches!(read(text), Asked::Say { text, status: 0 } if text.starts_with(VERSION)), "{text}");
        }
    }

    #[test]
    fn rewriting() {
        let mut wish = Wish { rewrites: vec![(15, 2), (1, 0), (21, 15)], ..Wish::default() };
        for (signal, stops, expected) in
            [(15, false, Some(2)), (1, false, None), (20, true, Some(19)), (21, true, Some(15))]
        {
            assert_eq!(wish.rewritten(signal, stops, 19), expected, "{signal}");
        }
        wish.single_child = true;
        assert_eq!(wish.rewritten(20, true, 19), Some(20));
    }
}
