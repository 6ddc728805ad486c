//! Ids of keys and key versions: a prefix that tells the kind, then ten random characters.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use rand::RngExt as _;
use rand::distr::Alphanumeric;

use crate::error::{Error, ErrorKind, Result};
use crate::random;
use smol_str::SmolStr;

/// Random characters after the prefix: 62^10, about 59 bits. The database's primary keys see to the rest.
const RANDOM_CHARS: usize = 10;

mod sealed {
    pub trait Kind {
        const PREFIX: &'static str;
    }
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident $alias:ident $prefix:literal;)*) => {$(
        $(#[$doc])*
        pub type $alias = Id<kind::$kind>;

        impl sealed::Kind for kind::$kind {
            const PREFIX: &'static str = $prefix;
        }
    )*

        /// What an [`Id`] names. Only ever used as a type parameter.
        pub mod kind {
            $(
                /// Marks the ids of this kind.
                #[derive(Debug)]
                pub enum $kind {}
            )*
        }
    };
}

kinds! {
    /// Id of a root key, `krk_…`.
    RootKey RootKeyId "krk_";
    /// Id of a root key version, `krkv_…`.
    RootKeyVersion RootKeyVersionId "krkv_";
    /// Id of a data key, `kdk_…`.
    DataKey DataKeyId "kdk_";
    /// Id of a data key version, `kdkv_…`: what a blob carries, and what rows with ciphertext reference.
    DataKeyVersion DataKeyVersionId "kdkv_";
}

/// The id of a key or key version; see the aliases [`RootKeyId`], [`RootKeyVersionId`], [`DataKeyId`],
/// [`DataKeyVersionId`]. Cheap to clone.
pub struct Id<K> {
    text: SmolStr,
    kind: PhantomData<fn() -> K>,
}

impl<K: sealed::Kind> Id<K> {
    /// A new random id.
    #[must_use]
    pub fn generate() -> Self {
        let mut text = String::with_capacity(K::PREFIX.len() + RANDOM_CHARS);
        text.push_str(K::PREFIX);
        random::with_rng(|rng| {
            text.extend(
                rng.sample_iter(Alphanumeric)
                    .take(RANDOM_CHARS)
                    .map(char::from),
            );
        });
        Self::from_stored(&text)
    }

    /// Checks an id that came from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKeyVersionId`] if it is not the prefix and ten letters or digits.
    pub fn parse(text: &str) -> Result<Self> {
        let random = text.strip_prefix(K::PREFIX).unwrap_or_default();
        if random.len() == RANDOM_CHARS && random.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            Ok(Self::from_stored(text))
        } else {
            Err(invalid(text))
        }
    }

    /// The id as a database or a blob holds it, unchecked.
    #[must_use]
    pub fn from_stored(text: &str) -> Self {
        Self {
            text: text.into(),
            kind: PhantomData,
        }
    }
}

impl<K> Id<K> {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The same text.
    pub(crate) fn text(&self) -> SmolStr {
        self.text.clone()
    }
}

/// Id of a root or a data key version, told by its prefix.
///
/// ```
/// use kms_core::KeyVersionId;
///
/// let id: KeyVersionId = "kdkv_0123456789".parse()?;
/// assert!(matches!(id, KeyVersionId::Data(_)));
/// assert!("kdk_0123456789".parse::<KeyVersionId>().is_err());
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum KeyVersionId {
    /// A root key version, `krkv_…`.
    Root(RootKeyVersionId),
    /// A data key version, `kdkv_…`.
    Data(DataKeyVersionId),
}

impl KeyVersionId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Root(id) => id.as_str(),
            Self::Data(id) => id.as_str(),
        }
    }
}

impl std::str::FromStr for KeyVersionId {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        RootKeyVersionId::parse(text)
            .map(Self::Root)
            .or_else(|_| DataKeyVersionId::parse(text).map(Self::Data))
    }
}

impl fmt::Display for KeyVersionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<RootKeyVersionId> for KeyVersionId {
    fn from(id: RootKeyVersionId) -> Self {
        Self::Root(id)
    }
}

impl From<DataKeyVersionId> for KeyVersionId {
    fn from(id: DataKeyVersionId) -> Self {
        Self::Data(id)
    }
}

// Written out, since deriving them would ask the same of the marker type.
impl<K> Clone for Id<K> {
    fn clone(&self) -> Self {
        Self {
            text: self.text.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> PartialEq for Id<K> {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl<K> Eq for Id<K> {}

impl<K> PartialOrd for Id<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Id<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.text.cmp(&other.text)
    }
}

impl<K> Hash for Id<K> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl<K> fmt::Debug for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

impl<K> fmt::Display for Id<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<K> AsRef<str> for Id<K> {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

fn invalid(text: &str) -> Error {
    const SHOWN: usize = 40;
    let shown: String = text.chars().take(SHOWN).collect();
    Error::new(ErrorKind::InvalidKeyVersionId).with_context("id", shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_id_has_its_prefix_and_parses() {
        let id = DataKeyVersionId::generate();
        assert_eq!(id.as_str().len(), "kdkv_".len() + RANDOM_CHARS);
        assert_eq!(DataKeyVersionId::parse(id.as_str()).unwrap(), id);
        assert_ne!(id, DataKeyVersionId::generate());
    }

    #[test]
    fn a_key_version_id_is_told_by_its_prefix_and_all_else_refused() {
        assert!(matches!(
            "krkv_abcdefghij".parse(),
            Ok(KeyVersionId::Root(_))
        ));
        assert!(matches!(
            "kdkv_abcdefghij".parse(),
            Ok(KeyVersionId::Data(_))
        ));
        for bad in [
            "",
            "krk_abcdefghij",
            "kdkv_",
            "kdkv_abcdefghi",
            "kdkv_abcdefghijk",
            "kdkv_abcdefghi ",
            "kdkv_äbcdefghi",
        ] {
            let error = bad.parse::<KeyVersionId>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidKeyVersionId, "{bad:?}");
        }
    }
}
