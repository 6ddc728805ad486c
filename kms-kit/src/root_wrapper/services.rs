//! The URLs of wrappers whose key is in a service, each behind its feature.

use std::sync::Arc;

use kms_core::{Result, Wrapper};

use super::address::{Address, misconfigured};

#[cfg(not(feature = "aws"))]
pub(super) fn aws(_: Address) -> Result<Arc<dyn Wrapper>> {
    Err(misconfigured(
        "an awskms URL needs the feature `aws` of kms-kit",
    ))
}

#[cfg(not(feature = "gcp"))]
pub(super) fn gcp(_: Address) -> Result<Arc<dyn Wrapper>> {
    Err(misconfigured(
        "a gcpkms URL needs the feature `gcp` of kms-kit",
    ))
}

#[cfg(not(feature = "vault"))]
pub(super) fn vault(_: Address) -> Result<Arc<dyn Wrapper>> {
    Err(misconfigured(
        "a vault+https URL needs the feature `vault` of kms-kit",
    ))
}
