//! Text that must not show: tokens, secret ids, JWTs.

use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use kms_core::{Error, ErrorKind, Result};
use zeroize::Zeroizing;

mod google;

/// More than any token or JWT has.
const LONGEST: usize = 64 * 1024;

/// Text that is wiped on drop and hidden from `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }

    /// What a header can carry, and no less than a character.
    pub(crate) fn is_sound(&self) -> bool {
        !self.0.is_empty() && self.0.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("hidden")
    }
}

/// Where a credential comes from.
#[derive(Clone, Debug)]
pub(crate) enum Credential {
    Text(Hidden),
    /// Read anew whenever it is needed, since agents and kubelets replace such files.
    File(PathBuf),
    /// The identity of the machine of Google's that this runs on, for this audience.
    GoogleInstance(String),
}

impl Credential {
    /// Refuses what can't work, without reading a file.
    pub(crate) fn check(&self, what: &'static str) -> Result<()> {
        let sound = match self {
            Self::Text(text) => text.is_sound(),
            Self::File(path) => !path.as_os_str().is_empty(),
            Self::GoogleInstance(_) => true,
        };
        if sound {
            return Ok(());
        }
        Err(Error::new(ErrorKind::InvalidConfiguration)
            .with_detail("the credential is empty, or has white space or control characters in it")
            .with_context("credential", what))
    }

    /// The credential as it is now.
    pub(crate) async fn read(&self, what: &'static str) -> Result<Hidden> {
        let path = match self {
            Self::Text(text) => return Ok(text.clone()),
            Self::File(path) => path.clone(),
            Self::GoogleInstance(audience) => return google::identity_token(audience).await,
        };
        let opened = path.clone();
        let text = tokio::task::spawn_blocking(move || read_file(&opened))
            .await
            .unwrap_or_else(|failure| Err(std::io::Error::other(failure)))
            .map_err(|cause| refused("can't read the file").with_source(cause));
        let text = text.and_then(|text| {
            if text.is_sound() {
                Ok(text)
            } else {
                Err(refused(
                    "the file is empty or does not hold one line of text",
                ))
            }
        });
        text.map_err(|error| {
            error
                .with_context("credential", what)
                .with_context("file", path.display())
        })
    }
}

fn read_file(path: &Path) -> std::io::Result<Hidden> {
    // Read into one buffer that never grows: a grown one leaves its older parts behind.
    let mut text = Zeroizing::new(String::with_capacity(LONGEST));
    std::fs::File::open(path)?
        .take(LONGEST as u64)
        .read_to_string(&mut text)?;
    Ok(Hidden::new(text.trim()))
}

fn refused(detail: &'static str) -> Error {
    Error::new(ErrorKind::Denied).with_detail(detail)
}
