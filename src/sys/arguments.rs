//! The arguments as C's `main` got them, and the name of the process: both are what others see of us.

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};

/// `argv` of C's `main`. `ps` shows what lies there, so some programs write into it.
static ARGV: AtomicPtr<*mut c_char> = AtomicPtr::new(std::ptr::null_mut());
static ARGC: AtomicUsize = AtomicUsize::new(0);

/// Returns a copy of the arguments, and remembers where they lie.
///
/// # Safety
///
/// `argc` and `argv` are those that the C runtime called `main` with.
#[must_use]
pub unsafe fn arguments(argc: c_int, argv: *mut *mut c_char) -> Vec<OsString> {
    let argc = usize::try_from(argc).unwrap_or(0);
    ARGV.store(argv, Relaxed);
    ARGC.store(argc, Relaxed);
    (0..argc).filter_map(|index| pointer(index).map(word)).collect()
}

/// Where argument `index` lies in memory.
fn pointer(index: usize) -> Option<*mut c_char> {
    let argv = ARGV.load(Relaxed);
    if argv.is_null() || index >= ARGC.load(Relaxed) {
        return None;
    }
    // SAFETY: `argv` has `argc` places, and `index` is below that.
    let place = unsafe { argv.add(index) };
    // SAFETY: as above.
    let word = unsafe { *place };
    (!word.is_null()).then_some(word)
}

fn word(at: *mut c_char) -> OsString {
    // SAFETY: the runtime's words are nul-terminated and live as long as the process.
    let text = unsafe { CStr::from_ptr(at) };
    OsStr::from_bytes(text.to_bytes()).to_owned()
}

/// The memory of argument `index`, without its nul, to be overwritten.
///
/// To be called at most once for each argument: nobody may borrow its memory twice at the same time.
#[must_use]
pub fn argument_memory(index: usize) -> Option<&'static mut [u8]> {
    let at = pointer(index)?;
    // SAFETY: as in `word`.
    let length = unsafe { CStr::from_ptr(at) }.to_bytes().len();
    // SAFETY: the memory is this process's own, writable, there as long as it lives, and borrowed only here.
    Some(unsafe { std::slice::from_raw_parts_mut(at.cast(), length) })
}

/// Drops the first argument from what `ps` shows: `runitbox runsv x` becomes `runsv x`.
pub(crate) fn drop_first_argument() {
    let (Some(first), Some(second)) = (pointer(0), pointer(1)) else { return };
    let last = ARGC.load(Relaxed).saturating_sub(1);
    let Some(last) = pointer(last) else { return };
    // SAFETY: the words are nul-terminated.
    let last_length = unsafe { CStr::from_ptr(last) }.to_bytes().len();
    let end = (last as usize).saturating_add(last_length).saturating_add(1);
    // The kernel lays the words out one after the other. If somebody else laid them out otherwise, nothing is changed.
    let (Some(shift), Some(length)) =
        ((second as usize).checked_sub(first as usize), end.checked_sub(second as usize))
    else {
        return;
    };
    // SAFETY: [first, end) is the memory of the words, of which [second, end) is moved to the front.
    unsafe { std::ptr::copy(second, first, length) };
    // SAFETY: [first + length, end) is the rest of the same memory.
    let rest = unsafe { first.add(length) };
    // SAFETY: as above.
    unsafe { std::ptr::write_bytes(rest, 0, shift) };
    let argc = ARGC.load(Relaxed);
    let argv = ARGV.load(Relaxed);
    for index in 1..argc {
        let Some(at) = pointer(index) else { return };
        // SAFETY: it points into the moved memory, `shift` behind where the word now begins.
        let at = unsafe { at.sub(shift) };
        // SAFETY: `argv` has `argc` places, and `index - 1` is below that.
        let place = unsafe { argv.add(index.saturating_sub(1)) };
        // SAFETY: as above.
        unsafe { *place = at };
    }
    ARGC.store(argc.saturating_sub(1), Relaxed);
}

/// Sets the name that `ps -o comm` and `pgrep` show. That it could not be set harms nobody.
pub fn set_process_name(name: &str) {
    #[cfg(target_os = "linux")]
    if let Ok(name) = std::ffi::CString::new(name) {
        let _ = rustix::thread::set_name(&name);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = name;
}

/// In a child that executes nothing: sets the name of the process and overwrites its arguments with it, so that nobody
/// takes it for us.
pub(super) fn rename_process(name: &str) {
    set_process_name(name);
    for index in 0.. {
        let Some(memory) = argument_memory(index) else { break };
        memory.fill(0);
        if index == 0 {
            // If there is no room for the whole name, its beginning is shown.
            for (to, from) in memory.iter_mut().zip(name.bytes()) {
                *to = from;
            }
        }
    }
}
