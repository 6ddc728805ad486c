//! The providers, and the choice among them.

use std::sync::Arc;

use kms_core::Aead;

pub(crate) mod aes_gcm;
#[cfg(feature = "aws-lc-rs")]
pub(crate) mod aws_lc_rs;
#[cfg(feature = "ring")]
pub(crate) mod ring;
#[cfg(feature = "ring")]
mod wiped;

/// The fastest provider that is compiled in: `ring`, else `aws-lc-rs`, else `aes-gcm`.
///
/// The order is that of sealing 1 KiB (`cargo bench -p kms-wrapper-aead --all-features`). An application
/// that must use a certain provider, whatever else is compiled in, names it instead.
///
/// ```
/// let aead = kms_wrapper_aead::fastest();
/// assert!(["ring", "aws-lc-rs", "aes-gcm"].contains(&aead.name()));
/// ```
#[must_use]
pub fn fastest() -> Arc<dyn Aead> {
    #[cfg(feature = "ring")]
    let aead = Arc::new(ring::Ring);
    #[cfg(all(feature = "aws-lc-rs", not(feature = "ring")))]
    let aead = Arc::new(aws_lc_rs::AwsLcRs);
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    let aead = Arc::new(aes_gcm::AesGcm);
    aead
}
