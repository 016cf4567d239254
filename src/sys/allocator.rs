//! The executable's allocator: a small fixed arena, and behind it the system's allocator.
//!
//! A supervisor needs a few kilobytes, and a machine has many supervisors. The system's allocator would cost each of
//! them pages of a heap and of mapped memory, page tables for both, and some system calls at each start; the arena lies
//! beside the other variables. Requests that are large, or do not fit any more, go to the system's allocator.
//!
//! The sizes of blocks are powers of two; a freed block goes onto the list of its size. The arena never returns memory
//! to the system and never joins blocks: it is too small for that to matter.

mod lack;
mod seal;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Release},
};

pub(crate) use lack::wait_for_memory;
pub use seal::seal;

/// Size of the whole allocator, in bytes. Only the pages that are touched take memory.
const TOTAL: usize = 16 * 1024;
/// Size of the arena, in bytes: what the other fields leave of the whole.
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
/// It begins at a page of 4 KiB, so that the bookkeeping and the few blocks of an idle supervisor are on one page, and
/// the variables behind it on another. Where pages are larger this only saves less.
#[allow(missing_debug_implementations, reason = "it has nothing to show")]
#[repr(C, align(4096))]
pub struct Allocator {
    /// How many bytes of the arena have ever been handed out.
    used: UnsafeCell<usize>,
    /// The first freed block of each size.
    free: UnsafeCell<[Link; SIZES]>,
    /// A lock of the fields above. Our programs have one thread, but nothing here depends on that.
    busy: AtomicBool,
    arena: Arena,
}

const _: () = assert!(size_of::<Allocator>() == TOTAL, "the arena leaves a gap");

// SAFETY: the cells are touched only by whoever has set `busy`.
unsafe impl Sync for Allocator {}

impl Allocator {
    /// An allocator with an unused arena.
    #[must_use]
    #[allow(clippy::new_without_default, reason = "a default cannot be made in a constant")]
    pub const fn new() -> Self {
        Allocator {
            used: UnsafeCell::new(0),
            free: UnsafeCell::new([ptr::null_mut(); SIZES]),
            busy: AtomicBool::new(false),
            arena: Arena(UnsafeCell::new([0; ARENA])),
        }
    }

    /// Does `work` while nobody else is in `used` and `free`.
    fn alone<T>(&self, work: impl FnOnce() -> T) -> T {
        while self.busy.swap(true, Acquire) {
            std::hint::spin_loop();
        }
        let done = work();
        self.busy.store(false, Release);
        done
    }

    /// The index of the size of a request; `None` if it goes to the system's allocator.
    fn size_index(layout: Layout) -> Option<usize> {
        let bits = layout.size().max(1).checked_next_power_of_two()?.trailing_zeros().max(SMALLEST);
        let index = (bits - SMALLEST) as usize;
        (index < SIZES && layout.align() <= 1 << SMALLEST).then_some(index)
    }

    /// A block of the size of this index; null if the arena has none.
    fn block_of(&self, index: usize) -> *mut u8 {
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

// SAFETY: a block is handed out by `block_of` only when it is on no list, at least as large as asked for and aligned to
// 16; other requests are the system's, and are given back to it since they do not lie in the arena.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        seal::check();
        let block = Allocator::size_index(layout).map_or(ptr::null_mut(), |index| self.block_of(index));
        if !block.is_null() {
            return block;
        }
        loop {
            // SAFETY: the caller's promise is passed on.
            let block = unsafe { System.alloc(layout) };
            if !block.is_null() || !lack::pause(layout) {
                return block;
            }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match Allocator::size_index(layout) {
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
        let allocator = Allocator::new();
        let work = |mark: u8| {
            for _ in 0..2 {
                let mut blocks = Vec::new();
                // The last two always come from the system: one is too large, one wants too much alignment.
                let sizes = [4096, 2048, 1024, 512, 256, 128, 64, 32, 16, 5000, 7];
                for size in sizes {
                    let layout = Layout::from_size_align(size, if size == 7 { 32 } else { 8 }).unwrap();
                    loop {
                        // SAFETY: the layout has a size.
                        let block = unsafe { allocator.alloc(layout) };
                        assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                        // SAFETY: the block is as large as this.
                        unsafe { block.write_bytes(mark, layout.size()) };
                        blocks.push((block, layout));
                        if !allocator.is_ours(block) {
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
                    unsafe { allocator.dealloc(block, layout) };
                }
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| work(1));
            scope.spawn(|| work(2));
        });
    }

    proptest! {
        /// Whatever is allocated and freed in whatever order, blocks in use never overlap and keep their bytes.
        #[test]
        fn blocks_in_use_are_apart(steps in prop::collection::vec((1_usize..6000, any::<bool>(), 0_usize..64), 0..400)) {
            let allocator = Box::new(Allocator::new());
            let mut blocks: Vec<(*mut u8, Layout, u8)> = Vec::new();
            for (number, (size, take, which)) in steps.into_iter().enumerate() {
                if take || blocks.is_empty() {
                    let layout = Layout::from_size_align(size, 1 << (which % 5)).unwrap();
                    let mark = number as u8;
                    // SAFETY: the layout has a size.
                    let block = unsafe { allocator.alloc(layout) };
                    prop_assert!(!block.is_null() && (block as usize).is_multiple_of(layout.align()));
                    // SAFETY: the block is as large as this.
                    unsafe { block.write_bytes(mark, size) };
                    blocks.push((block, layout, mark));
                } else {
                    let (block, layout, mark) = blocks.swap_remove(which % blocks.len());
                    // SAFETY: it was written in full when it was allocated.
                    let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                    prop_assert!(bytes.iter().all(|&byte| byte == mark));
                    // SAFETY: it was allocated with this layout.
                    unsafe { allocator.dealloc(block, layout) };
                }
            }
            for (block, layout, mark) in blocks {
                // SAFETY: as above.
                let bytes = unsafe { std::slice::from_raw_parts(block, layout.size()) };
                prop_assert!(bytes.iter().all(|&byte| byte == mark));
                // SAFETY: as above.
                unsafe { allocator.dealloc(block, layout) };
            }
        }
    }
}
