//! What a wrapper is configured to use: module, token, key, PIN.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use kms_core::{Error, ErrorKind, Result};

use crate::identity::Identity;
use crate::pin::PinSource;

/// Where the key is and how to get at it.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) module: PathBuf,
    pub(crate) token: TokenName,
    pub(crate) key: KeyName,
    pub(crate) pin: Option<PinSource>,
    /// The key that was found first. The wrapper keeps to it.
    seen: Mutex<Option<Identity>>,
}

/// How a token is told from others; what is not given fits any.
#[derive(Clone, Debug, Default)]
pub(crate) struct TokenName {
    pub(crate) label: Option<String>,
    pub(crate) serial: Option<String>,
    pub(crate) manufacturer: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) slot: Option<u64>,
}

/// How a key is told from others on its token.
#[derive(Clone, Debug, Default)]
pub(crate) struct KeyName {
    pub(crate) label: Option<String>,
    pub(crate) id: Option<Vec<u8>>,
}

impl TokenName {
    /// Whether nothing is given.
    pub(crate) fn is_any(&self) -> bool {
        let Self {
            label,
            serial,
            manufacturer,
            model,
            slot,
        } = self;
        [label, serial, manufacturer, model]
            .into_iter()
            .all(Option::is_none)
            && slot.is_none()
    }
}

impl Target {
    pub(crate) fn new(
        module: PathBuf,
        token: TokenName,
        key: KeyName,
        pin: Option<PinSource>,
    ) -> Self {
        Self {
            module,
            token,
            key,
            pin,
            seen: Mutex::new(None),
        }
    }

    /// Which key is configured: the module, the token and the key, as far as they are named.
    pub(crate) fn described(&self) -> String {
        let Self {
            module, token, key, ..
        } = self;
        format!("{} {token:?} {key:?}", module.display())
    }

    pub(crate) fn seen(&self) -> Option<Identity> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.clone()
    }

    /// Remembers which key the configured name stands for; refuses another one than before.
    pub(crate) fn learn(&self, found: Identity) -> Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match &*seen {
            None => *seen = Some(found),
            Some(before) if *before == found => {}
            Some(before) => {
                return Err(Error::new(ErrorKind::UnknownRootKey)
                    .with_detail("the token has another key under this name now")
                    .with_context("root_key_id", before)
                    .with_context("found_key_id", found));
            }
        }
        Ok(())
    }
}
