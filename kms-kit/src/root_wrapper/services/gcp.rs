//! `gcpkms:` — a key in Google Cloud KMS.

use std::sync::Arc;

use kms_core::{Result, Wrapper};
use kms_wrapper_gcp::CloudKmsMode;

use super::super::address::Address;

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    // The name's first segment stands where other URLs have their host.
    let name = format!(
        "{}{}",
        address.url().host_str().unwrap_or_default(),
        address.url().path()
    );
    let mut builder = crate::gcp::from_env()
        .key_name(name)
        .limits(address.take_limits()?);
    if let Some(endpoint) = address.take("endpoint") {
        builder = builder.endpoint(endpoint);
    }
    match address.take("credentials").as_deref() {
        None => {}
        Some("anonymous") => builder = builder.anonymous(),
        Some(file) => builder = builder.credentials_file(file),
    }
    if let Some(project) = address.take("quota_project") {
        builder = builder.quota_project(project);
    }
    if let Some(proxy) = address.take("proxy") {
        builder = builder.proxy(proxy);
    }
    if let Some(file) = address.take("ca") {
        builder = builder.ca_bundle_file(file);
    }
    let modes = [
        ("envelope", CloudKmsMode::Envelope),
        ("direct", CloudKmsMode::Direct),
    ];
    if let Some(mode) = address.take_word("mode", &modes)? {
        builder = builder.mode(mode);
    }
    address.finish()?;
    Ok(Arc::new(builder.build()?))
}
