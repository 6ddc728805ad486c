//! What a root of trust is called that is not the engine's own.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::scope::{fault, shortened};

/// The name of a root of trust: the one that a tenant brought, say. A [`RootResolver`](crate::RootResolver) turns it
/// into a wrapper. The engine's own root has no name.
///
/// At most 255 bytes of UTF-8, not blank, no NUL, no white space at either end. Cheap to clone. It is stored with
/// the scope and shown in errors: a name such as `customer-7`, never a URL with credentials.
///
/// ```
/// use kms_core::RootName;
///
/// let name = RootName::new("customer-7")?;
/// assert_eq!(name.as_str(), "customer-7");
/// assert!(RootName::new("").is_err());
/// # Ok::<(), kms_core::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootName(Arc<str>);

impl RootName {
    /// Checks the name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidRootName`], and the message says which rule it breaks.
    pub fn new(name: impl AsRef<str>) -> Result<Self> {
        let name = name.as_ref();
        match fault(name) {
            Some(fault) => Err(Error::new(ErrorKind::InvalidRootName)
                .with_detail(fault)
                .with_context("root", shortened(name))),
            None => Ok(Self(name.into())),
        }
    }

    /// The name as a database returned it, unchecked. For implementations of [`Repository`](crate::Repository).
    #[must_use]
    pub fn from_stored(name: &str) -> Self {
        Self(name.into())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RootName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
