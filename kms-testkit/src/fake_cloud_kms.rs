//! A server that answers as Google Cloud KMS does over REST, as a library and as the program `fake-cloud-kms`.
//!
//! It covers what a root wrapper and its operator need of `cloudkms.googleapis.com/v1`: key rings, keys and their
//! versions, `encrypt`, `decrypt` and `testIamPermissions`. Field names, states and error bodies are those of
//! the service's [discovery document] and [REST reference]; `tests/fake_cloud_kms/check.py` holds them against
//! Google's own Python client. A field or a parameter that a request does not have is refused in the service's words.
//!
//! ```no_run
//! # async fn example() {
//! use kms_testkit::fake_cloud_kms::{CloudKmsFault, CloudKmsMethod, FakeCloudKms};
//!
//! let fake = FakeCloudKms::start().await;
//! let key = fake.client().create_key().await;
//! fake.client().inject(CloudKmsFault::unavailable().of(CloudKmsMethod::Decrypt).times(2)).await;
//! // … a wrapper of `key` at `fake.url()` …
//! assert_eq!(fake.client().calls(CloudKmsMethod::Decrypt).await, 3);
//! # }
//! ```
//!
//! # What it does not do
//!
//! Asymmetric and MAC keys can be made, for the error that encrypting with one gives, but not used. Filters,
//! orderings, import jobs, EKM, labels' updates and automatic rotation are missing. Any caller is let in,
//! unless a [token is demanded](FakeCloudKmsClient::demand_token).
//!
//! # The paths of its own
//!
//! Other processes drive it over HTTP, as [`FakeCloudKmsClient`] does:
//!
//! | path | `POST` | `GET` | `DELETE` |
//! |---|---|---|---|
//! | `/_fake/faults` | adds the [`CloudKmsFault`] in the body | those not used up | clears them |
//! | `/_fake/calls` | | how often each [`CloudKmsMethod`] was called | starts at zero |
//! | `/_fake/denials` | `{"key", "denied": ["encrypt", "decrypt", "get"]}` | | allows everything |
//! | `/_fake/destructions` | `{"version"}`: a destruction that is scheduled happens now | | |
//! | `/_fake/token` | `{"token"}`: calls without this bearer token are 401 | | lets anyone in |
//!
//! [discovery document]: https://cloudkms.googleapis.com/$discovery/rest?version=v1
//! [REST reference]: https://cloud.google.com/kms/docs/reference/rest

mod api;
mod calls;
mod ciphertext;
mod client;
mod connection;
mod control;
mod fault;
mod fields;
mod keys;
mod name;
mod refusal;
mod server;
mod values;
mod versions;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

pub use calls::CloudKmsMethod;
pub use client::{CloudKmsPermission, FakeCloudKmsClient};
pub use fault::CloudKmsFault;

use server::{Running, Service};

/// A fake Cloud KMS on a port of its own, stopped when it is dropped.
///
/// It runs on a thread of its own, so that it outlives the runtime that started it.
pub struct FakeCloudKms {
    address: SocketAddr,
    client: FakeCloudKmsClient,
    service: Arc<Service>,
    running: Mutex<Option<Running>>,
}

impl FakeCloudKms {
    /// Starts one on a free port of the loopback interface, without any key.
    pub async fn start() -> Self {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts one at this address; port 0 takes a free one.
    ///
    /// # Panics
    ///
    /// If the address is not a loopback address, or is in use: it lets anyone decrypt.
    pub async fn start_at(address: SocketAddr) -> Self {
        assert!(
            address.ip().is_loopback(),
            "the fake Cloud KMS lets anyone in, so it listens on loopback only, not on {address}"
        );
        let service = Arc::new(Service::default());
        let running = Running::start(address, Arc::clone(&service)).await;
        let address = running.address();
        Self {
            address,
            client: FakeCloudKmsClient::new(&format!("http://{address}")),
            service,
            running: Mutex::new(Some(running)),
        }
    }

    /// The base URL, such as `http://127.0.0.1:4321`, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> &str {
        self.client.url()
    }

    /// What an operator does with it, and the faults.
    #[must_use]
    pub fn client(&self) -> &FakeCloudKmsClient {
        &self.client
    }

    /// Stops it: open connections are cut, new ones refused. Its keys stay.
    pub async fn stop(&self) {
        let running = self.running.lock().unwrap().take();
        if let Some(running) = running {
            running.stop().await;
        }
    }

    /// Starts it again after [`stop`](Self::stop), at the same address and with the same keys.
    ///
    /// # Panics
    ///
    /// If it runs, or if another process took the port.
    pub async fn start_again(&self) {
        let running = Running::start(self.address, Arc::clone(&self.service)).await;
        let before = self.running.lock().unwrap().replace(running);
        assert!(before.is_none(), "it was running");
    }
}

impl std::fmt::Debug for FakeCloudKms {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FakeCloudKms")
            .field("url", &self.url())
            .finish_non_exhaustive()
    }
}
