//! Memory that is never given back.
//!
//! Every call has an instance of its own that ends with it, and most of a call's time goes into
//! taking over the records of the room, text by text: taking memory must cost next to nothing.

use std::alloc::{GlobalAlloc, Layout};
use std::arch::wasm32::{memory_grow, memory_size};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

#[global_allocator]
static ALLOCATOR: Bump = Bump { next: AtomicUsize::new(0), end: AtomicUsize::new(0) };

const PAGE_BYTES: usize = 64 * 1024;
/// What the memory grows by at least.
const GROWTH_BYTES: usize = 1024 * 1024;

/// What lies between `next` and `end` is free.
struct Bump {
    next: AtomicUsize,
    end: AtomicUsize,
}

impl Bump {
    /// Grows the memory so that it reaches `wanted`, and tells where the new part begins.
    fn grow(&self, bytes: usize) -> Option<usize> {
        let pages = bytes.max(GROWTH_BYTES).div_ceil(PAGE_BYTES);
        let begin = memory_grow::<0>(pages);
        (begin != usize::MAX).then_some(begin * PAGE_BYTES)
    }
}

// SAFETY: each block lies in memory that was grown for it, and no two overlap: a guest has one
// thread.
#[expect(unsafe_code, reason = "the trait of allocators is unsafe")]
unsafe impl GlobalAlloc for Bump {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let place = self.next.load(Relaxed).next_multiple_of(layout.align());
        match place.checked_add(layout.size()) {
            Some(next) if next <= self.end.load(Relaxed) => {
                self.next.store(next, Relaxed);
                place as *mut u8
            }
            _ => {
                let Some(begin) = self.grow(layout.size()) else { return null_mut() };
                self.next.store(begin + layout.size(), Relaxed);
                self.end.store(memory_size::<0>() * PAGE_BYTES, Relaxed);
                begin as *mut u8
            }
        }
    }

    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}
