//! A named root, within limits of its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{OnceCell, Semaphore};
use tokio::time::timeout;

use super::{NamedRootLimits, RootResolver};
use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::guard::guarded;
use crate::root_name::RootName;
use crate::secret::SecretBytes;
use crate::wrapper::{Claim, Ownership, VersionAge, Wrapper};

/// A root by its name. Its wrapper is there once it was resolved, by the first who needs it for all who wait.
pub(super) struct NamedRoot {
    name: RootName,
    wrapper: OnceCell<Arc<dyn Wrapper>>,
    turns: Semaphore,
    deadline: Duration,
}

impl NamedRoot {
    pub(super) fn new(name: RootName, limits: &NamedRootLimits) -> Self {
        Self {
            name,
            wrapper: OnceCell::new(),
            turns: Semaphore::new(limits.concurrency.min(Semaphore::MAX_PERMITS)),
            deadline: limits.deadline,
        }
    }

    pub(super) fn name(&self) -> &RootName {
        &self.name
    }

    /// Sees to it that there is a wrapper. Returns whether this call brought it.
    pub(super) async fn resolve(&self, resolver: &dyn RootResolver) -> Result<bool> {
        let mut brought = false;
        let resolve = async {
            let answer = async { Ok(resolver.resolve(&self.name).await) };
            let wrapper = match guarded("the root resolver panicked", answer).await? {
                Ok(Some(wrapper)) => wrapper,
                Ok(None) => return Err(Error::new(ErrorKind::UnknownRootName)),
                Err(source) => {
                    return Err(Error::new(ErrorKind::RootNotResolved).with_boxed_source(source));
                }
            };
            brought = true;
            Ok(wrapper)
        };
        let found = timeout(self.deadline, self.wrapper.get_or_try_init(|| resolve)).await;
        match found {
            Ok(found) => found.map(drop)?,
            Err(_) => {
                return Err(Error::new(ErrorKind::RootNotResolved)
                    .with_detail(format!("no answer within {:?}", self.deadline)));
            }
        }
        Ok(brought)
    }

    fn wrapper(&self) -> Result<&Arc<dyn Wrapper>> {
        self.wrapper
            .get()
            .ok_or_else(|| ErrorKind::RootNotResolved.into())
    }

    /// A call, when it is its turn, and not for longer than the deadline.
    async fn bounded<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let in_turn = async {
            let _turn = self.turns.acquire().await;
            call.await
        };
        timeout(self.deadline, in_turn).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::TimedOut)
                .with_detail(format!("no answer within {:?}", self.deadline)))
        })
    }
}

#[async_trait]
impl Wrapper for NamedRoot {
    fn kind(&self) -> &'static str {
        self.wrapper.get().map_or("named", |wrapper| wrapper.kind())
    }

    fn key_id(&self) -> Option<String> {
        self.wrapper.get()?.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        let wrapper = self.wrapper.get();
        wrapper.map_or(Ownership::Unknown, |wrapper| wrapper.owns(blob))
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        let wrapper = self.wrapper.get();
        wrapper.map_or(Ownership::Unknown, |wrapper| wrapper.is_current(blob))
    }

    fn claims(&self) -> Vec<Claim> {
        let wrapper = self.wrapper.get();
        wrapper.map_or_else(Vec::new, |wrapper| wrapper.claims())
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        let wrapper = self.wrapper.get();
        wrapper.map_or(VersionAge::Untold, |wrapper| wrapper.version_of(blob))
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.bounded(self.wrapper()?.encrypt(plaintext, aad)).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.bounded(self.wrapper()?.decrypt(blob, aad)).await
    }

    async fn preflight(&self) -> Result<()> {
        self.bounded(self.wrapper()?.preflight()).await
    }
}

impl fmt::Debug for NamedRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NamedRoot")
            .field("name", &self.name)
            .field("wrapper", &self.wrapper.get())
            .finish_non_exhaustive()
    }
}
