//! The environment of a child that gets more variables than we have.

use std::cell::Cell;
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

/// The list of `extra` and `own`, and of those of our variables that these do not set, with a null at the end.
pub(super) fn with(extra: &[&CStr], own: Option<&PidVariable>) -> Vec<*const c_char> {
    let names = || extra.iter().map(|other| name_of(other.to_bytes())).chain(own.map(|own| own.name));
    let is_set_by_extra = |variable: &CStr| names().any(|name| name == name_of(variable.to_bytes()));
    let mut list: Vec<*const c_char> = extra.iter().map(|variable| variable.as_ptr()).collect();
    list.extend(own.map(|own| own.text.as_ptr().cast()));
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

/// A variable whose value is the number of the child, which only the child knows.
#[derive(Debug)]
pub(super) struct PidVariable<'a> {
    name: &'a [u8],
    /// The name, `=`, and room for the digits and a null. The child writes the digits.
    text: Vec<Cell<u8>>,
}

impl<'a> PidVariable<'a> {
    /// How long the digits of a number can be.
    const DIGITS: usize = 10;

    /// The variable, so far without a value.
    pub(super) fn new(name: &'a str) -> Self {
        let name = name.as_bytes();
        let text = name.iter().chain(b"=").chain(&[0; Self::DIGITS + 1]).copied().map(Cell::new).collect();
        PidVariable { name, text }
    }

    /// Where the child writes its number; see [`write_number`].
    pub(super) fn value(&self) -> &[Cell<u8>] {
        self.text.get(self.name.len().saturating_add(1)..).unwrap_or_default()
    }
}

/// Writes `number` as decimal digits. Makes no system call and needs no memory.
pub(super) fn write_number(number: u32, room: &[Cell<u8>]) {
    let mut digits = 1;
    let mut rest = number / 10;
    while rest > 0 {
        (digits, rest) = (digits + 1, rest / 10);
    }
    let mut rest = number;
    for digit in room.iter().take(digits).rev() {
        digit.set(b'0'.wrapping_add((rest % 10) as u8));
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_written_into_its_variable() {
        for (number, text) in [(0, "0"), (7, "7"), (4_194_304, "4194304"), (u32::MAX, "4294967295")] {
            let variable = PidVariable::new("X");
            write_number(number, variable.value());
            let bytes: Vec<u8> = variable.text.iter().map(Cell::get).collect();
            let expected = std::ffi::CString::new(format!("X={text}")).unwrap();
            assert_eq!(CStr::from_bytes_until_nul(&bytes).unwrap(), &*expected);
        }
    }
}
