//! AES whose keys use the engine when they are destroyed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use futures_util::FutureExt as _;
use kms_core::{Aead, AeadError, AeadKey, KeyBytes, Kms, NONCE_LEN, ScopeId, TAG_LEN};

use super::OIDC;

/// AES of the application's own, whose keys use the engine when they are destroyed.
#[derive(Debug)]
pub struct Meddling {
    pub inner: Arc<dyn Aead>,
    /// Held by the test, so that the engine, which holds this, can go.
    pub engine: Weak<OnceLock<(Kms, ScopeId)>>,
    pub destroyed: Arc<AtomicU64>,
}

#[derive(Debug)]
struct MeddlingKey {
    inner: Box<dyn AeadKey>,
    engine: Weak<OnceLock<(Kms, ScopeId)>>,
    destroyed: Arc<AtomicU64>,
}

impl Aead for Meddling {
    fn name(&self) -> &'static str {
        "meddling"
    }

    fn prepare(&self, key: &KeyBytes) -> Box<dyn AeadKey> {
        Box::new(MeddlingKey {
            inner: self.inner.prepare(key),
            engine: Weak::clone(&self.engine),
            destroyed: Arc::clone(&self.destroyed),
        })
    }
}

impl AeadKey for MeddlingKey {
    fn seal_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
    ) -> Result<[u8; TAG_LEN], AeadError> {
        self.inner.seal_in_place(nonce, aad, buffer)
    }

    fn open_in_place(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        buffer: &mut [u8],
        tag: &[u8; TAG_LEN],
    ) -> Result<(), AeadError> {
        self.inner.open_in_place(nonce, aad, buffer, tag)
    }
}

impl Drop for MeddlingKey {
    fn drop(&mut self) {
        // At the end of the test the engine goes first.
        if let Some(engine) = self.engine.upgrade()
            && let Some((kms, id)) = engine.get()
        {
            self.destroyed.fetch_add(1, Ordering::Relaxed);
            let _ = kms.wrapper(id, &OIDC).now_or_never();
        }
    }
}
