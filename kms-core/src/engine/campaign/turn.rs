//! Holding a campaign: one process at a time works on it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{Either, select};
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::engine::Engine;
use crate::error::Result;
use crate::random;
use crate::repository::{Hold, Lease};

/// How long the end of a run waits until its lease is released. It runs out anyway.
const RELEASE: Duration = Duration::from_secs(5);

/// A run's place among those that work on one campaign. The lease is released when this is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    engine: Arc<Engine>,
    campaign: String,
    pub(super) lease: Lease,
    runtime: Handle,
    /// Whether there may be something to release.
    open: bool,
}

impl Turn {
    pub(super) fn new(engine: &Arc<Engine>, campaign: &str, length: Duration) -> Self {
        let holder = random::with_rng(|rng| {
            let letters = rng.sample_iter(Alphanumeric).take(20);
            letters.map(char::from).collect()
        });
        Self {
            engine: Arc::clone(engine),
            campaign: campaign.to_owned(),
            lease: Lease { holder, length },
            runtime: Handle::current(),
            open: true,
        }
    }

    pub(super) async fn hold(&self, hold: Hold) -> Result<bool> {
        let repository = &self.engine.repository;
        repository
            .hold_campaign(&self.campaign, &self.lease, hold)
            .await
    }

    /// How long whoever waits for the campaign waits before it asks again.
    pub(super) fn pause(&self) -> Duration {
        (self.lease.length / 8).clamp(Duration::from_millis(10), Duration::from_millis(250))
    }

    /// Keeps the campaign held until the answer is dropped.
    pub(super) fn keep(&self) -> Heartbeat {
        let engine = Arc::clone(&self.engine);
        let (campaign, lease) = (self.campaign.clone(), self.lease.clone());
        let lost = Arc::new(Notify::new());
        let tell = Arc::clone(&lost);
        let task = self.runtime.spawn(async move {
            loop {
                sleep(lease.length / 3).await;
                let kept = engine
                    .repository
                    .hold_campaign(&campaign, &lease, Hold::Keep)
                    .await;
                // Where the database can't be asked, nobody else can take the campaign either.
                if let Ok(false) = kept {
                    tell.notify_one();
                    return;
                }
            }
        });
        Heartbeat {
            task: task.abort_handle(),
            lost,
        }
    }

    /// There is nothing to release any more.
    pub(super) fn close(&mut self) {
        self.open = false;
    }

    /// Releases the lease, if the database lets it.
    pub(super) async fn release(&mut self) {
        if !self.open {
            return;
        }
        let repository = &self.engine.repository;
        let release = repository.release_campaign(&self.campaign, &self.lease.holder);
        let _ = tokio::time::timeout(RELEASE, release).await;
        self.open = false;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        let engine = Arc::clone(&self.engine);
        let campaign = std::mem::take(&mut self.campaign);
        let holder = std::mem::take(&mut self.lease.holder);
        self.runtime.spawn(async move {
            let _ = engine.repository.release_campaign(&campaign, &holder).await;
        });
    }
}

/// Renews a lease until it is dropped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    task: AbortHandle,
    lost: Arc<Notify>,
}

impl Heartbeat {
    /// Does this while the campaign is held. `None` if another run took it meanwhile.
    pub(super) async fn whilst<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        match select(pin!(work), pin!(self.lost.notified())).await {
            Either::Left((done, _)) => Some(done),
            Either::Right(_) => None,
        }
    }
}

impl Drop for Heartbeat {
    fn drop(&mut self) {
        self.task.abort();
    }
}
