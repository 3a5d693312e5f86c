//! Whether SIGPIPE was ignored when we were started. Rust's runtime ignores it before `main`, and std gives every child the default,
//! so a command could not have it as we got it unless this was looked at first.
#![allow(unsafe_code, reason = "nothing safe runs before the runtime, and nothing safe sets a disposition")]

use std::mem::MaybeUninit;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::libc;

static IGNORED: AtomicBool = AtomicBool::new(false);

// SAFETY: the section holds pointers to functions without arguments, which the C library calls one by one before `main`.
#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: nothing is set, and `found` is as large as the kernel's answer; zeros are one too.
    let handler = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), found.as_mut_ptr());
        found.assume_init().sa_sigaction
    };
    IGNORED.store(handler == libc::SIG_IGN, Ordering::Relaxed);
}

/// Ignores it again, in a child before its exec, if that is how we got it.
pub(super) fn restore() {
    if IGNORED.load(Ordering::Relaxed) {
        // SAFETY: no handler is installed.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    }
}
