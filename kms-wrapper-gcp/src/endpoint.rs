//! Where Cloud KMS is.

pub(crate) use kms_core::service::{Endpoint, PlainHttp};

/// Where it is, unless said otherwise.
pub(crate) const DEFAULT: &str = "https://cloudkms.googleapis.com/";
