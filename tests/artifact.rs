//! The release executable, as `make build` leaves it: static, stripped, small.

use std::path::{Path, PathBuf};

use crate::namespace::present;

const INTERPRETER: u32 = 3;
const SYMBOLS: u32 = 2;
const LARGEST: usize = 11 << 20;

/// The numbers that begin the entries of a table of a 64-bit ELF file (elf(5)): where the table is said to be in the header, the size
/// of an entry, their count, and where in the entry its type is.
fn types(file: &[u8], table: usize, size: usize, count: usize, at: usize) -> Vec<u32> {
    let number = |at: usize, length: usize| {
        file[at..at + length].iter().rev().fold(0_usize, |number, byte| number << 8 | usize::from(*byte))
    };
    let (table, size, count) = (number(table, 8), number(size, 2), number(count, 2));
    (0..count).map(|index| u32::try_from(number(table + index * size + at, 4)).unwrap()).collect()
}

fn has_interpreter(file: &[u8]) -> bool {
    types(file, 32, 54, 56, 0).contains(&INTERPRETER)
}

fn has_symbols(file: &[u8]) -> bool {
    types(file, 40, 58, 60, 4).contains(&SYMBOLS)
}

fn read(path: &Path) -> Vec<u8> {
    let file = std::fs::read(path).unwrap();
    assert_eq!(file[..6], *b"\x7fELF\x02\x01", "{} is not a 64-bit little-endian ELF file", path.display());
    file
}

#[test]
fn the_release_executable_is_static_and_stripped_and_small() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("target/release/airflow-entrypoint");
    if !present("the release executable (`make build`)", path.exists()) {
        return;
    }
    let file = read(&path);
    assert!(!has_interpreter(&file), "it has an interpreter: it is not static");
    assert!(!has_symbols(&file), "it is not stripped");
    assert!(file.len() < LARGEST, "{} bytes", file.len());
    // The controls: the executable of these tests has symbols, and a shell has an interpreter.
    assert!(has_symbols(&read(&std::env::current_exe().unwrap())));
    assert!(has_interpreter(&read(&std::fs::canonicalize("/bin/sh").unwrap())));
}
