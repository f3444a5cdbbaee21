//! An allocator that never frees.
//!
//! Every call has an instance of its own, whose memory is dropped with it. Most of a call's time goes
//! into copying the room's records, text by text, so that allocating must cost next to nothing.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };

const PAGE_BYTES: usize = 64 * 1024;
/// The least by which the memory grows.
const GROWTH_BYTES: usize = 1024 * 1024;

/// What lies between `next` and `end`, which is the end of the memory, is free. Both are 0 at first.
struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

// SAFETY: each block lies between `next` and the end of the memory and moves `next` behind itself,
// so that no two overlap: a guest has one thread.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
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
}
