//! The environment of a child that gets more variables than we have.

use std::ffi::{CStr, c_char};
use std::ptr;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// The list of our variables, as execve(2) takes it.
pub(super) fn ours() -> *const *const c_char {
    // SAFETY: we have one thread, so nobody changes `environ` here.
    unsafe { environ }
}

/// The list of `extra`, and of those of our variables that `extra` does not set, with a null at the end.
pub(super) fn with(extra: &[&CStr]) -> Vec<*const c_char> {
    let is_set_by_extra =
        |variable: &CStr| extra.iter().any(|other| name_of(other.to_bytes()) == name_of(variable.to_bytes()));
    let mut list: Vec<*const c_char> = extra.iter().map(|variable| variable.as_ptr()).collect();
    let mut next = ours();
    while !next.is_null() {
        // SAFETY: the list ends with a null, and we have not gone beyond that.
        let variable = unsafe { *next };
        if variable.is_null() {
            break;
        }
        // SAFETY: each entry of the list is nul-terminated.
        if !is_set_by_extra(unsafe { CStr::from_ptr(variable) }) {
            list.push(variable);
        }
        // SAFETY: this entry is not the last one.
        next = unsafe { next.add(1) };
    }
    list.push(ptr::null());
    list
}

/// What is before the `=`.
fn name_of(variable: &[u8]) -> &[u8] {
    variable.split(|&byte| byte == b'=').next().unwrap_or_default()
}
