//! The points at which a process is interrupted. A point behind a call that changes nothing outside of the process is the same as the one
//! before that call: what is left behind cannot differ. All others are taken, and of these a choice that is the same each time;
//! with `AIRFLOW_ENTRYPOINT_EXHAUSTIVE=1` every one of them.

use std::env;

use nix::libc;

/// How many are chosen among those that are the same as another.
const CHOSEN: usize = 24;

/// Whether none may be left out.
pub(crate) fn is_exhaustive() -> bool {
    env::var_os("AIRFLOW_ENTRYPOINT_EXHAUSTIVE").is_some_and(|value| value == "1")
}

/// Of as many points as there are answers those to take: each that matters, and some of the others.
pub(crate) fn chosen(matter: &[bool]) -> Vec<usize> {
    chosen_of(matter, CHOSEN, is_exhaustive())
}

fn chosen_of(matter: &[bool], some: usize, all: bool) -> Vec<usize> {
    let others: Vec<usize> = (0..matter.len()).filter(|&point| !matter[point]).collect();
    let kept = if all { others.len() } else { some.min(others.len()) };
    // One of each of as many parts, by numbers that begin the same each time (Knuth's).
    let mut state: u64 = 20_151_006;
    let others = (0..kept).map(|part| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (first, end) = (part * others.len() / kept, (part + 1) * others.len() / kept);
        others[first + usize::try_from(state >> 33).unwrap() % (end - first)]
    });
    let mut points: Vec<usize> = (0..matter.len()).filter(|&point| matter[point]).chain(others).collect();
    points.sort_unstable();
    points
}

macro_rules! calls {
    ($($number:ident)*) => { &[$((libc::$number, stringify!($number))),*] };
}

/// Calls that change nothing but the process itself: what they read, wait for, map or open is gone with it, and so are its locks.
const INNER: &[(libc::c_long, &str)] = calls! {
    SYS_brk SYS_mmap SYS_munmap SYS_mprotect SYS_mremap SYS_madvise SYS_futex SYS_epoll_pwait SYS_epoll_ctl SYS_epoll_create1 SYS_eventfd2
    SYS_ppoll SYS_read SYS_readv SYS_pread64 SYS_fstat SYS_newfstatat SYS_statx SYS_lseek SYS_getdents64 SYS_close SYS_dup SYS_dup3
    SYS_clock_gettime SYS_clock_nanosleep SYS_nanosleep SYS_sched_yield SYS_sched_getaffinity SYS_rt_sigaction SYS_rt_sigprocmask
    SYS_sigaltstack SYS_getpid SYS_getppid SYS_gettid SYS_getuid SYS_geteuid SYS_getgid SYS_getegid SYS_getgroups SYS_getrandom SYS_getcwd
    SYS_readlinkat SYS_faccessat SYS_faccessat2 SYS_fcntl SYS_flock SYS_uname SYS_prlimit64 SYS_set_robust_list SYS_set_tid_address SYS_rseq
    SYS_clone SYS_clone3 SYS_exit SYS_socket SYS_setsockopt SYS_getsockopt SYS_getsockname SYS_getpeername SYS_prctl SYS_pipe2
    SYS_socketpair SYS_statfs SYS_fstatfs SYS_fadvise64 SYS_signalfd4 SYS_umask SYS_tgkill SYS_rt_sigreturn
};
#[cfg(target_arch = "x86_64")]
const INNER_HERE: &[(libc::c_long, &str)] =
    calls! { SYS_epoll_wait SYS_poll SYS_stat SYS_lstat SYS_access SYS_readlink SYS_arch_prctl SYS_dup2 SYS_pipe };
#[cfg(not(target_arch = "x86_64"))]
const INNER_HERE: &[(libc::c_long, &str)] = &[];
/// What is said to others and heard from them. That changes nothing as long as no file was changed: then others were only asked.
const TALK: &[(libc::c_long, &str)] =
    calls! { SYS_sendto SYS_sendmsg SYS_recvfrom SYS_recvmsg SYS_connect SYS_write SYS_writev SYS_shutdown };
/// They may make a file, as their flags say.
const OPENING: &[(libc::c_long, &str)] = calls! { SYS_openat };
const MAKING: u64 = (libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY)) as u64;

/// What a call does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Does {
    /// Nothing that outlives the process.
    Nothing,
    /// It talks to others.
    Talks,
    /// It may change a file, or we do not know it.
    Changes,
}

fn does(holds: impl Fn(&(libc::c_long, &str)) -> bool, makes: bool, wakes: bool) -> Does {
    let among = |calls: &[(libc::c_long, &str)]| calls.iter().any(&holds);
    if among(INNER) || among(INNER_HERE) || wakes || among(OPENING) && !makes {
        Does::Nothing
    } else if among(TALK) {
        Does::Talks
    } else {
        Does::Changes
    }
}

/// The same for a call in numbers (proc(5)).
pub(crate) fn does_number(number: libc::c_long, arguments: &[u64]) -> Does {
    let argument = |index: usize| arguments.get(index).copied().unwrap_or_default();
    // Eight bytes wake another thread (eventfd(2)).
    let wakes = number == libc::SYS_write && argument(2) == 8;
    does(|call| call.0 == number, argument(2) & MAKING != 0, wakes)
}

/// The same for a call as strace writes it.
pub(crate) fn does_name(name: &str, arguments: &str) -> Does {
    let makes = ["O_CREAT", "O_TRUNC", "O_TMPFILE"].iter().any(|flag| arguments.contains(flag));
    does(|call| call.1.strip_prefix("SYS_") == Some(name), makes, false)
}

/// Which points matter, before each of these calls: the first, and each behind a call that changes a file, or, once one has, that talks.
pub(crate) fn matter(calls: impl IntoIterator<Item = Does>) -> Vec<bool> {
    let (mut begun, mut next) = (false, true);
    let matters = |does: Does| {
        begun |= does == Does::Changes;
        std::mem::replace(&mut next, does != Does::Nothing && begun)
    };
    calls.into_iter().map(matters).collect()
}

#[test]
fn all_that_matter_are_taken_and_some_of_the_others() {
    let matter: Vec<bool> = (0..100).map(|point| point == 0 || point >= 90).collect();
    let points = chosen_of(&matter, 10, false);
    assert_eq!(points.len(), 21);
    assert!(
        points.is_sorted_by(|one, other| one < other)
            && points[0] == 0
            && points[11..] == (90..100).collect::<Vec<_>>()
    );
    let part = |part: usize| 1 + part * 89 / 10..1 + (part + 1) * 89 / 10;
    assert!((0..10).all(|number| part(number).contains(&points[1 + number])));
    // The same again, others of other points, and all of them.
    assert_eq!(chosen_of(&matter, 10, false), points);
    assert_ne!(chosen_of(&[&matter[..], &[false; 7]].concat(), 10, false)[..11], points[..11]);
    assert_eq!(chosen_of(&matter, 10, true), (0..100).collect::<Vec<_>>());
    // Fewer than are wanted.
    assert_eq!(chosen_of(&[true, false, false], 10, false), [0, 1, 2]);
    assert_eq!(chosen_of(&[], 10, false), [0; 0]);
}

#[test]
fn a_point_matters_behind_a_change() {
    let call = |name: &str| does_name(name, if name == "openat" { "AT_FDCWD, \"f\", O_RDONLY" } else { "" });
    assert_eq!(
        ["mmap", "read", "openat", "sendto"].map(call),
        [Does::Nothing, Does::Nothing, Does::Nothing, Does::Talks]
    );
    assert_eq!(["pwrite64", "renameat2", "unknown"].map(call), [Does::Changes; 3]);
    assert_eq!(does_name("openat", "AT_FDCWD, \"f\", O_WRONLY|O_CREAT, 0600"), Does::Changes);
    let (read, make) = (libc::O_RDONLY | libc::O_DIRECTORY, libc::O_TMPFILE | libc::O_WRONLY);
    let opens = |flags: i32| does_number(libc::SYS_openat, &[0, 0, u64::try_from(flags).unwrap(), 0]);
    assert_eq!([opens(read), opens(make)], [Does::Nothing, Does::Changes]);
    let writes = |bytes| does_number(libc::SYS_write, &[6, 0, bytes]);
    assert_eq!([writes(8), writes(45)], [Does::Nothing, Does::Talks]);
    let calls = [Does::Talks, Does::Nothing, Does::Changes, Does::Nothing, Does::Nothing, Does::Talks, Does::Nothing];
    assert_eq!(matter(calls), [true, false, false, true, false, false, true]);
}
