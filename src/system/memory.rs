//! The memory of a process that waits for the life of a container.
#![allow(unsafe_code, reason = "nothing safe tells the kernel what is not needed any more")]

use std::fs;

use nix::libc;

/// Gives back the pages of code that the way here has touched, 64 KiB at each place; the few that waiting takes come back by
/// themselves. Without it they would stay counted as ours for years, and be more with every feature that a start gets.
pub(super) fn forget_code() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    for line in maps.lines() {
        let mut words = line.split_ascii_whitespace();
        let (range, rights, path) = (words.next().unwrap_or_default(), words.next(), words.nth(3));
        let number = |text| usize::from_str_radix(text, 16).ok();
        let range = range.split_once('-').and_then(|(start, end)| Some((number(start)?, number(end)?)));
        // Code of a file; not that of the kernel, which has no path.
        if let (Some((start, end)), Some("r-xp"), Some(path)) = (range, rights, path)
            && path.starts_with('/')
        {
            // SAFETY: it was never written to, so the kernel reads the same again from the file that it keeps open.
            unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        }
    }
}
