//! Storage that is wiped before it is freed, for values that don't wipe themselves.
//!
//! The only unsafe code of the crate, and what it relies on:
//!
//! - The value is written into its place on the heap once, in [`Wiped::new`], and is neither moved, replaced
//!   nor dropped afterwards. So one place is all there is to wipe, and [`Wiped::get`] always finds it written.
//! - Only a type without drop code can be stored (checked at compile time), so that not dropping it loses
//!   nothing and drop code never sees the wiped bytes.
//! - The bytes are overwritten as raw memory, padding and all, with volatile writes, by `zeroize`.
#![expect(unsafe_code)]

use std::mem::{MaybeUninit, needs_drop};
use std::slice;

use zeroize::Zeroize as _;

use crate::clean_stack;

/// A value on the heap whose bytes are overwritten on drop.
pub(super) struct Wiped<T>(Box<MaybeUninit<T>>);

impl<T> Wiped<T> {
    const NOTHING_TO_DROP: () = assert!(!needs_drop::<T>(), "a value with drop code");

    /// Stores what `make` makes, and wipes the stack it was made on.
    pub(super) fn new(make: impl FnOnce() -> T) -> Self {
        let () = Self::NOTHING_TO_DROP;
        let mut place = Box::new_uninit();
        clean_stack::after::<{ clean_stack::BUILDING }, _>(|| {
            place.write(make());
        });
        Self(place)
    }

    /// The value.
    pub(super) fn get(&self) -> &T {
        // SAFETY: `new`, the only constructor, wrote the value, and nothing but `drop` overwrites it. (If
        // `make` panics there is no `Wiped`.)
        unsafe { self.0.assume_init_ref() }
    }

    fn wipe(&mut self) {
        slice::from_mut(&mut *self.0).zeroize();
    }
}

impl<T> Drop for Wiped<T> {
    fn drop(&mut self) {
        self.wipe();
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::fs::File;
    use std::mem::{ManuallyDrop, size_of};
    use std::os::unix::fs::FileExt as _;

    use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};

    use super::*;

    /// The bytes of the place as the system sees them: they may be uninitialized in Rust's eyes.
    fn bytes_of<T>(wiped: &Wiped<T>) -> Vec<u8> {
        let mut bytes = vec![0; size_of::<T>()];
        let address = wiped.0.as_ptr().expose_provenance() as u64;
        File::open("/proc/self/mem")
            .unwrap()
            .read_exact_at(&mut bytes, address)
            .unwrap();
        bytes
    }

    #[test]
    fn a_ring_key_schedule_is_there_before_the_wipe_and_all_zeros_after_it() {
        let key: [u8; 32] = std::array::from_fn(|position| 0xa0 ^ position.to_le_bytes()[0]);
        let mut wiped = ManuallyDrop::new(Wiped::new(|| {
            LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap())
        }));

        let before = bytes_of(&wiped);
        let set = before.iter().filter(|byte| **byte != 0).count();
        assert!(
            set > 240,
            "an AES-256 key schedule has 240 bytes; {set} are not zero"
        );

        wiped.wipe();
        assert_eq!(bytes_of(&wiped), vec![0; size_of::<LessSafeKey>()]);
    }
}
