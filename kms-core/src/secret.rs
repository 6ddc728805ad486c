//! Secrets in memory: wiped on drop, absent from `Debug`, never cloned.

use std::fmt;

use rand::TryRng as _;
use rand::rngs::SysRng;
use subtle::ConstantTimeEq as _;
use zeroize::{Zeroize as _, ZeroizeOnDrop, Zeroizing};

use crate::error::{Error, ErrorKind, Result};

/// Plaintext, or anything else that must not linger: wiped when dropped, hidden from `Debug`.
///
/// It does not implement `Clone`, so that each copy is one that somebody wrote down.
///
/// ```
/// use kms_core::SecretBytes;
///
/// let secret = SecretBytes::new(b"hunter2".to_vec());
/// assert_eq!(secret.expose(), b"hunter2");
/// assert_eq!(format!("{secret:?}"), "SecretBytes(7 bytes)");
/// ```
///
/// ```compile_fail,E0599
/// # let secret = kms_core::SecretBytes::new(b"hunter2".to_vec());
/// let copy = secret.clone();
/// ```
#[derive(Default)]
pub struct SecretBytes(Vec<u8>);

impl SecretBytes {
    /// Takes over the bytes. The vector's spare capacity is wiped on drop too.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes themselves. Keep the borrow short.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Takes a copy of these bytes instead of what it held. Where there is room for them nothing is
    /// allocated; where there is not, the old buffer is wiped and given back.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        if self.0.capacity() < bytes.len() {
            // Not by growing, which would leave the old buffer behind as it is.
            *self = Self::new(Vec::with_capacity(bytes.len()));
        }
        self.0.clear();
        self.0.extend_from_slice(bytes);
    }

    /// Wipes what it holds, and keeps the buffer.
    pub(crate) fn clear(&mut self) {
        // All of the allocation at once. A vector's own `zeroize` goes byte by byte, which takes longer than
        // decrypting did. And nothing where there is nothing: filling no bytes at an address that is none can
        // take as long as decrypting 32 (AVX-512 writes under a mask, and checks the page all the same).
        self.0.clear();
        if self.0.capacity() > 0 {
            self.0.spare_capacity_mut().zeroize();
        }
    }

    /// The bytes, to be decrypted where they are.
    pub(crate) fn expose_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Drop for SecretBytes {
    fn drop(&mut self) {
        self.clear();
    }
}

impl ZeroizeOnDrop for SecretBytes {}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes)
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretBytes({} bytes)", self.len())
    }
}

/// The 32 bytes of an AES-256 key: wiped when dropped, hidden from `Debug`, compared in constant time.
///
/// The bytes live on the heap, so that moving the value leaves no copy behind. It does not implement
/// `Clone` either:
///
/// ```compile_fail,E0599
/// # let key = kms_core::KeyBytes::generate().unwrap();
/// let copy = key.clone();
/// ```
pub struct KeyBytes(Box<Zeroizing<[u8; KeyBytes::LEN]>>);

impl KeyBytes {
    /// Length of a key in bytes.
    pub const LEN: usize = 32;

    /// A new key, straight from the operating system's generator (NIST SP 800-133, section 4: keys
    /// come from an approved source, not from a generator shared with nonces).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Internal`] if the operating system has no random numbers to give.
    pub fn generate() -> Result<Self> {
        let mut key = Self(Box::new(Zeroizing::new([0; Self::LEN])));
        SysRng
            .try_fill_bytes(key.0.as_mut_slice())
            .map_err(|source| {
                Error::new(ErrorKind::Internal)
                    .with_detail("the operating system gave no random numbers")
                    .with_source(source)
            })?;
        Ok(key)
    }

    /// A copy of these bytes; wiping the original is the caller's part.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] if there are not exactly 32.
    pub fn from_slice(bytes: &[u8]) -> Result<Self> {
        if bytes.len() != Self::LEN {
            return Err(Error::new(ErrorKind::InvalidKey).with_detail(format!(
                "{} bytes instead of {}",
                bytes.len(),
                Self::LEN
            )));
        }
        let mut key = Self(Box::new(Zeroizing::new([0; Self::LEN])));
        key.0.copy_from_slice(bytes);
        Ok(key)
    }

    /// A copy of a key.
    pub(crate) fn copy_of(bytes: &[u8; Self::LEN]) -> Self {
        let mut key = Self(Box::new(Zeroizing::new([0; Self::LEN])));
        key.0.copy_from_slice(bytes);
        key
    }

    /// The bytes themselves. Keep the borrow short.
    #[must_use]
    pub fn expose(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl PartialEq for KeyBytes {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(other.0.as_slice()).into()
    }
}

impl Eq for KeyBytes {}

impl fmt::Debug for KeyBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyBytes(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_generated_keys_differ_and_debug_shows_neither() {
        let (a, b) = (KeyBytes::generate().unwrap(), KeyBytes::generate().unwrap());
        assert_ne!(a, b);
        assert_eq!(format!("{a:?}"), "KeyBytes(hidden)");
    }

    /// The bytes of a buffer as the system sees them, also those that are not part of its content.
    #[cfg(target_os = "linux")]
    fn whole_buffer(secret: &SecretBytes) -> Vec<u8> {
        use std::os::unix::fs::FileExt as _;

        let mut bytes = vec![0; secret.0.capacity()];
        let address = secret.0.as_ptr().expose_provenance() as u64;
        let memory = std::fs::File::open("/proc/self/mem").unwrap();
        memory.read_exact_at(&mut bytes, address).unwrap();
        bytes
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn invariant_01_the_whole_buffer_is_wiped_whatever_it_held_last() {
        let mut secret = SecretBytes::new(vec![7; 5000]);
        secret.replace(&[8; 100]);
        assert_eq!(whole_buffer(&secret)[100..], [7; 4900]);
        // What dropping does.
        secret.clear();
        assert_eq!(whole_buffer(&secret), vec![0; 5000]);
    }

    #[test]
    fn a_buffer_is_used_again_where_the_bytes_fit_and_replaced_where_they_do_not() {
        let mut secret = SecretBytes::new(vec![7; 100]);
        let before = secret.expose().as_ptr();
        secret.replace(&[8; 50]);
        assert_eq!(
            (secret.expose(), secret.expose().as_ptr()),
            (&[8; 50][..], before)
        );
        secret.replace(&[9; 200]);
        assert_eq!(secret.expose(), [9; 200]);
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for length in [0, 16, 31, 33] {
            let error = KeyBytes::from_slice(&vec![7; length]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKey);
        }
    }
}
