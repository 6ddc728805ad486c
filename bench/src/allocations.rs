//! Counting what is asked of the allocator.
#![expect(unsafe_code, reason = "an allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;

thread_local! {
    static ASKED: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting per thread. A program makes it the global one; it costs less than a
/// nanosecond for each allocation.
#[derive(Debug)]
pub struct Counting;

// SAFETY: every call is passed on to the system's allocator as it is; a thread-local that is constant when it is
// made and has no destructor can be counted in from here.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promised.
        unsafe { System.realloc(place, layout, size) }
    }
}

fn count() {
    ASKED.set(ASKED.get() + 1);
}

/// How often this thread asks the allocator for memory when it does this for the second time: the first makes what
/// a thread has once.
///
/// # Panics
///
/// If [`Counting`] is not the global allocator: then everything would seem to be free.
pub fn of<T>(mut work: impl FnMut() -> T) -> u64 {
    let before = ASKED.get();
    drop(black_box(Box::new(0_u8)));
    assert!(ASKED.get() > before, "nobody counts in this program");
    drop(work());
    let before = ASKED.get();
    let result = work();
    let asked = ASKED.get() - before;
    drop(result);
    asked
}
