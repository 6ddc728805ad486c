//! Several root wrappers as one: how a fleet moves from one root key to another.

use std::sync::Arc;

use async_trait::async_trait;

use crate::blob::Blob;
use crate::error::{Error, ErrorKind, Result};
use crate::secret::SecretBytes;
use crate::wrapper::{Claim, Ownership, VersionAge, Wrapper};

/// One wrapper that encrypts and any number that only decrypt.
///
/// To move a fleet from an old root key to a new one: (1) every process gets a pool in which the old one
/// encrypts and the new one decrypts; (2) every process gets one in which the new one encrypts and the
/// old one decrypts; (3) `rewrap_all`, until the census shows no root key version under the old one;
/// (4) the new one alone.
///
/// A blob goes to the members that say it is theirs, then to those that can't tell, and to no other.
///
/// # Keys under one label
///
/// Two members may have other keys whose blobs look alike: two Vaults with the same prefix, two local keys of the same
/// id. Each of them is tried then, and [`owns`](Wrapper::owns) and [`is_current`](Wrapper::is_current) answer
/// [`Ownership::Unknown`] for such a blob, unless a member's key is [proven](Claim::is_proven_by_id) by the blob's id. A
/// campaign rewraps what is not surely current, and the census counts it as unknown.
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
    /// [`ErrorKind::InvalidConfiguration`] if a member has the very same key: a move to it would be none.
    pub fn with_decrypting(mut self, wrapper: Arc<dyn Wrapper>) -> Result<Self> {
        let known = self.claims();
        let is_known = |claim: &&Claim| known.iter().any(|known| known.is_same_key(claim));
        if let Some(twice) = wrapper.claims().iter().find(is_known) {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("two wrappers of a pool have the same key")
                .with_context("root_key_id", twice.label()));
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

    /// Whether another member may have made the blob, so that what this one says of it is not sure.
    fn is_contested(&self, blob: &Blob, by: &Arc<dyn Wrapper>) -> bool {
        let claims = by.claims();
        let proven = by.owns(blob) == Ownership::Yes
            && !claims.is_empty()
            && claims.iter().all(Claim::is_proven_by_id);
        !proven && self.candidates(blob).any(|member| !Arc::ptr_eq(member, by))
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
            Some(member) if self.is_contested(blob, member) => Ownership::Unknown,
            Some(member) => member.owns(blob),
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        match self.encrypting.is_current(blob) {
            Ownership::No => Ownership::No,
            _ if self.is_contested(blob, &self.encrypting) => Ownership::Unknown,
            ownership => ownership,
        }
    }

    fn claims(&self) -> Vec<Claim> {
        self.members().flat_map(|member| member.claims()).collect()
    }

    fn version_of(&self, blob: &Blob) -> VersionAge {
        self.encrypting.version_of(blob)
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

fn not_recognised(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidBlob
    )
}
