//! A decorator that counts a wrapper's calls.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use kms_core::{Blob, Claim, Ownership, Result, SecretBytes, VersionAge, Wrapper};

/// A wrapper that counts its calls, and how many there were at once. They are counted when they begin,
/// whatever becomes of them.
///
/// [`preflight`](Wrapper::preflight) counts as itself: what the decorated wrapper does for it is not
/// seen.
#[derive(Debug)]
pub struct CountingWrapper {
    inner: Arc<dyn Wrapper>,
    calls: Mutex<InFlight>,
}

/// How often the methods of a [`Wrapper`] that may do I/O were called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WrapperCalls {
    /// Calls of `encrypt`.
    pub encrypt: u64,
    /// Calls of `decrypt`.
    pub decrypt: u64,
    /// Calls of `preflight`.
    pub preflight: u64,
    /// The most calls, of any of these, that were under way at the same time.
    pub most_at_once: u64,
}

#[derive(Debug, Default)]
struct InFlight {
    calls: WrapperCalls,
    now: u64,
}

impl CountingWrapper {
    /// Decorates a wrapper.
    #[must_use]
    pub fn new(inner: Arc<dyn Wrapper>) -> Self {
        Self {
            inner,
            calls: Mutex::default(),
        }
    }

    /// The calls since it was made or last [`take`](Self::take)n.
    #[must_use]
    pub fn calls(&self) -> WrapperCalls {
        lock(&self.calls).calls
    }

    /// The same, and counts from zero again.
    #[must_use = "the calls so far; they are forgotten"]
    pub fn take(&self) -> WrapperCalls {
        let mut state = lock(&self.calls);
        let from_now = WrapperCalls {
            most_at_once: state.now,
            ..WrapperCalls::default()
        };
        std::mem::replace(&mut state.calls, from_now)
    }

    fn count(&self, counter: impl FnOnce(&mut WrapperCalls) -> &mut u64) -> UnderWay<'_> {
        let mut state = lock(&self.calls);
        *counter(&mut state.calls) += 1;
        state.now += 1;
        state.calls.most_at_once = state.calls.most_at_once.max(state.now);
        UnderWay(&self.calls)
    }
}

/// A call that is under way, until it ends or its future is dropped.
struct UnderWay<'a>(&'a Mutex<InFlight>);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        lock(self.0).now -= 1;
    }
}

#[async_trait]
impl Wrapper for CountingWrapper {
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
        let _under_way = self.count(|calls| &mut calls.encrypt);
        self.inner.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let _under_way = self.count(|calls| &mut calls.decrypt);
        self.inner.decrypt(blob, aad).await
    }

    async fn preflight(&self) -> Result<()> {
        let _under_way = self.count(|calls| &mut calls.preflight);
        self.inner.preflight().await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
