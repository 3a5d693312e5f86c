//! The shape of the sources: effects live under `src/system/`, `main.rs` is a list of steps, and no file is too long to be read.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut sources = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources.extend(self::sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push((path.clone(), fs::read_to_string(path).unwrap()));
        }
    }
    sources
}

/// Whether the code of a line, its comment left out, says this word and not the end of a longer one (`unix::` is not `nix::`).
fn says(line: &str, word: &str) -> bool {
    let code = line.split("//").next().unwrap();
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

#[test]
fn the_kernel_is_spoken_to_under_system_alone() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let sources = sources(&source);
    let (edge, pure): (Vec<_>, Vec<_>) = sources.iter().partition(|(path, _)| path.starts_with(source.join("system")));
    let speaks = |text: &str| text.lines().any(|line| says(line, "nix::") || says(line, "libc::"));
    for (path, text) in &pure {
        assert!(!speaks(text), "{} speaks to the kernel", path.display());
        // What the lints check, they check because nobody turned them off.
        let allowed = text.contains("clippy::disallowed_methods") && !path.ends_with("log.rs");
        assert!(!allowed, "{} allows itself effects", path.display());
    }
    assert!(pure.len() > 10, "{} files", pure.len());
    // The control: where it is allowed it is seen.
    assert!(edge.iter().filter(|(_, text)| speaks(text)).count() > 2);
    assert!(!says("use std::os::unix::fs; // nix::", "nix::") && says("nix::unistd::access()", "nix::"));
}

#[test]
fn files_are_short_and_main_is_a_list() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = [sources(&root.join("src")), sources(&root.join("tests"))].concat();
    for (path, text) in &sources {
        let most = if path.ends_with("src/main.rs") { 99 } else { 320 };
        let lines = text.lines().count();
        assert!(lines <= most, "{} has {lines} lines, more than {most}", path.display());
    }
    assert!(sources.iter().any(|(path, text)| path.ends_with("src/main.rs") && text.contains("fn main()")));
}
