//! Several root wrappers as one: how a fleet moves from one root key to another.

use std::sync::Arc;

use async_trait::async_trait;

use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretBytes;
use crate::wrapper::{Ownership, Wrapper};

/// One wrapper that encrypts and any number that only decrypt.
///
/// To move a fleet from an old root key to a new one: (1) every process gets a pool in which the old one
/// encrypts and the new one decrypts; (2) every process gets one in which the new one encrypts and the
/// old one decrypts; (3) `rewrap_all`, until the census shows no root key version under the old one;
/// (4) the new one alone.
///
/// A blob goes to the members that say it is theirs, then to those that can't tell, and to no other.
#[derive(Clone, Debug)]
pub struct PooledWrapper {
    encrypting: Arc<dyn Wrapper>,
    decrypting: Vec<Arc<dyn Wrapper>>,
}

impl PooledWrapper {
    /// A pool of one.
    #[must_use]
    pub fn new(encrypting: Arc<dyn Wrapper>) -> Self {
        Self {
            encrypting,
            decrypting: Vec::new(),
        }
    }

    /// Adds a wrapper that only decrypts.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InvalidConfiguration`] if a member has the same key id: their blobs could not be told
    /// apart. (Wrappers that can't tell their blobs by the id anyway, such as those of two Vaults whose keys
    /// have no prefix, may share one.)
    pub fn with_decrypting(mut self, wrapper: Arc<dyn Wrapper>) -> Result<Self> {
        if let Some(id) = wrapper.key_id()
            && tells_by(&*wrapper, &id)
            && self.members().any(|member| claims(&**member, &id))
        {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("two wrappers of a pool have the same key id")
                .with_context("root_key_id", id));
        }
        self.decrypting.push(wrapper);
        Ok(self)
    }

    fn members(&self) -> impl Iterator<Item = &Arc<dyn Wrapper>> {
        std::iter::once(&self.encrypting).chain(&self.decrypting)
    }

    fn candidates<'a>(&'a self, blob: &'a Blob) -> impl Iterator<Item = &'a Arc<dyn Wrapper>> {
        let of = move |ownership| {
            self.members()
                .filter(move |member| member.owns(blob) == ownership)
        };
        of(Ownership::Yes).chain(of(Ownership::Unknown))
    }
}

#[async_trait]
impl Wrapper for PooledWrapper {
    fn kind(&self) -> &'static str {
        "pooled"
    }

    fn key_id(&self) -> Option<String> {
        self.encrypting.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        match self.candidates(blob).next() {
            None => Ownership::No,
            Some(member) => member.owns(blob),
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.encrypting.is_current(blob)
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.encrypting.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        let mut failure: Option<Error> = None;
        for member in self.candidates(blob) {
            match member.decrypt(blob, aad).await {
                Ok(plaintext) => return Ok(plaintext),
                // That a member did not recognise the blob says less than that another could not be asked.
                Err(error) => {
                    if failure.as_ref().is_none_or(not_recognised) {
                        failure = Some(error);
                    }
                }
            }
        }
        Err(failure.unwrap_or_else(|| {
            Error::new(ErrorKind::ForeignRootKey).with_context("root_key_id", blob.key_id())
        }))
    }

    async fn preflight(&self) -> Result<()> {
        self.encrypting.preflight().await
    }
}

/// Whether the member takes blobs of this key id for its own; a pool in the pool may for any of its members.
fn claims(member: &dyn Wrapper, id: &str) -> bool {
    let probe = Blob::new(Vec::new(), id);
    member.owns(&probe) == Ownership::Yes
        || (tells_by(member, id) && member.key_id().as_deref() == Some(id))
}

/// Whether the id of a blob's key tells the wrapper whether the blob is its own.
fn tells_by(wrapper: &dyn Wrapper, id: &str) -> bool {
    wrapper.owns(&Blob::new(Vec::new(), id)) != Ownership::Unknown
}

fn not_recognised(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidBlob
    )
}
