//! What the kernel told this process about itself when it was executed (getauxval(3)).
//!
//! `rustix::param` has the same, but reads `/proc/self/auxv` on kernels before 6.4 and panics where there is no `/proc`,
//! as at the start of a machine; or looks for getauxval by dlsym, which a static executable does not have.

pub(crate) use here::executed_path;
#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
pub(super) use here::program_headers;
pub use here::{clock_ticks, page_size};

#[cfg(target_os = "linux")]
mod here {
    use std::ffi::{CStr, OsStr, OsString, c_char};
    use std::os::unix::ffi::OsStrExt;

    use nix::libc;

    /// 0 if the kernel does not say.
    fn value(kind: libc::c_ulong) -> libc::c_ulong {
        // SAFETY: only reads a table that the kernel left in our memory.
        unsafe { libc::getauxval(kind) }
    }

    /// The path by which the kernel was asked to execute us, if it says.
    #[must_use]
    pub(crate) fn executed_path() -> Option<OsString> {
        let at = value(libc::AT_EXECFN) as *const c_char;
        if at.is_null() {
            return None;
        }
        // SAFETY: the kernel's path is nul-terminated, and nobody writes to it.
        let path = unsafe { CStr::from_ptr(at) };
        Some(OsStr::from_bytes(path.to_bytes()).to_owned())
    }

    /// The size of a page of memory, in bytes.
    #[must_use]
    #[allow(clippy::useless_conversion, reason = "the width of c_ulong differs between platforms")]
    pub fn page_size() -> u64 {
        value(libc::AT_PAGESZ).max(1).into()
    }

    /// The unit of times in `/proc/PID/stat`: so many are a second.
    #[must_use]
    #[allow(clippy::useless_conversion, reason = "the width of c_ulong differs between platforms")]
    pub fn clock_ticks() -> u64 {
        value(libc::AT_CLKTCK).max(1).into()
    }

    /// The program headers of our executable, as they lie in memory.
    #[cfg(target_pointer_width = "64")]
    pub(in crate::sys) fn program_headers() -> &'static [libc::Elf64_Phdr] {
        let table = value(libc::AT_PHDR) as *const libc::Elf64_Phdr;
        let count = usize::try_from(value(libc::AT_PHNUM)).unwrap_or(0);
        if table.is_null() {
            return &[];
        }
        // SAFETY: the kernel says that there are so many headers. They are a part of the executable, mapped for as long
        // as the process lives, and never written to.
        unsafe { std::slice::from_raw_parts(table, count) }
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    /// The path by which the kernel was asked to execute us: here it does not say.
    #[must_use]
    pub(crate) fn executed_path() -> Option<std::ffi::OsString> {
        None
    }

    /// The size of a page of memory, in bytes: the usual one.
    #[must_use]
    pub const fn page_size() -> u64 {
        4096
    }

    /// The unit of times in `/proc/PID/stat`, which is not there.
    #[must_use]
    pub const fn clock_ticks() -> u64 {
        100
    }
}
