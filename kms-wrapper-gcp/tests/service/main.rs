//! The wrapper against a service that answers as Cloud KMS does.
//!
//! What ordinary use asks of it runs against the one that `KMS_TEST_GCP_ENDPOINT` names, a process of its own
//! (module `gcp`); without it those tests are skipped, loudly, or fail if `KMS_TEST_REQUIRE` names `gcp`. What
//! needs a service that fails starts one in this process.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod binding;
mod damage;
mod faults;
mod gcp;
mod key_states;
mod logins;
mod network;
mod proxies;
mod quota_project;
mod rights;
mod runtimes;
mod support;
mod tls;
mod versions;
