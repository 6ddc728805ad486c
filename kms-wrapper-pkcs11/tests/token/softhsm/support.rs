//! Keys and wrappers for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use kms_core::CallLimits;
use kms_testkit::service::SoftHsm;
use kms_wrapper_aead::AesGcm;
use kms_wrapper_pkcs11::{Pkcs11Wrapper, Pkcs11WrapperBuilder};

/// A key of the test's own.
pub(crate) struct Key {
    pub(crate) label: String,
}

impl Key {
    pub(crate) fn on(token: &SoftHsm) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let label = format!("root {number}");
        token.create_key(&label, 1);
        Self { label }
    }
}

/// Settings with which a wrapper finds the key.
pub(crate) fn builder(token: &SoftHsm, key: &Key) -> Pkcs11WrapperBuilder {
    Pkcs11Wrapper::builder()
        .module(token.module())
        .token_label(token.token())
        .key_label(&key.label)
        .pin(token.pin())
        .aead(Arc::new(AesGcm))
}

/// Bounds with which a test of failures does not take long.
pub(crate) fn impatient() -> CallLimits {
    CallLimits::default()
        .with_attempt_timeout(Duration::from_millis(300))
        .with_attempts(2)
        .with_pauses(Duration::from_millis(1), Duration::from_millis(2))
        .with_deadline(Duration::from_secs(2))
}
