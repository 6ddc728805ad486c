//! Leaves no key material behind on the stack.
//!
//! Building an expanded key moves it through a few frames before it lies where it stays, and a move leaves
//! the old bytes where they were; compiled code also puts round keys aside on the stack when it runs out of
//! registers. Nothing in Rust wipes them. What can be done is to run such code in a frame of its own and to
//! overwrite that part of the stack afterwards. The test `wiping.rs` finds what this misses.

use std::hint::black_box;
use std::mem::MaybeUninit;
use std::slice;

use zeroize::Zeroize as _;

/// Bytes of stack that building a key uses, with room to spare for unoptimized builds.
pub(crate) const BUILDING: usize = 16 * 1024;

/// Runs `work`, and overwrites the first `BYTES` bytes of the stack that it used.
pub(crate) fn after<const BYTES: usize, T>(work: impl FnOnce() -> T) -> T {
    let result = in_a_frame_of_its_own(work);
    scrub::<BYTES>();
    result
}

#[inline(never)]
fn in_a_frame_of_its_own<T>(work: impl FnOnce() -> T) -> T {
    work()
}

/// Called from the same frame as the work was, so its own frame lies where the work's frames were.
#[inline(never)]
fn scrub<const BYTES: usize>() {
    let mut area = MaybeUninit::<[u8; BYTES]>::uninit();
    // As a slice it is overwritten in place; as a whole, from a second area of the same size.
    slice::from_mut(black_box(&mut area)).zeroize();
}
