//! The URLs of wrappers whose key is in a service, each behind its feature.

/// The module of a service with its feature, and a refusal that names the feature without it.
macro_rules! service {
    ($module:ident, $feature:literal, $refusal:literal) => {
        #[cfg(feature = $feature)]
        pub(super) mod $module;

        #[cfg(not(feature = $feature))]
        pub(super) mod $module {
            use std::sync::Arc;

            use kms_core::{Result, Wrapper};

            use super::super::address::{Address, misconfigured};

            pub(in super::super) fn open(_: Address) -> Result<Arc<dyn Wrapper>> {
                Err(misconfigured($refusal))
            }
        }
    };
}

service!(
    aws,
    "aws",
    "an awskms URL needs the feature `aws` of kms-kit"
);
service!(
    gcp,
    "gcp",
    "a gcpkms URL needs the feature `gcp` of kms-kit"
);
service!(
    vault,
    "vault",
    "a Vault URL needs the feature `vault` of kms-kit"
);
