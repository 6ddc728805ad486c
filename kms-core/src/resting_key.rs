//! A key in memory that is seldom used, kept as small as it is.

use std::fmt;
use std::sync::Arc;

use zeroize::Zeroizing;

use crate::aead::Aead;
use crate::local_key::LocalKey;
use crate::secret::KeyBytes;
use crate::usage::Count;
use smol_str::SmolStr;

/// An AES-256-GCM key that is expanded anew for each use.
///
/// Expanding takes some 0.3 µs, and an expanded key some 600 bytes. The versions that encrypt are kept
/// expanded; a scope may have many others, which only decrypt what is old, and the root keys above them, which
/// only open them.
pub(crate) struct RestingKey {
    aead: Arc<dyn Aead>,
    bytes: Zeroizing<[u8; KeyBytes::LEN]>,
}

impl RestingKey {
    /// On the heap at once: moving it would leave copies behind.
    pub(crate) fn new(aead: Arc<dyn Aead>, bytes: &KeyBytes) -> Arc<Self> {
        let mut key = Arc::new(Self {
            aead,
            bytes: Zeroizing::new([0; KeyBytes::LEN]),
        });
        if let Some(key) = Arc::get_mut(&mut key) {
            key.bytes.copy_from_slice(bytes.expose());
        }
        key
    }

    /// The key, ready for one use or a few. It is wiped when it is dropped.
    pub(crate) fn expand(&self, id: SmolStr) -> LocalKey {
        self.expand_counted(id, None)
    }

    /// The key, ready to encrypt, and to count that.
    pub(crate) fn expand_counted(&self, id: SmolStr, encryptions: Option<Count>) -> LocalKey {
        let bytes = KeyBytes::copy_of(&self.bytes);
        LocalKey::named(&*self.aead, &bytes, id, encryptions)
    }
}

impl fmt::Debug for RestingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RestingKey(hidden)")
    }
}
