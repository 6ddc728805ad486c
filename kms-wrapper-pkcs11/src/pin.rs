//! The user's PIN, and where it comes from.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cryptoki::types::AuthPin;
use kms_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

/// More bytes than any token's PIN has: PKCS#11 counts them in one byte, as a rule.
const LONGEST: usize = 4096;

/// A PIN: wiped on drop, and hidden from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Pin(Arc<Zeroizing<String>>);

impl Pin {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Arc::new(Zeroizing::new(text.into())))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A copy that wipes itself, in the form that the token's crate takes.
    pub(crate) fn for_login(&self) -> AuthPin {
        AuthPin::new(Box::from(self.0.as_str()))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// Where a PIN comes from.
#[derive(Clone, Debug)]
pub(crate) enum PinSource {
    Text(Pin),
    /// Read anew for each login.
    File(PathBuf),
}

impl PinSource {
    /// The PIN as it is now.
    pub(crate) fn read(&self) -> Result<Pin> {
        let path = match self {
            Self::Text(pin) => return Ok(pin.clone()),
            Self::File(path) => path,
        };
        let about = |error: Error| error.with_context("file", path.display());
        let pin = read_file(path).map_err(|cause| {
            about(
                Error::new(ErrorKind::Denied)
                    .with_detail("can't read the file with the PIN")
                    .with_source(cause),
            )
        })?;
        if pin.is_empty() {
            let empty = Error::new(ErrorKind::Denied).with_detail("the file with the PIN is empty");
            return Err(about(empty));
        }
        Ok(pin)
    }
}

fn read_file(path: &Path) -> io::Result<Pin> {
    // Read into one buffer that never grows: a grown one leaves its older parts behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    File::open(path)?
        .take(LONGEST as u64)
        .read_to_string(&mut text)?;
    Ok(Pin::new(text.trim_end_matches(['\r', '\n'])))
}
