//! A decorator that lets a wrapper's calls fail, hang or wait as a script says.

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{Blob, Claim, Ownership, Result, SecretBytes, VersionAge, Wrapper};

use crate::fault::{Fault, Script, When};

/// A wrapper whose calls fail, hang or wait where a test says so.
///
/// What it tells without I/O ([`kind`](Wrapper::kind), [`key_id`](Wrapper::key_id), ownership) is the
/// decorated wrapper's.
#[derive(Debug)]
pub struct FaultyWrapper {
    inner: Arc<dyn Wrapper>,
    script: Script<WrapperMethod>,
}

/// The methods of [`Wrapper`] that may do I/O, to say which one a fault happens to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each is named after its method")]
pub enum WrapperMethod {
    Encrypt,
    Decrypt,
    Preflight,
}

impl FaultyWrapper {
    /// Decorates a wrapper. Without faults it does what that one does.
    #[must_use]
    pub fn new(inner: Arc<dyn Wrapper>) -> Self {
        Self {
            inner,
            script: Script::new(),
        }
    }

    /// Adds a fault. Several that meet in one call happen in the order they were added.
    pub fn inject(&self, method: WrapperMethod, when: When, fault: Fault) {
        self.script.inject(method, when, fault);
    }

    /// Takes back all faults that have not happened yet. Calls that wait at a gate go on waiting.
    pub fn clear(&self) {
        self.script.clear();
    }

    /// How many faults have not happened yet, so that a test can see that all of them did.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.script.pending()
    }
}

#[async_trait]
impl Wrapper for FaultyWrapper {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.inner.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.inner.owns(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.inner.claims()
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        self.inner.version_of(blob)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.inner.is_current(blob)
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        let call = self.inner.encrypt(plaintext, aad);
        self.script.run(WrapperMethod::Encrypt, call).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let call = self.inner.decrypt(blob, aad);
        self.script.run(WrapperMethod::Decrypt, call).await
    }

    async fn preflight(&self) -> Result<()> {
        let call = self.inner.preflight();
        self.script.run(WrapperMethod::Preflight, call).await
    }
}
