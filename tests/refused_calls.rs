//! File systems that cannot do everything, imitated: the kernel refuses the system calls that such a file system would
//! (seccomp(2)). Needs neither root nor a kernel that knows vfat, SMB or FUSE.

use std::process::Command;

use crate::namespace::present;

/// No file without a name: network file systems, FUSE, vfat.
pub(crate) const NO_NAMELESS_FILES: &str = "nameless";
/// No hard links either: some FUSE and SMB mounts.
pub(crate) const NO_LINKS: &str = "nameless,links";
/// No hard links, and no modes that could be changed: vfat.
pub(crate) const NO_LINKS_NO_MODES: &str = "nameless,links,modes";
/// Files without a name, but no hard links to give them one.
pub(crate) const NAMELESS_WITHOUT_LINKS: &str = "links";

/// No symbolic links.
pub(crate) const NO_SYMBOLIC_LINKS: &str = "symbolic";

/// Installs the filter and becomes the command behind it. The numbers are those of the system calls `openat`, `linkat`, `fchmod`,
/// `symlink` (or `symlinkat`, where that is the only one) and of the instructions of a classic BPF program (bpf(4) of the BSDs).
const FILTER: &str = r#"
import ctypes, os, platform, struct, sys
OPENAT, LINKAT, FCHMOD, SYMLINK = {"x86_64": (257, 265, 91, 88), "aarch64": (56, 37, 52, 36)}[platform.machine()]
EPERM, EOPNOTSUPP, TMPFILE, ALLOW, ERRNO = 1, 95, 0o20000000, 0x7FFF0000, 0x00050000
LOAD, EQUAL, BIT, END = 0x20, 0x15, 0x45, 0x06
step = lambda code, yes, no, k: struct.pack("HBBI", code, yes, no, k)
number, flags = step(LOAD, 0, 0, 0), step(LOAD, 0, 0, 32)
refuse = lambda call, errno: number + step(EQUAL, 0, 1, call) + step(END, 0, 0, ERRNO | errno)
parts = {
    "nameless": number + step(EQUAL, 0, 3, OPENAT) + flags + step(BIT, 0, 1, TMPFILE) + step(END, 0, 0, ERRNO | EOPNOTSUPP),
    "links": refuse(LINKAT, EPERM),
    "modes": refuse(FCHMOD, EPERM),
    "symbolic": refuse(SYMLINK, EPERM),
}
program = b"".join(parts[part] for part in sys.argv[1].split(",")) + step(END, 0, 0, ALLOW)
steps = ctypes.create_string_buffer(program, len(program))
filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(steps)))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
os.execvp(sys.argv[2], sys.argv[2:])
"#;

/// The words to stand in front of a command.
pub(crate) fn refusing(calls: &str) -> [&str; 5] {
    ["/usr/bin/python3", "-IS", "-c", FILTER, calls]
}

/// Whether calls can be refused here: the control is that a hard link is, and without the filter is not.
#[track_caller]
pub(crate) fn refusing_works() -> bool {
    let links = |words: &[&str]| {
        let folder = tempfile::tempdir_in("/var/tmp").unwrap();
        let script = "set -e; >a; ln a b";
        let mut command = Command::new(words.first().unwrap_or(&"sh"));
        command.args(words.iter().skip(1)).args(if words.is_empty() { &[][..] } else { &["sh"] });
        let output = command.args(["-c", script]).current_dir(folder.path()).output();
        output.map(|output| (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned()))
    };
    let refused = links(&refusing(NO_LINKS)).is_ok_and(|(linked, why)| !linked && why.contains("not permitted"));
    present("python3 with seccomp", refused && links(&[]).is_ok_and(|(linked, _)| linked))
}
