//! The URLs of wrappers whose key is in a service, each behind its feature.

use super::Open;

/// The module of each service with its feature, a refusal that names the feature without it, and the table of schemes.
macro_rules! services {
    ($($module:ident $feature:literal $schemes:tt)*) => {
        $(
            #[cfg(feature = $feature)]
            mod $module;

            #[cfg(not(feature = $feature))]
            mod $module {
                use std::sync::Arc;

                use kms_core::{Result, Wrapper};

                use super::super::address::{Address, misconfigured};

                pub(super) fn open(_: Address) -> Result<Arc<dyn Wrapper>> {
                    Err(misconfigured(concat!(
                        "a URL of this scheme needs the feature `", $feature, "` of kms-kit",
                    )))
                }
            }
        )*

        /// Who opens the URLs of which schemes.
        pub(super) const SCHEMES: &[(&[&str], Open)] = &[$((&$schemes, $module::open)),*];
    };
}

// Module, feature, schemes.
services! {
    aws "aws" ["awskms"]
    gcp "gcp" ["gcpkms"]
    pkcs11 "pkcs11" ["pkcs11"]
    vault "vault" ["vault+https", "vault+http", "vault+unix"]
}
