//! What the process has allocated.

/// Bytes that are in use of the heap, all threads together; none where the allocator does not tell.
///
/// Asked of the allocator itself: a counter beside it would be in the way of what is timed, and pages that the
/// system gave to the process tell of what it once needed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(super) fn in_use() -> Option<usize> {
    // SAFETY: it has no arguments, and gives a struct of numbers.
    #[expect(unsafe_code, reason = "a function of the C library")]
    let told = unsafe { libc::mallinfo2() };
    Some(told.uordblks + told.hblkhd)
}

/// None: this system's allocator does not tell.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(super) fn in_use() -> Option<usize> {
    None
}

#[cfg(all(test, target_os = "linux", target_env = "gnu"))]
mod tests {
    use super::in_use;

    #[test]
    fn what_is_allocated_shows() {
        let before = in_use();
        let block = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = in_use();
        drop(block);
        let grown = after
            .zip(before)
            .map(|(after, before)| after.saturating_sub(before));
        assert!(grown >= Some(63 << 20), "{grown:?}");
    }
}
