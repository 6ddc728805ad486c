//! Leaves no key material behind on the stack.
//!
//! Building an expanded key moves it through a few frames before it lies where it stays, and a move leaves
//! the old bytes where they were. Nothing in Rust wipes them. What can be done is to build in a frame of its
//! own and to overwrite that part of the stack afterwards.

use std::hint::black_box;

use zeroize::Zeroize as _;

/// Words of stack to overwrite: 16 KiB. The test `wiping.rs` finds copies of the key, in an unoptimized
/// build and with each provider, if this is too little.
const WORDS: usize = 2048;

/// Runs `work`, and overwrites the stack that it used.
pub(crate) fn after<T>(work: impl FnOnce() -> T) -> T {
    let result = in_a_frame_of_its_own(work);
    scrub();
    result
}

#[inline(never)]
fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Called from the same frame as the work was, so its own frame lies where the work's frames were.
#[inline(never)]
fn scrub() {
    // Not zeros, so that the compiler has to write them all before they are wiped.
    let mut area = [usize::MAX; WORDS];
    black_box(&mut area).zeroize();
    black_box(&area);
}
