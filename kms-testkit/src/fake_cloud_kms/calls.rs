//! The methods of the service, and how often each was called.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// A method of the service, named as in its RPC reference (`KeyManagementService.Encrypt`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are the service's own")]
pub enum CloudKmsMethod {
    CreateKeyRing,
    GetKeyRing,
    ListKeyRings,
    CreateCryptoKey,
    GetCryptoKey,
    ListCryptoKeys,
    UpdateCryptoKeyPrimaryVersion,
    CreateCryptoKeyVersion,
    GetCryptoKeyVersion,
    ListCryptoKeyVersions,
    UpdateCryptoKeyVersion,
    DestroyCryptoKeyVersion,
    RestoreCryptoKeyVersion,
    Encrypt,
    Decrypt,
    TestIamPermissions,
}

impl fmt::Display for CloudKmsMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Counts calls as they arrive, those that a fault answers included.
#[derive(Debug, Default)]
pub(super) struct Calls(BTreeMap<CloudKmsMethod, u64>);

impl Calls {
    pub(super) fn count(&mut self, method: CloudKmsMethod) {
        *self.0.entry(method).or_default() += 1;
    }

    pub(super) fn all(&self) -> &BTreeMap<CloudKmsMethod, u64> {
        &self.0
    }
}
