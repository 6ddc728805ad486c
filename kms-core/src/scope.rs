//! What the application names: scopes and purposes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};

/// The longest scope id or purpose, in bytes of UTF-8.
pub const MAX_NAME_BYTES: usize = 255;

/// A rotational boundary: the id that the application gave an organisation, a project, a tenant.
///
/// At most 255 bytes of UTF-8, not blank, no NUL, no white space at either end. Cheap to clone.
///
/// ```
/// use kms_core::ScopeId;
///
/// let scope = ScopeId::new("o_1234567890")?;
/// assert_eq!(scope.as_str(), "o_1234567890");
/// assert!(ScopeId::new(" ").is_err());
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ScopeId(Arc<str>);

impl ScopeId {
    /// Checks the id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidScope`], and the message says which rule it breaks.
    pub fn new(id: impl AsRef<str>) -> Result<Self> {
        let id = id.as_ref();
        match fault(id) {
            Some(fault) => Err(Error::new(ErrorKind::InvalidScope)
                .with_detail(fault)
                .with_context("scope", shortened(id))),
            None => Ok(Self(id.into())),
        }
    }

    /// The id as a database returned it, unchecked: an adopted database may hold ids that
    /// [`new`](Self::new) refuses. For implementations of [`Repository`](crate::Repository).
    #[must_use]
    pub fn from_stored(id: &str) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a data key exists: "database", "oidc", "client-secrets". Fixed when the engine is built.
///
/// At most 255 bytes of UTF-8, not blank, no NUL, no white space at either end, and not `rootKey`,
/// which stands for root keys. Cheap to clone; a constant costs nothing at all:
///
/// ```
/// use kms_core::Purpose;
///
/// const OIDC: Purpose = Purpose::from_static("oidc");
/// assert_eq!(Purpose::new("oidc")?, OIDC);
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone)]
pub struct Purpose(Name);

#[derive(Clone)]
enum Name {
    Static(&'static str),
    Shared(Arc<str>),
}

impl Purpose {
    /// The purpose under which root keys are bound; no data key has it.
    pub const ROOT_KEY: &'static str = "rootKey";

    /// Checks the purpose.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidPurpose`], and the message says which rule it breaks;
    /// [`ErrorKind::ReservedPurpose`] for `rootKey`.
    pub fn new(purpose: impl AsRef<str>) -> Result<Self> {
        let purpose = purpose.as_ref();
        if purpose == Self::ROOT_KEY {
            return Err(Error::new(ErrorKind::ReservedPurpose).with_context("purpose", purpose));
        }
        match fault(purpose) {
            Some(fault) => Err(Error::new(ErrorKind::InvalidPurpose)
                .with_detail(fault)
                .with_context("purpose", shortened(purpose))),
            None => Ok(Self(Name::Shared(purpose.into()))),
        }
    }

    /// A constant purpose, checked by the compiler when used in a `const`.
    ///
    /// # Panics
    ///
    /// If the purpose is empty, too long, `rootKey`, or holds anything but visible ASCII characters
    /// and inner spaces. For other text use [`new`](Self::new).
    #[must_use]
    pub const fn from_static(purpose: &'static str) -> Self {
        let bytes = purpose.as_bytes();
        assert!(
            !bytes.is_empty() && bytes.len() <= MAX_NAME_BYTES,
            "a purpose has 1 to 255 bytes"
        );
        let mut position = 0;
        while position < bytes.len() {
            let inner = position > 0 && position + 1 < bytes.len();
            assert!(
                bytes[position].is_ascii_graphic() || (inner && bytes[position] == b' '),
                "a constant purpose has visible ASCII characters only"
            );
            position += 1;
        }
        assert!(
            !matches!(bytes, b"rootKey"),
            "the purpose rootKey is reserved for root keys"
        );
        Self(Name::Static(purpose))
    }

    /// The purpose as a database returned it, unchecked: an adopted database may hold ones that
    /// [`new`](Self::new) refuses. For implementations of [`Repository`](crate::Repository).
    #[must_use]
    pub fn from_stored(purpose: &str) -> Self {
        Self(Name::Shared(purpose.into()))
    }

    /// The purpose as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match &self.0 {
            Name::Static(name) => name,
            Name::Shared(name) => name,
        }
    }
}

impl PartialEq for Purpose {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Purpose {}

impl PartialOrd for Purpose {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Purpose {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.as_str().cmp(other.as_str())
    }
}

impl Hash for Purpose {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Debug for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ScopeId({:?})", self.as_str())
    }
}

impl fmt::Display for ScopeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for ScopeId {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl fmt::Debug for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Purpose({:?})", self.as_str())
    }
}

impl fmt::Display for Purpose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl AsRef<str> for Purpose {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

pub(crate) fn fault(name: &str) -> Option<&'static str> {
    if name.trim().is_empty() {
        Some("empty or blank")
    } else if name.len() > MAX_NAME_BYTES {
        Some("longer than 255 bytes")
    } else if name.contains('\0') {
        Some("holds a NUL character")
    } else if name.trim() != name {
        Some("white space at the beginning or the end")
    } else {
        None
    }
}

/// Enough of a refused name to recognise it, so that a huge one does not end up in a log.
pub(crate) fn shortened(name: &str) -> String {
    const SHOWN: usize = 40;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_by_their_own_kind() {
        let long = "x".repeat(MAX_NAME_BYTES + 1);
        for bad in ["", " ", "\t\n", " o", "o ", "o\0", "\u{a0}o", long.as_str()] {
            assert_eq!(
                ScopeId::new(bad).unwrap_err().kind(),
                ErrorKind::InvalidScope
            );
            assert_eq!(
                Purpose::new(bad).unwrap_err().kind(),
                ErrorKind::InvalidPurpose
            );
        }
        assert_eq!(
            Purpose::new("rootKey").unwrap_err().kind(),
            ErrorKind::ReservedPurpose
        );
    }

    #[test]
    fn names_at_the_limit_and_beyond_ascii_are_fine() {
        let limit = "ü".repeat(127) + "x";
        assert_eq!(limit.len(), MAX_NAME_BYTES);
        for good in ["o_1", "日本 tenant", limit.as_str(), "a b"] {
            assert_eq!(ScopeId::new(good).unwrap().as_str(), good);
            assert_eq!(Purpose::new(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn a_constant_purpose_equals_the_checked_one() {
        const DATABASE: Purpose = Purpose::from_static("database");
        assert_eq!(Purpose::new("database").unwrap(), DATABASE);
    }

    #[test]
    fn a_huge_name_is_not_repeated_in_the_message() {
        let error = ScopeId::new("x".repeat(10_000)).unwrap_err();
        assert!(error.to_string().len() < 200);
    }
}
