//! The whole engine on each root of trust, with Postgres beneath: real services, real processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../kms-kit/tests/support/mod.rs"]
mod support;

mod calls;
mod faults;
mod identity;
mod matrix;
mod operations;
mod process;
mod root;
mod tenants;

/// A test on Postgres for each kind of root, with the names of the services that it needs in its path.
#[macro_export]
macro_rules! on_each_root {
    ($($name:ident)*) => {
        $crate::on_each_root! { @kind aead Aead $($name)* }
        $crate::on_each_root! { @kind softhsm SoftHsm $($name)* }
        $crate::on_each_service! { $($name)* }
    };
    (@kind $module:ident $kind:ident $($name:ident)*) => {
        mod $module {
            mod on_postgres {$(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let database = $crate::support::Database::postgres();
                    let root = $crate::root::Root::new($crate::root::Kind::$kind).await;
                    if let (Some(database), Some(root)) = (database, root) {
                        super::super::$name(&database, &root).await;
                    }
                }
            )*}
        }
    };
}

/// The same for those whose key is in a service that is asked through a network.
#[macro_export]
macro_rules! on_each_service {
    ($($name:ident)*) => {
        $crate::on_each_root! { @kind aws Aws $($name)* }
        $crate::on_each_root! { @kind gcp Gcp $($name)* }
        $crate::on_each_root! { @kind vault Vault $($name)* }
    };
}
