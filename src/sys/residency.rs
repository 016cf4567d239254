//! How much of the executable stays in memory while nothing happens.

/// Lets go of the pages of the executable that can be read again: its code and its constants.
///
/// What is touched afterwards comes back from the kernel's copy of the file, so this is to be called directly before a
/// wait that is likely to be long, by a process that is the only one of its executable.
pub(crate) fn release_executable() {
    here::release_executable();
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod here {
    use nix::libc;
    use rustix::mm::{Advice, madvise};

    use super::super::auxv;

    /// Where the program headers are in the file: right behind the header of the whole.
    const PLACE: u64 = size_of::<libc::Elf64_Ehdr>() as u64;
    /// Linkers make at most this many read-only parts.
    const PARTS: usize = 4;

    pub(super) fn release_executable() {
        let headers = auxv::program_headers();
        let page = auxv::page_size();
        // The executable may have been moved by this distance when it was loaded. Not every linker makes a header for the
        // headers themselves (PT_PHDR), but they are in the part that has the start of the file.
        let start = headers.iter().find(|header| header.p_type == libc::PT_LOAD && header.p_offset == 0);
        let moved = start
            .map_or(0, |start| (headers.as_ptr() as u64).wrapping_sub(start.p_vaddr.wrapping_add(PLACE)));
        let is_read_only =
            |header: &&libc::Elf64_Phdr| header.p_type == libc::PT_LOAD && header.p_flags & libc::PF_W == 0;
        // Collected first: the headers lie in one of the parts that are let go of.
        let mut parts = [(0, 0); PARTS];
        for (part, header) in parts.iter_mut().zip(headers.iter().filter(is_read_only)) {
            let begin = moved.wrapping_add(header.p_vaddr);
            let first = begin.wrapping_sub(begin % page);
            let length = begin.wrapping_add(header.p_memsz).saturating_sub(first);
            *part = (first, usize::try_from(length).unwrap_or(0));
        }
        for (first, length) in parts {
            if length > 0 {
                // SAFETY: this is a part of the executable that is never written to. Its pages are those of the file,
                // and appear again with the same content when they are touched.
                let _ = unsafe { madvise(first as *mut std::ffi::c_void, length, Advice::LinuxDontNeed) };
            }
        }
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
mod here {
    pub(super) fn release_executable() {}
}
