//! What a local key is called, and the check value that tells it from others of that name.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit as _, Mac as _};
use kms_core::{Error, ErrorKind, KeyBytes, Result};
use sha2::Sha256;

use crate::clean_stack;

/// Between a key's name and its check value.
const MARK: &str = "#kcv-";

/// What the check value is of. Nothing else is ever authenticated with a root key by HMAC.
const TEXT: &[u8] = b"kms-kit: check value of a local root key";

/// Enough that no two keys of one name have the same by chance.
const CHECK_BYTES: usize = 8;

/// What the blobs of a wrapper carry.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Identity {
    /// The id as it was given.
    Given,
    /// The name and the check value.
    Checked,
}

/// A key's name with and without its check value.
pub(crate) struct KeyName {
    checked: String,
    bare: usize,
}

impl KeyName {
    /// # Errors
    ///
    /// [`ErrorKind::InvalidKey`] for a text that carries the check value of another key.
    pub(crate) fn of(text: &str, key: &KeyBytes) -> Result<Self> {
        let value = check_value(key);
        let bare = match text.rsplit_once(MARK) {
            Some((name, given)) if is_check_value(given) => {
                if given != value {
                    return Err(Error::new(ErrorKind::InvalidKey)
                        .with_detail("it is another key than the one that the key id was made for")
                        .with_context("key_id", text)
                        .with_context("check_value_of_the_key", value));
                }
                name
            }
            _ => text,
        };
        Ok(Self {
            checked: format!("{bare}{MARK}{value}"),
            bare: bare.len(),
        })
    }

    pub(crate) fn checked(&self) -> &str {
        &self.checked
    }

    pub(crate) fn bare(&self) -> &str {
        &self.checked[..self.bare]
    }
}

fn check_value(key: &KeyBytes) -> String {
    let mac = clean_stack::after::<{ clean_stack::BUILDING }, _>(|| {
        let mut mac =
            <Hmac<Sha256>>::new_from_slice(key.expose()).expect("HMAC takes a key of any length");
        mac.update(TEXT);
        mac.finalize().into_bytes()
    });
    HEXLOWER.encode(&mac[..CHECK_BYTES])
}

fn is_check_value(text: &str) -> bool {
    text.len() == 2 * CHECK_BYTES && HEXLOWER.decode(text.as_bytes()).is_ok()
}
