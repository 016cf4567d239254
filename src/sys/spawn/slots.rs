//! Children without a copy of our table of descriptors.
//!
//! A child usually gets a copy of the table, and keeps one as large as ours was, however few descriptors it has open in
//! the end. With thousands open here, that is most of what a start costs, in time and in the kernel's memory. So the
//! child begins with our own table, and then makes one of its own with only the descriptors below a number. Slots below
//! that number hold its standard streams, and one more descriptor, meanwhile.

pub use here::share_table;
pub(super) use here::{empty, fill, unshare_table};

#[cfg(target_os = "linux")]
mod here {
    use std::io;
    use std::sync::atomic::{AtomicI32, Ordering::Relaxed};

    use nix::libc::{self, c_int};
    use rustix::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
    use rustix::fs::{Mode, OFlags};

    use crate::sys::descriptors;
    use crate::sys::spawn::Stream;
    use crate::sys::spawn::child::ChildTask;

    /// The number of the first slot; 0 if there are none.
    static FIRST: AtomicI32 = AtomicI32::new(0);
    /// How many slots there are: one for each of the standard streams, and one for another descriptor.
    const SLOTS: usize = 4;
    /// The same. Behind them is a descriptor of the file that an empty slot holds.
    const COUNT: c_int = 4;
    /// Where `/proc` does not list the open descriptors, those that we inherited are looked for below this number.
    const EXPECTED: c_int = 256;

    /// Makes a table of our own that has no descriptor from `first` on.
    fn close_range(first: libc::c_uint) -> Result<(), c_int> {
        // SAFETY: takes numbers. The caller has no use for the descriptors from `first` on.
        match unsafe {
            libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)
        } {
            0 => Ok(()),
            _ => Err(nix::errno::Errno::last_raw()),
        }
    }

    /// From now on children do not copy our table. To be called before many descriptors are open.
    ///
    /// Where the system cannot do that, children go on to copy it.
    pub fn share_table() {
        // No descriptor has this number, so the call does nothing but tell whether the system has it.
        if close_range(libc::c_uint::MAX).is_err() {
            return;
        }
        let Ok(unused) = rustix::fs::open("/", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()) else { return };
        // The slots lie above all that is open now, `unused` included: what we inherited is for the children, too.
        let found = || (3..EXPECTED).rev().find(|fd| descriptors::is_open(*fd)).unwrap_or(2);
        let first = descriptors::highest().unwrap_or_else(found).saturating_add(1);
        for slot in first..=first.saturating_add(COUNT) {
            match rustix::io::fcntl_dupfd_cloexec(&unused, slot) {
                Ok(fd) if fd.as_raw_fd() == slot => drop(fd.into_raw_fd()),
                Ok(_) | Err(_) => return,
            }
        }
        FIRST.store(first, Relaxed);
    }

    /// Which slots are filled.
    pub(in crate::sys::spawn) type Filled = [bool; SLOTS];

    /// Puts the child's streams into the slots. Returns which slots are to be emptied afterwards.
    pub(in crate::sys::spawn) fn fill(task: &mut ChildTask<'_>) -> io::Result<Filled> {
        let first = FIRST.load(Relaxed);
        if first == 0 || task.program.others.len() > 1 {
            return Ok([false; SLOTS]);
        }
        let mut filled = [false; SLOTS];
        let program = &mut task.program;
        let mut other = program.others.first().map_or(Stream::Inherit, |(_, fd)| Stream::Is(*fd));
        let streams = [&mut program.stdin, &mut program.stdout, &mut program.stderr, &mut other];
        for ((slot, stream), filled) in (first..).zip(streams).zip(&mut filled) {
            if let Stream::Is(fd) = stream {
                put(fd.as_fd(), slot)?;
                *filled = true;
                // SAFETY: the slot stays open at least until the child has its own copy.
                *stream = Stream::Is(unsafe { BorrowedFd::borrow_raw(slot) });
            }
        }
        if let (Some((number, _)), Stream::Is(slot)) = (program.others.first(), other) {
            task.other_in_slot = Some((*number, slot));
            program.others = &[];
        }
        task.shared_below = Some(first.saturating_add(COUNT));
        Ok(filled)
    }

    /// Empties the slots that were filled, so that we do not keep open what the child has.
    pub(in crate::sys::spawn) fn empty(filled: Filled) {
        let first = FIRST.load(Relaxed);
        for (slot, _) in (first..).zip(filled).filter(|(_, filled)| *filled) {
            // SAFETY: it is open as long as there are slots, and never closed.
            let unused = unsafe { BorrowedFd::borrow_raw(first.saturating_add(COUNT)) };
            let _ = put(unused, slot);
        }
    }

    fn put(fd: BorrowedFd<'_>, slot: c_int) -> io::Result<()> {
        // SAFETY: the slot is ours, and open.
        let mut slot = std::mem::ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(slot) });
        Ok(rustix::io::dup3(fd, &mut slot, rustix::io::DupFlags::CLOEXEC)?)
    }

    /// In the child: makes a table of its own, with the descriptors below `below`.
    pub(in crate::sys::spawn) fn unshare_table(below: c_int) -> Result<(), c_int> {
        close_range(libc::c_uint::try_from(below).unwrap_or(libc::c_uint::MAX))
    }
}

#[cfg(not(target_os = "linux"))]
mod here {
    use std::io;

    use crate::sys::spawn::child::ChildTask;

    /// Does nothing: on this platform children always get a copy.
    pub fn share_table() {}

    /// Which slots are filled: there is none.
    pub(in crate::sys::spawn) type Filled = [bool; 0];

    pub(in crate::sys::spawn) fn fill(_task: &mut ChildTask<'_>) -> io::Result<Filled> {
        Ok([])
    }

    pub(in crate::sys::spawn) fn empty([]: Filled) {}

    pub(in crate::sys::spawn) fn unshare_table(_below: i32) -> Result<(), i32> {
        Ok(())
    }
}
