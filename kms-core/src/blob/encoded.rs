//! The serialized form of what a local key encrypts, written and read where it is.
//!
//! A [`Blob`](super::Blob) between the two would cost a copy of the ciphertext and two allocations each way, as
//! much as the cipher itself. So this writes the very bytes that `prost` would, around a ciphertext that is not
//! there yet, and reads them back in place. It reads no other form: whatever does not look exactly like it is for
//! `prost` to judge.

use std::ops::Range;

/// Tags of the fields, as they stand before a length: number times 8, plus 2.
const CIPHERTEXT: u8 = 1 << 3 | 2;
const KEY_INFO: u8 = 5 << 3 | 2;
const KEY_ID: u8 = 3 << 3 | 2;

/// The longest length in bytes: seven bits in each.
const MAX_LENGTH_BYTES: usize = 10;

/// A serialized blob that holds a ciphertext and a key id, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Encoded<'a> {
    /// Where the ciphertext lies.
    pub(crate) ciphertext: Range<usize>,
    pub(crate) key_id: &'a str,
}

impl<'a> Encoded<'a> {
    /// How long the serialized form gets.
    pub(crate) fn length(ciphertext: usize, key_id: &str) -> usize {
        let id = id_field_length(key_id);
        1 + length_of_length(ciphertext) + ciphertext + 1 + length_of_length(id) + id
    }

    /// What stands before the ciphertext.
    pub(crate) fn begin(bytes: &mut Vec<u8>, ciphertext: usize) {
        bytes.push(CIPHERTEXT);
        push_length(bytes, ciphertext);
    }

    /// What stands after it.
    pub(crate) fn end(bytes: &mut Vec<u8>, key_id: &str) {
        bytes.push(KEY_INFO);
        push_length(bytes, id_field_length(key_id));
        if !key_id.is_empty() {
            bytes.push(KEY_ID);
            push_length(bytes, key_id.len());
            bytes.extend_from_slice(key_id.as_bytes());
        }
    }

    /// Reads the form that is written here; `None` for every other.
    pub(crate) fn read(bytes: &'a [u8]) -> Option<Self> {
        let (ciphertext, end) = field(bytes, 0, CIPHERTEXT)?;
        let (key_info, end) = field(bytes, end, KEY_INFO)?;
        let (key_id, id_end) = field(bytes, key_info.start, KEY_ID)?;
        let whole = end == bytes.len() && id_end == end && !ciphertext.is_empty();
        let key_id = std::str::from_utf8(&bytes[key_id]).ok()?;
        whole.then_some(Self { ciphertext, key_id })
    }
}

/// The field that begins at `start`: where its value lies, and where the next one begins.
fn field(bytes: &[u8], start: usize, tag: u8) -> Option<(Range<usize>, usize)> {
    let (first, rest) = bytes.get(start..)?.split_first()?;
    if *first != tag {
        return None;
    }
    let (length, size) = length(rest)?;
    let begin = start + 1 + size;
    let end = begin.checked_add(length)?;
    (end <= bytes.len()).then_some((begin..end, end))
}

/// A length and the number of bytes that it is written in.
fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    let mut value = 0;
    // Four bytes of seven bits are 256 MiB. What is longer is not read here.
    for (position, byte) in bytes.iter().take(4).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * position);
        if byte & 0x80 == 0 {
            return Some((value, position + 1));
        }
    }
    None
}

fn push_length(bytes: &mut Vec<u8>, mut length: usize) {
    while length > 0x7f {
        bytes.push(length.to_le_bytes()[0] | 0x80);
        length >>= 7;
    }
    bytes.push(length.to_le_bytes()[0]);
}

fn length_of_length(length: usize) -> usize {
    let bits = usize::BITS - (length | 1).leading_zeros();
    (bits as usize).div_ceil(7).min(MAX_LENGTH_BYTES)
}

fn id_field_length(key_id: &str) -> usize {
    if key_id.is_empty() {
        0
    } else {
        1 + length_of_length(key_id.len()) + key_id.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::Blob;
    use super::*;

    fn written(ciphertext: &[u8], key_id: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        Encoded::begin(&mut bytes, ciphertext.len());
        bytes.extend_from_slice(ciphertext);
        Encoded::end(&mut bytes, key_id);
        bytes
    }

    /// What is read in place is what `prost` reads, or nothing is.
    fn agrees_with_prost(bytes: &[u8]) -> Result<(), TestCaseError> {
        if let Some(encoded) = Encoded::read(bytes) {
            let blob = Blob::decode(bytes);
            prop_assert!(blob.is_ok(), "{bytes:?}");
            let blob = blob.unwrap();
            prop_assert_eq!(blob.ciphertext(), &bytes[encoded.ciphertext]);
            prop_assert_eq!(blob.key_id(), encoded.key_id);
            prop_assert!(blob.iv().is_empty() && blob.wrapped_key().is_empty());
            prop_assert_eq!((blob.mechanism(), blob.is_marked_bound()), (0, false));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_bytes_are_those_that_prost_writes(
            ciphertext in proptest::collection::vec(any::<u8>(), 1..300),
            key_id in ".{0,150}",
        ) {
            let bytes = written(&ciphertext, &key_id);
            prop_assert_eq!(&bytes, &Blob::new(ciphertext.clone(), key_id.clone()).encode());
            prop_assert_eq!(bytes.len(), Encoded::length(ciphertext.len(), &key_id));
            if !key_id.is_empty() {
                let encoded = Encoded::read(&bytes);
                prop_assert!(encoded.is_some());
                let encoded = encoded.unwrap();
                prop_assert_eq!(&bytes[encoded.ciphertext], &ciphertext);
                prop_assert_eq!(encoded.key_id, key_id);
            }
        }

        #[test]
        fn any_bytes_are_read_as_prost_reads_them_or_not_at_all(
            bytes in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            agrees_with_prost(&bytes)?;
        }

        #[test]
        fn an_altered_blob_is_read_as_prost_reads_it_or_not_at_all(
            length in 1..200_usize,
            position: proptest::sample::Index,
            byte: u8,
            cut: proptest::sample::Index,
            extra in proptest::collection::vec(any::<u8>(), 0..8),
        ) {
            let whole = written(&vec![7; length], "kdkv_0123456789");
            let mut altered = whole.clone();
            altered[position.index(whole.len())] = byte;
            agrees_with_prost(&altered)?;
            agrees_with_prost(&whole[..cut.index(whole.len())])?;
            let mut longer = whole.clone();
            longer.extend(extra);
            agrees_with_prost(&longer)?;
        }
    }

    #[test]
    fn lengths_at_every_border_are_those_that_prost_writes() {
        for length in [1, 127, 128, 16_383, 16_384, 2_097_151, 2_097_152] {
            let bytes = written(&vec![7; length], "id");
            assert!(
                bytes == Blob::new(vec![7; length], "id").encode(),
                "{length}"
            );
            assert_eq!(bytes.len(), Encoded::length(length, "id"));
            assert_eq!(Encoded::read(&bytes).unwrap().ciphertext.len(), length);
        }
    }
}
