//! The executable's allocator: a small fixed arena before the system's.
//!
//! A supervisor needs a few kilobytes and is there many times. From the system's allocator they cost it pages of a
//! heap and of mapped memory, page tables for both, and some system calls at each start; here they lie beside the
//! other variables. What is large, or does not fit any more, comes from the system.
//!
//! Blocks are of powers of two; a freed block goes onto the list of its size. Nothing is given back or joined: the
//! arena is too small for that to matter.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

/// Size of the whole, in bytes. Only the pages that are used take memory.
const TOTAL: usize = 16 * 1024;
/// Size of the arena, in bytes: the rest of the pages that the other fields begin.
const ARENA: usize = TOTAL - 128;
/// The smallest block, in bytes, as a power of two; also the alignment of all.
const SMALLEST: u32 = 4;
/// How many sizes there are: the largest block is of 4 KiB.
const SIZES: usize = 9;

/// A freed block holds the address of the next one of its size.
type Link = *mut u8;

#[repr(align(16))]
struct Arena(UnsafeCell<[u8; ARENA]>);

/// An allocator; see the module.
///
/// Whole pages, so that what little an idle supervisor has, with the bookkeeping, is on one of them, and the
/// variables behind it begin another.
#[allow(missing_debug_implementations, reason = "it has nothing to show")]
#[repr(C, align(4096))]
pub struct Memory {
    used: UnsafeCell<usize>,
    free: UnsafeCell<[Link; SIZES]>,
    /// Somebody is at the fields above. Our programs have one thread, but nothing here depends on that.
    busy: AtomicBool,
    arena: Arena,
}

const _: () = assert!(size_of::<Memory>() == TOTAL, "the arena leaves a gap");

// SAFETY: the cells are touched only by whoever has set `busy`.
unsafe impl Sync for Memory {}

/// Gives back the memory that holds what can be read again from the executable: its code and constants. What is needed
/// again comes from the kernel's copy of the file.
///
/// For a process that is the only one of its file and is likely to wait for long; to be called right before it waits,
/// since what is touched after this is in memory again.
pub fn forget_executable() {
    here::forget_executable();
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
mod here {
    use nix::libc;
    use rustix::mm::{Advice, madvise};

    pub(super) fn forget_executable() {
        const PAGE: u64 = 4096;
        // SAFETY: reads a table that the kernel left for us.
        let table = unsafe { libc::getauxval(libc::AT_PHDR) } as *const libc::Elf64_Phdr;
        // SAFETY: as above.
        let count = unsafe { libc::getauxval(libc::AT_PHNUM) };
        if table.is_null() {
            return;
        }
        // SAFETY: the kernel says that so many headers of the executable are there, and they stay there unchanged.
        let headers = unsafe { std::slice::from_raw_parts(table, usize::try_from(count).unwrap_or(0)) };
        /// Where they are in the file: right behind its own header.
        const PLACE: u64 = size_of::<libc::Elf64_Ehdr>() as u64;
        // Where they are in memory, less where they are in the file's own count, is how far all was moved. Not every
        // linker makes a header for them (PT_PHDR), but they are in the part with the start of the file.
        let own = headers.iter().find(|it| it.p_type == libc::PT_LOAD && it.p_offset == 0);
        let moved = own.map_or(0, |own| (table as u64).wrapping_sub(own.p_vaddr.wrapping_add(PLACE)));
        let mut parts = [(0, 0); 4];
        let read_only = |it: &&libc::Elf64_Phdr| it.p_type == libc::PT_LOAD && it.p_flags & libc::PF_W == 0;
        for (part, header) in parts.iter_mut().zip(headers.iter().filter(read_only)) {
            let first = moved.wrapping_add(header.p_vaddr) & !(PAGE - 1);
            let last = moved.wrapping_add(header.p_vaddr).wrapping_add(header.p_memsz);
            *part = (first, usize::try_from(last.saturating_sub(first)).unwrap_or(0));
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
    pub(super) fn forget_executable() {}
}

/// Who cannot be without memory waits for it.
static WAITS: AtomicBool = AtomicBool::new(false);
/// That it waits was said.
static WAITED: AtomicBool = AtomicBool::new(false);
/// More than this at once nobody here needs; it would be waited for in vain.
const LARGEST: usize = 1 << 30;

/// From now on memory that cannot be had is waited for, where it would otherwise end the process.
pub fn wait_where_there_is_none() {
    WAITS.store(true, Release);
}

/// Whether it is worth trying again, after a pause.
fn pauses(layout: Layout) -> bool {
    if !WAITS.load(Acquire) || layout.size() > LARGEST {
        return false;
    }
    if !WAITED.swap(true, Acquire) {
        // Nothing here may allocate.
        let _ = super::output::write(rustix::stdio::stderr(), b"warning: out of memory, waiting\n");
    }
    let pause = rustix::event::Timespec { tv_sec: 0, tv_nsec: 20_000_000 };
    let _ = rustix::event::poll(&mut [], Some(&pause));
    true
}

/// Nothing is to be allocated any more.
static SEALED: AtomicBool = AtomicBool::new(false);

/// Says that from now on nothing is to be allocated. In a build with debug assertions, what is allocated all the same
/// is told on standard error.
pub fn seal() {
    SEALED.store(true, Release);
}

fn tell_if_sealed() {
    if cfg!(debug_assertions) && SEALED.load(Acquire) {
        let _ = rustix::io::write(rustix::stdio::stderr(), b"bug: allocated after the start\n");
    }
}

impl Memory {
    /// An allocator with an unused arena.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a default cannot be made in a constant")]
    pub const fn new() -> Self {
        Memory {
            used: UnsafeCell::new(0),
            free: UnsafeCell::new([ptr::null_mut(); SIZES]),
            busy: AtomicBool::new(false),
            arena: Arena(UnsafeCell::new([0; ARENA])),
        }
    }

    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        while self.busy.swap(true, Acquire) {
            std::hint::spin_loop();
        }
        let done = work();
        self.busy.store(false, Release);
        done
    }

    /// Which list a block is on; `None` for what the system is asked for.
    fn size_of(layout: Layout) -> Option<usize> {
        let bits = layout.size().max(1).checked_next_power_of_two()?.trailing_zeros().max(SMALLEST);
        let index = (bits - SMALLEST) as usize;
        (index < SIZES && layout.align() <= 1 << SMALLEST).then_some(index)
    }

    fn take(&self, index: usize) -> *mut u8 {
        self.alone(|| {
            // SAFETY: we are alone with the cells, and `index` is below SIZES.
            let list = unsafe { self.free.get().cast::<Link>().add(index) };
            // SAFETY: as above.
            let first = unsafe { *list };
            if !first.is_null() {
                // SAFETY: a block on the list is free, and begins with the address of the next.
                let next = unsafe { *first.cast::<Link>() };
                // SAFETY: as above.
                unsafe { *list = next };
                return first;
            }
            let size = 1 << (SMALLEST as usize + index);
            // SAFETY: we are alone with the cell.
            let used = unsafe { &mut *self.used.get() };
            if ARENA - *used < size {
                return ptr::null_mut();
            }
            // SAFETY: `used + size` is within the arena.
            let block = unsafe { self.arena.0.get().cast::<u8>().add(*used) };
            *used += size;
            block
        })
    }

    fn is_ours(&self, block: *mut u8) -> bool {
        let begin = self.arena.0.get() as usize;
        (begin..begin + ARENA).contains(&(block as usize))
    }
}

// SAFETY: a block is handed out by `take` only when it is on no list, at least as large as asked for and aligned to
// 16; other requests are the system's, and are given back to it since they do not lie in the arena.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        tell_if_sealed();
        let block = Memory::size_of(layout).map_or(ptr::null_mut(), |index| self.take(index));
        if !block.is_null() {
            return block;
        }
        loop {
            // SAFETY: the caller's promise is passed on.
            let block = unsafe { System.alloc(layout) };
            if !block.is_null() || !pauses(layout) {
                return block;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Memory::size_of(layout) {
            Some(index) if self.is_ours(block) => self.alone(|| {
                // SAFETY: we are alone with the cells, and `index` is below SIZES.
                let list = unsafe { self.free.get().cast::<Link>().add(index) };
                // SAFETY: as above.
                let first = unsafe { *list };
                // SAFETY: the block is free from now on, and has room for an address.
                unsafe { *block.cast::<Link>() = first };
                // SAFETY: as above.
                unsafe { *list = block };
            }),
            // SAFETY: what does not lie in the arena came from the system with this layout.
            _ => unsafe { System.dealloc(block, layout) },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Small enough for Miri, see `scripts/check-allocator`: two threads get and free blocks of every size until the arena
    /// is used up, twice, so that freed blocks are used again.
    #[test]
    fn threads_share_an_arena() {
        let memory = Memory::new();
        let work = |mark: u8| {
            for _ in 0..2 {
                let mut blocks = Vec::new();
                // The last two always come from the system: one is too large, one wants too much alignment.
                let sizes = [4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 5000, 7];
                for size in sizes {
                    let layout = Layout::from_size_align(size, if size == 7 { 32 } else { 8 }).unwrap();
                    loop {
                        // SAFETY: the layout has a size.
                        let block = unsafe { memory.alloc(layout) };
                        assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                        // SAFETY: the block is as large as this.
                        unsafe { block.write_bytes(mark, layout.size()) };
                        blocks.push((block, layout));
                        if !memory.is_ours(block) {
                            break;
                        }
                    }
                }
                for (block, layout) in blocks {
                    // SAFETY: the whole block was written to.
                    let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                    let places = [0, layout.size() / 2, layout.size() - 1];
                    assert!(places.iter().all(|&place| bytes[place] == mark));
                    // SAFETY: the block came from this allocator with this layout.
                    unsafe { memory.dealloc(block, layout) };
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work(1));
            scope.spawn(|| work(2));
        });
    }

    proptest! {
        /// Whatever is taken and given back in whatever order, blocks in use never overlap and keep their bytes.
        #[test]
        fn blocks_in_use_are_apart(steps in prop::collection::vec((1_usize..6000, any::<bool>(), 0_usize..64), 0..400)) {
            let memory = Box::new(Memory::new());
            let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (number, (size, take, which)) in steps.into_iter().enumerate() {
                if take || blocks.is_empty() {
                    let layout = Layout::from_size_align(size, 1 << (which % 5)).unwrap();
                    let mark = number as u8;
                    // SAFETY: the layout has a size.
                    let block = unsafe { memory.alloc(layout) };
                    prop_assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                    // SAFETY: the block is as large as this.
                    unsafe { block.write_bytes(mark, size) };
                    blocks.push((block, layout, mark));
                } else {
                    let (block, layout, mark) = blocks.swap_remove(which % blocks.len());
                    // SAFETY: it was written in full when it was taken.
                    let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                    prop_assert!(bytes.iter().all(|&byte| byte == mark));
                    // SAFETY: it was taken with this layout.
                    unsafe { memory.dealloc(block, layout) };
                }
            }
            for (block, layout, mark) in blocks {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                prop_assert!(bytes.iter().all(|&byte| byte == mark));
                // SAFETY: as above.
                unsafe { memory.dealloc(block, layout) };
            }
        }
    }
}
