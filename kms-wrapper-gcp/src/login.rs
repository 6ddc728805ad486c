//! Tokens: one login for the whole wrapper, made by the first call that needs it, and made anew when it is of no use.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use google_cloud_auth::credentials::AccessTokenCredentials;
use http::{HeaderMap, HeaderValue};
use kms_core::service::misconfigured;
use kms_core::{Error, ErrorKind, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::OnceCell;

use crate::credentials::{Credentials, headers};
use crate::network::Network;

/// Names the project that a request is counted against and paid by
/// ([system parameters](https://cloud.google.com/apis/docs/system-parameters)).
const QUOTA_PROJECT: &str = "x-goog-user-project";

/// The login that calls use.
pub(crate) struct Logins {
    credentials: Credentials,
    network: Network,
    /// Wins over what the credentials say.
    quota_project: Option<HeaderValue>,
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
    /// # Errors
    ///
    /// `InvalidConfiguration` for a project that no header can name.
    pub(crate) fn new(
        credentials: Credentials,
        quota_project: Option<String>,
        patience: Duration,
        network: Network,
    ) -> Result<Self> {
        let quota_project = quota_project.or_else(|| credentials.quota_project_of_environment());
        let header = quota_project.map(|project| HeaderValue::from_str(&project));
        let quota_project = header.transpose().map_err(|_| {
            misconfigured("no project has such a name").with_context("setting", "quota_project")
        })?;
        Ok(Self {
            credentials,
            network,
            quota_project,
            patience,
            current: Mutex::default(),
        })
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

    /// What the next request says of its caller: all headers that the credentials give.
    pub(crate) async fn headers(&self) -> Result<HeaderMap> {
        let login = self.current();
        login.wait();
        let headers = login.headers(&self.credentials, &self.network).await;
        login.stop_waiting();
        let mut headers = headers?;
        if let Some(project) = &self.quota_project {
            headers.insert(QUOTA_PROJECT, project.clone());
        }
        Ok(headers)
    }

    fn lock(&self) -> MutexGuard<'_, Arc<Login>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins")
            .field("credentials", &self.credentials)
            .field("quota_project", &self.quota_project)
            .finish_non_exhaustive()
    }
}

impl Login {
    /// Whether it has been made.
    pub(crate) fn is_made(&self) -> bool {
        self.opened.initialized()
    }

    async fn headers(&self, configured: &Credentials, network: &Network) -> Result<HeaderMap> {
        let opened = self
            .opened
            .get_or_try_init(|| Opened::open(configured, network));
        match &opened.await?.credentials {
            None => Ok(HeaderMap::new()),
            Some(credentials) => headers(credentials).await,
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
    async fn open(configured: &Credentials, network: &Network) -> Result<Self> {
        if !configured.can_be_opened_again() {
            return Ok(Self {
                credentials: configured.open(network)?,
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
        let (configured, network) = (configured.clone(), network.clone());
        if let Some(runtime) = &opened.runtime {
            opened.credentials = runtime
                .spawn_blocking(move || configured.open(&network))
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
