//! Why a file that is there cannot be run, told from its first bytes.

use std::path::Path;

/// How many first bytes are enough.
pub(crate) const HEAD: usize = 4096;

/// What the first bytes of a file say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Of this machine, with the path of the loader that it wants.
    Native { loader: Option<String> },
    /// A program for another machine.
    Foreign { machine: String },
    /// Text behind `#!`.
    Script { interpreter: String, carriage_return: bool },
    /// Anything else.
    Other,
}

/// Machines by their number in an ELF header (`e_machine`, elf.h), and the class (bits) that belongs to them.
const MACHINES: [(u16, &str); 12] = [
    (3, "x86"),
    (8, "mips"),
    (20, "powerpc"),
    (21, "powerpc64"),
    (22, "s390x"),
    (40, "arm"),
    (43, "sparc64"),
    (62, "x86_64"),
    (183, "aarch64"),
    (243, "riscv64"),
    (247, "bpf"),
    (258, "loongarch64"),
];

/// Reads them. `ours` is the machine that we were built for.
pub(crate) fn kind(head: &[u8], ours: &str) -> Kind {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|&byte| byte == b'\n').next().unwrap_or_default();
        let carriage_return = line.ends_with(b"\r");
        let text = String::from_utf8_lossy(line);
        let interpreter = text.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        return Kind::Script { interpreter, carriage_return };
    }
    if !head.starts_with(b"\x7fELF") || head.len() < 20 {
        return Kind::Other;
    }
    let little = head[5] != 2;
    let number = read(head, 18, 2, little).unwrap_or_default() as u16;
    let machine = MACHINES
        .iter()
        .find(|(known, _)| *known == number)
        .map_or_else(|| format!("machine {number}"), |(_, name)| (*name).to_owned());
    // A 32-bit program runs on its 64-bit sibling where the kernel likes; that is not for us to say.
    if machine == ours { Kind::Native { loader: loader(head, little) } } else { Kind::Foreign { machine } }
}

/// The path in the program header `PT_INTERP` of a 64-bit file.
fn loader(head: &[u8], little: bool) -> Option<String> {
    if head.get(4) != Some(&2) {
        return None;
    }
    let (table, size, count) = (read(head, 32, 8, little)?, read(head, 54, 2, little)?, read(head, 56, 2, little)?);
    let mut entries = (0..count).filter_map(|index| table.checked_add(index * size));
    let entry = entries.find(|&at| read(head, at, 4, little) == Some(3))?;
    let (offset, length) =
        (read(head, entry.checked_add(8)?, 8, little)?, read(head, entry.checked_add(32)?, 8, little)?);
    let bytes = head.get(usize::try_from(offset).ok()?..)?.get(..usize::try_from(length).ok()?)?;
    Some(String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned())
}

fn read(head: &[u8], at: u64, length: usize, little: bool) -> Option<u64> {
    let bytes = head.get(usize::try_from(at).ok()?..)?.get(..length)?;
    let shift = |sum: u64, byte: &u8| (sum << 8) | u64::from(*byte);
    Some(if little { bytes.iter().rev().fold(0, shift) } else { bytes.iter().fold(0, shift) })
}

/// What to say when the kernel did not find something although the file is there: what the file wants and does not find.
pub(crate) fn what_is_missing(kind: &Kind, path: &Path) -> Option<String> {
    match kind {
        Kind::Script { carriage_return: true, .. } => Some(format!("Windows line endings in `{}`", path.display())),
        Kind::Script { interpreter, .. } => Some(format!("its interpreter `{interpreter}` does not exist")),
        Kind::Native { loader: Some(loader) } => Some(format!("its loader `{loader}` does not exist")),
        _ => None,
    }
}

/// What to say when the kernel does not know the format.
pub(crate) fn what_it_is(kind: &Kind, ours: &str) -> Option<String> {
    match kind {
        Kind::Foreign { machine } => Some(format!("built for {machine}, this machine is {ours}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elf(machine: u16) -> Vec<u8> {
        let mut head = vec![0; 64];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head
    }

    #[test]
    fn the_first_bytes_tell() {
        assert_eq!(kind(b"", "x86_64"), Kind::Other);
        assert_eq!(kind(b"echo hello\n", "x86_64"), Kind::Other);
        assert_eq!(kind(&elf(62), "x86_64"), Kind::Native { loader: None });
        assert_eq!(kind(&elf(183), "x86_64"), Kind::Foreign { machine: "aarch64".into() });
        assert_eq!(kind(&elf(999), "x86_64"), Kind::Foreign { machine: "machine 999".into() });
        assert_eq!(kind(b"\x7fELF", "x86_64"), Kind::Other);
        for (line, interpreter, carriage_return) in [
            ("#!/bin/sh\n", "/bin/sh", false),
            ("#! /usr/bin/env bash\r\n", "/usr/bin/env", true),
            ("#!/bin/sh\r\n", "/bin/sh", true),
        ] {
            let expected = Kind::Script { interpreter: interpreter.into(), carriage_return };
            assert_eq!(kind(line.as_bytes(), "x86_64"), expected, "{line:?}");
        }
    }

    #[test]
    fn a_loader_is_found() {
        let mut head = elf(62);
        head[32..40].copy_from_slice(&64u64.to_le_bytes());
        head[54..56].copy_from_slice(&56u16.to_le_bytes());
        head[56..58].copy_from_slice(&2u16.to_le_bytes());
        let mut interp = vec![0; 56];
        interp[..4].copy_from_slice(&3u32.to_le_bytes());
        interp[8..16].copy_from_slice(&176u64.to_le_bytes());
        interp[32..40].copy_from_slice(&8u64.to_le_bytes());
        head.extend([vec![0; 56], interp, b"/lib/ld\0".to_vec()].concat());
        assert_eq!(kind(&head, "x86_64"), Kind::Native { loader: Some("/lib/ld".into()) });
        // However short or damaged: no panic.
        for end in 0..head.len() {
            let _ = kind(&head[..end], "x86_64");
        }
        head[32..40].fill(0xff);
        assert_eq!(kind(&head, "x86_64"), Kind::Native { loader: None });
    }
}
