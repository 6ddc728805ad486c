//! Text that is short in practice, kept without an allocation of its own.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::ops::Deref;
use std::sync::Arc;

/// Bytes that fit in where the pointer would be.
const INLINE: usize = 22;

/// A text in 24 bytes, or shared. A cached scope has dozens of ids of 15 characters, of which an allocation
/// each takes three times as much.
#[derive(Clone)]
pub(crate) enum ShortText {
    Inline { length: u8, bytes: [u8; INLINE] },
    Shared(Arc<str>),
}

impl ShortText {
    fn short(text: &str) -> Option<Self> {
        let length = u8::try_from(text.len()).ok()?;
        let mut bytes = [0; INLINE];
        bytes
            .get_mut(..text.len())?
            .copy_from_slice(text.as_bytes());
        Some(Self::Inline { length, bytes })
    }
}

impl From<&str> for ShortText {
    fn from(text: &str) -> Self {
        Self::short(text).unwrap_or_else(|| Self::Shared(text.into()))
    }
}

impl From<Arc<str>> for ShortText {
    fn from(text: Arc<str>) -> Self {
        Self::short(&text).unwrap_or(Self::Shared(text))
    }
}

/// Without the check that it is text, which takes longer than comparing.
impl AsRef<[u8]> for ShortText {
    fn as_ref(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Shared(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for ShortText {
    fn eq(&self, other: &Self) -> bool {
        self.as_ref() == other.as_ref()
    }
}

impl Eq for ShortText {}

impl PartialOrd for ShortText {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ShortText {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_ref().cmp(other.as_ref())
    }
}

impl Hash for ShortText {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_ref().hash(state);
    }
}

impl fmt::Debug for ShortText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Deref for ShortText {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Inline { .. } => {
                std::str::from_utf8(self.as_ref()).expect("it was made of a whole text")
            }
            Self::Shared(text) => text,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_any_length_is_what_it_was() {
        for text in [
            "",
            "kdkv_0123456789",
            "1234567890123456789012",
            "12345678901234567890123",
            "größer als zweiundzwanzig Bytes",
            &"x".repeat(300),
        ] {
            assert_eq!(&*ShortText::from(text), text);
            assert_eq!(&*ShortText::from(Arc::<str>::from(text)), text);
        }
    }

    #[test]
    fn texts_are_compared_as_texts_whether_they_are_short_or_not() {
        let texts = ["", "a", "ab", "b", "b12345678901234567890123", "c", "ö"];
        for one in texts {
            for other in texts {
                let (short, text) = (ShortText::from(one), ShortText::from(other));
                assert_eq!(short.cmp(&text), one.cmp(other));
                assert_eq!(short == text, one == other);
            }
        }
    }

    #[test]
    fn it_takes_no_more_than_three_words() {
        assert_eq!(size_of::<ShortText>(), 24);
        assert!(matches!(
            ShortText::from("kdkv_0123456789"),
            ShortText::Inline { .. }
        ));
    }
}
