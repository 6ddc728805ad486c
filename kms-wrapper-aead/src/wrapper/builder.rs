//! Where a local key comes from.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{env, fmt};

use kms_core::service::misconfigured;
use kms_core::{Aead, KeyBytes, LocalKey, Result};
use zeroize::Zeroizing;

use crate::key_name::{Identity, KeyName};
use crate::{AeadWrapper, fastest, key_file, key_text};

/// Builds an [`AeadWrapper`] from a key id and exactly one source of the key.
///
/// Nothing is read before [`build`](Self::build).
///
/// # Text form of a key
///
/// 64 characters are hex digits, upper or lower case. 43 characters, or 44 with the last one `=`, are base64,
/// with `+/` or `-_` as the last two letters. The length tells them apart; any other is refused.
/// `openssl rand -hex 32` and `openssl rand -base64 32` make such keys.
///
/// # Environment variables
///
/// Go's AEAD wrapper reads none, so there are no names to take over, and no `from_env`: name the variable in
/// [`key_from_env`](Self::key_from_env). What Go takes as `key` in its configuration map (standard base64)
/// is accepted here too, where it is 32 bytes.
pub struct AeadWrapperBuilder {
    key_id: String,
    identity: Identity,
    sources: Vec<Source>,
    aead: Option<Arc<dyn Aead>>,
}

enum Source {
    Bytes(KeyBytes),
    Text(Zeroizing<Vec<u8>>),
    Variable(OsString),
    File(PathBuf),
}

impl AeadWrapperBuilder {
    pub(crate) fn new(key_id: String, identity: Identity) -> Self {
        Self {
            key_id,
            identity,
            sources: Vec::new(),
            aead: None,
        }
    }

    /// The key itself.
    #[must_use]
    pub fn key(self, key: KeyBytes) -> Self {
        self.source(Source::Bytes(key))
    }

    /// The key as text: hex or base64, see [above](Self#text-form-of-a-key). This takes a copy, which is
    /// wiped; wiping the original is the caller's part.
    ///
    /// ```
    /// use kms_wrapper_aead::AeadWrapper;
    ///
    /// AeadWrapper::builder("test")
    ///     .key_text("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f")
    ///     .build()?;
    /// # Ok::<(), kms_core::Error>(())
    /// ```
    #[must_use]
    pub fn key_text(self, text: &str) -> Self {
        self.source(Source::Text(Zeroizing::new(text.as_bytes().to_vec())))
    }

    /// The environment variable that holds the key as [text](Self#text-form-of-a-key).
    ///
    /// The copy that is read is wiped. The environment itself keeps the key for as long as the process lives,
    /// where its owner can read it (`/proc/self/environ`), and hands it to child processes: prefer
    /// [a file](Self::key_from_file).
    ///
    /// ```no_run
    /// use kms_wrapper_aead::AeadWrapper;
    ///
    /// let wrapper = AeadWrapper::builder("root-2026").key_from_env("APP_ROOT_KEY").build()?;
    /// # Ok::<(), kms_core::Error>(())
    /// ```
    #[must_use]
    pub fn key_from_env(self, variable: impl Into<OsString>) -> Self {
        self.source(Source::Variable(variable.into()))
    }

    /// The file that holds the key: 32 bytes as they are, or [text](Self#text-form-of-a-key) with or without
    /// one newline at its end.
    ///
    /// On Unix it must be a regular file that belongs to the process's effective user or to root, and that
    /// neither group nor others have any right to (mode 0600 or 0400). A symbolic link is followed, as mounted
    /// secrets need it; what is checked is the file that was opened, so nothing can be swapped in between.
    /// Rights are not checked on other systems.
    ///
    /// 32 printable characters are refused: such a file holds a passphrase or half of a hex key, not
    /// 32 random bytes.
    ///
    /// ```no_run
    /// use kms_wrapper_aead::AeadWrapper;
    ///
    /// let wrapper = AeadWrapper::builder("root-2026").key_from_file("/run/secrets/root-key").build()?;
    /// # Ok::<(), kms_core::Error>(())
    /// ```
    #[must_use]
    pub fn key_from_file(self, path: impl AsRef<Path>) -> Self {
        self.source(Source::File(path.as_ref().to_owned()))
    }

    /// The provider of AES-256-GCM; without one, the [`fastest`] that is compiled in.
    #[must_use]
    pub fn aead(mut self, aead: Arc<dyn Aead>) -> Self {
        self.aead = Some(aead);
        self
    }

    /// Reads the key from its source and prepares it. Reading a file blocks for as long as its file system does.
    ///
    /// # Errors
    ///
    /// - [`InvalidConfiguration`](kms_core::ErrorKind::InvalidConfiguration): a key id that is empty, blank or has white space around it; no
    ///   source or more than one; a variable that is not set; a file that can't be opened or read.
    /// - [`InvalidKey`](kms_core::ErrorKind::InvalidKey): a key of another length or encoding, or in a file that others may read; another key
    ///   than the one whose check value is in the key id.
    ///
    /// The message names the variable or the file, and never shows what it holds.
    pub fn build(self) -> Result<AeadWrapper> {
        self.try_build()
            .map_err(|error| error.with_operation("build aead wrapper"))
    }

    fn try_build(mut self) -> Result<AeadWrapper> {
        check_key_id(&self.key_id)?;
        let source = match (self.sources.pop(), self.sources.is_empty()) {
            (Some(source), true) => source,
            (None, _) => {
                return Err(misconfigured(
                    "no key; give its bytes, text, variable or file",
                ));
            }
            (Some(_), false) => return Err(misconfigured("more than one key; give one source")),
        };
        let key = source.read()?;
        let name = KeyName::of(&self.key_id, &key)?;
        let id = match self.identity {
            Identity::Given => self.key_id.as_str(),
            Identity::Checked => name.checked(),
        };
        let aead = self.aead.unwrap_or_else(fastest);
        Ok(AeadWrapper {
            key: LocalKey::new(&*aead, &key, id),
            name,
        })
    }

    fn source(mut self, source: Source) -> Self {
        self.sources.push(source);
        self
    }
}

impl Source {
    fn read(self) -> Result<KeyBytes> {
        match self {
            Self::Bytes(key) => Ok(key),
            Self::Text(text) => key_text::decode(&text),
            Self::Variable(name) => {
                let text = env::var_os(&name)
                    .map(|value| Zeroizing::new(value.into_encoded_bytes()))
                    .ok_or_else(|| misconfigured("the environment variable is not set"));
                text.and_then(|text| key_text::decode(&text))
                    .map_err(|error| error.with_context("variable", name.display()))
            }
            Self::File(path) => {
                key_file::read(&path).map_err(|error| error.with_context("file", path.display()))
            }
        }
    }
}

/// Shows no key, and no text that may be one.
impl fmt::Debug for AeadWrapperBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AeadWrapperBuilder")
            .field("key_id", &self.key_id)
            .field("identity", &self.identity)
            .field("sources", &self.sources)
            .field("aead", &self.aead)
            .finish()
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(_) => f.write_str("Bytes(hidden)"),
            Self::Text(_) => f.write_str("Text(hidden)"),
            Self::Variable(name) => f.debug_tuple("Variable").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
        }
    }
}

fn check_key_id(id: &str) -> Result<()> {
    if id.trim().is_empty() {
        Err(misconfigured("the key id is empty or blank"))
    } else if id.trim() != id {
        Err(misconfigured("the key id has white space around it").with_context("key_id", id))
    } else {
        Ok(())
    }
}
