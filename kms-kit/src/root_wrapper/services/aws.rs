//! `awskms:` — a key in AWS KMS.

use std::sync::Arc;

use kms_core::{CallLimits, Result, Wrapper};
use kms_wrapper_aws::AwsKmsMode;

use super::super::address::{Address, misconfigured};

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    if address.url().host_str().is_some_and(|host| !host.is_empty()) {
        return Err(misconfigured(
            "an awskms URL has three slashes: awskms:///alias/app; another host is `endpoint`",
        ));
    }
    let key = address.url().path().trim_start_matches('/').to_owned();
    let mut builder = crate::aws::from_env().key_id(key);
    let limits = address.take_limits()?;
    if limits != CallLimits::default() {
        builder = builder.limits(limits);
    }
    if let Some(region) = address.take("region") {
        builder = builder.region(region);
    }
    if let Some(endpoint) = address.take("endpoint") {
        builder = builder.endpoint(endpoint);
    }
    if let Some(proxy) = address.take("proxy") {
        builder = builder.proxy(proxy);
    }
    if let Some(file) = address.take("ca") {
        builder = builder.ca_bundle_file(file);
    }
    let modes = [
        ("envelope", AwsKmsMode::Envelope),
        ("direct", AwsKmsMode::Direct),
    ];
    if let Some(mode) = address.take_word("mode", &modes)? {
        builder = builder.mode(mode);
    }
    address.finish()?;
    Ok(Arc::new(builder.build()?))
}
