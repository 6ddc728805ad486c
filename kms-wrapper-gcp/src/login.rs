//! Tokens: one login for the whole wrapper, made by the first call that needs it, and made anew when it is of no use.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::AccessTokenCredentials;
use google_cloudkms1::common::GetToken;
use kms_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::credentials::{Credentials, token};

/// The login that calls use.
pub(crate) struct Logins {
    credentials: Credentials,
    /// How long it may take to get a token, before another login is tried.
    patience: Duration,
    current: Mutex<Arc<Login>>,
}

/// A login, made or to be made.
#[derive(Default)]
pub(crate) struct Login {
    opened: OnceCell<Opened>,
    /// Since when calls have been waiting for a token, and none has come.
    waiting: Mutex<Option<Instant>>,
}

/// Credentials, and what renews their token.
///
/// Google's library does that in a task that nobody can stop, and that a server which hangs holds for good. So it
/// has a runtime of its own, which ends with the login.
struct Opened {
    credentials: Option<AccessTokenCredentials>,
    runtime: Option<Runtime>,
}

impl Logins {
    pub(crate) fn new(credentials: Credentials, patience: Duration) -> Self {
        Self {
            credentials,
            patience,
            current: Mutex::default(),
        }
    }

    /// The login that the next call uses.
    pub(crate) fn current(&self) -> Arc<Login> {
        let mut current = self.lock();
        if self.credentials.can_be_opened_again() && current.waits_for_longer_than(self.patience) {
            *current = Arc::default();
        }
        Arc::clone(&current)
    }

    /// Makes the next call log in anew, if this is the login that it would use. `false` if that would change
    /// nothing.
    pub(crate) fn forget(&self, login: &Arc<Login>) -> bool {
        if !self.credentials.can_be_opened_again() {
            return false;
        }
        let mut current = self.lock();
        if Arc::ptr_eq(&current, login) {
            *current = Arc::default();
        }
        true
    }

    async fn token(&self) -> Result<Option<String>> {
        let login = self.current();
        login.wait();
        let token = login.token(&self.credentials).await;
        login.stop_waiting();
        token
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Login>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.credentials, f)
    }
}

impl Login {
    /// Whether it has been made.
    pub(crate) fn is_made(&self) -> bool {
        self.opened.initialized()
    }

    async fn token(&self, configured: &Credentials) -> Result<Option<String>> {
        let opened = self.opened.get_or_try_init(|| Opened::open(configured));
        match &opened.await?.credentials {
            None => Ok(None),
            Some(credentials) => token(credentials).await.map(Some),
        }
    }

    fn wait(&self) {
        self.waiting().get_or_insert_with(Instant::now);
    }

    fn stop_waiting(&self) {
        *self.waiting() = None;
    }

    fn waits_for_longer_than(&self, patience: Duration) -> bool {
        self.waiting()
            .is_some_and(|since| since.elapsed() >= patience)
    }

    fn waiting(&self) -> MutexGuard<'_, Option<Instant>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    async fn open(configured: &Credentials) -> Result<Self> {
        if !configured.can_be_opened_again() {
            return Ok(Self {
                credentials: configured.open()?,
                runtime: None,
            });
        }
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("cloud-kms-login")
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?;
        let mut opened = Self {
            credentials: None,
            runtime: Some(runtime),
        };
        // Off the async threads, since files are read; on a thread of that runtime, since its tasks are spawned.
        let configured = configured.clone();
        if let Some(runtime) = &opened.runtime {
            opened.credentials = runtime
                .spawn_blocking(move || configured.open())
                .await
                .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))??;
        }
        Ok(opened)
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        // Without waiting: this may be an async thread.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Gives each request its token.
#[derive(Clone)]
pub(crate) struct Tokens(pub(crate) Arc<Logins>);

type Token = std::result::Result<Option<String>, Box<dyn StdError + Send + Sync>>;

impl GetToken for Tokens {
    fn get_token<'a>(&'a self, _: &'a [&str]) -> Pin<Box<dyn Future<Output = Token> + Send + 'a>> {
        Box::pin(async move { self.0.token().await.map_err(Into::into) })
    }
}
