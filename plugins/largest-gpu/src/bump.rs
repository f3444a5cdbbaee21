//! An allocator that never frees.
//!
//! Every call has its own instance, whose memory is dropped with it. A call spends most of its time copying
//! the room's records, text by text, so allocating must be nearly free.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };

const PAGE_BYTES: usize = 64 * 1024;
/// The smallest growth of the memory.
const GROWTH_BYTES: usize = 1024 * 1024;

/// Memory from `next` to `end` is free. `end` is the end of the memory. Both start at 0.
struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

// SAFETY: each block is between `next` and the end of the memory, and moves `next` behind itself.
// Blocks cannot overlap, because a guest has only one thread.
#[expect(unsafe_code, reason = "the allocator's trait is unsafe")]
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let mut end = self.end.load(Relaxed);
        let next = if end == 0 { memory_size::<0>() * PAGE_BYTES } else { self.next.load(Relaxed) };
        let place = next.next_multiple_of(layout.align());
        let Some(after) = place.checked_add(layout.size()) else { return null_mut() };
        if after > end {
            end = end.max(next);
            let missing = after.saturating_sub(end).max(GROWTH_BYTES);
            if memory_grow::<0>(missing.div_ceil(PAGE_BYTES)) == usize::MAX {
                return null_mut();
            }
            self.end.store(memory_size::<0>() * PAGE_BYTES, Relaxed);
        }
        self.next.store(after, Relaxed);
        place as *mut u8
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        // A text that is being written grows where it is, as long as nothing comes behind it.
        if place as usize + layout.size() == self.next.load(Relaxed) {
            let after = place as usize + bytes;
            if after <= self.end.load(Relaxed) {
                self.next.store(after, Relaxed);
                return place;
            }
        }
        if bytes <= layout.size() {
            return place;
        }
        // SAFETY: the caller's, who has the size and the alignment from a valid layout.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(bytes, layout.align())) };
        if !moved.is_null() {
            // SAFETY: the new block is behind the old one, and larger.
            unsafe { place.copy_to_nonoverlapping(moved, layout.size()) };
        }
        moved
    }
}
