//! Telling whether bytes are still the same without keeping them.

use std::hash::{BuildHasher as _, Hash, RandomState};
use std::sync::LazyLock;

/// 128 bits of some bytes, by `SipHash` under random keys that only this process has.
///
/// Those of other bytes are the same with a chance of 2^-128, which nobody can better: whoever writes the bytes sees
/// neither the keys nor a fingerprint. Equal ones show that a row of the database is the one whose key is known
/// already; if they were wrong, that key would be used until the row is read anew.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Fingerprint([u64; 2]);

impl Fingerprint {
    pub(crate) fn of(bytes: impl Hash) -> Self {
        static KEYS: LazyLock<[RandomState; 2]> =
            LazyLock::new(|| [RandomState::new(), RandomState::new()]);
        Self([KEYS[0].hash_one(&bytes), KEYS[1].hash_one(&bytes)])
    }
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;

    #[test]
    fn the_same_bytes_have_the_same_and_others_another_in_both_halves() {
        let one = Fingerprint::of(b"wrapped");
        assert!(one == Fingerprint::of(b"wrapped"));
        for other in [&b"wrappee"[..], b"wrapped\0", b"", b"rapped"] {
            let other = Fingerprint::of(other);
            assert_ne!(one.0[0], other.0[0]);
            assert_ne!(one.0[1], other.0[1]);
        }
        assert_ne!(one.0[0], one.0[1]);
    }
}
