//! A root wrapper that is as far away as one wants.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use kms_kit::{Blob, Claim, Ownership, Result, SecretBytes, Wrapper};
use tokio::sync::oneshot;

/// Each call takes this much longer than the wrapper's own, and all calls are timed.
#[derive(Debug)]
pub struct Distant {
    inner: Arc<dyn Wrapper>,
    latency: Duration,
    alarm: Alarm,
    calls: AtomicU64,
    nanoseconds: AtomicU64,
}

impl Distant {
    /// With this latency, or for zero with its own alone.
    #[must_use]
    pub fn new(inner: Arc<dyn Wrapper>, latency: Duration) -> Self {
        Self {
            inner,
            latency,
            alarm: Alarm::start(),
            calls: AtomicU64::new(0),
            nanoseconds: AtomicU64::new(0),
        }
    }

    /// How long calls took, on average since the last time.
    #[must_use]
    pub fn take_mean(&self) -> Duration {
        let calls = self.calls.swap(0, Ordering::Relaxed).max(1);
        Duration::from_nanos(self.nanoseconds.swap(0, Ordering::Relaxed) / calls)
    }

    async fn away<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let start = Instant::now();
        if !self.latency.is_zero() {
            self.alarm.wait(start + self.latency).await;
        }
        let result = call.await;
        let elapsed = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.nanoseconds.fetch_add(elapsed, Ordering::Relaxed);
        result
    }
}

#[async_trait]
impl Wrapper for Distant {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    fn key_id(&self) -> Option<String> {
        self.inner.key_id()
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        self.inner.owns(blob)
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.inner.is_current(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        self.inner.claims()
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.away(self.inner.encrypt(plaintext, aad)).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.away(self.inner.decrypt(blob, aad)).await
    }
}

/// Wakes tasks to some ten microseconds. Tokio's own timer counts milliseconds, of which 2 are too few.
#[derive(Debug)]
struct Alarm(Mutex<mpsc::Sender<(Instant, oneshot::Sender<()>)>>);

impl Alarm {
    fn start() -> Self {
        let (orders, taken) = mpsc::channel::<(Instant, oneshot::Sender<()>)>();
        std::thread::spawn(move || {
            let mut waiting = BinaryHeap::new();
            let mut sleepers = std::collections::HashMap::new();
            let mut number = 0_u64;
            loop {
                let next: Option<&Reverse<(Instant, u64)>> = waiting.peek();
                let order = match next {
                    None => taken.recv().map_err(|_| RecvTimeoutError::Disconnected),
                    Some(Reverse((due, _))) => {
                        taken.recv_timeout(due.saturating_duration_since(Instant::now()))
                    }
                };
                match order {
                    Ok((due, sleeper)) => {
                        waiting.push(Reverse((due, number)));
                        sleepers.insert(number, sleeper);
                        number += 1;
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
                let now = Instant::now();
                while let Some(Reverse((due, _))) = waiting.peek()
                    && *due <= now
                {
                    let Some(Reverse((_, number))) = waiting.pop() else {
                        break;
                    };
                    if let Some(sleeper) = sleepers.remove(&number) {
                        // Whoever does not wait any more needs no waking.
                        let _ = sleeper.send(());
                    }
                }
            }
        });
        Self(Mutex::new(orders))
    }

    async fn wait(&self, until: Instant) {
        let (sleeper, woken) = oneshot::channel();
        let sent = self
            .0
            .lock()
            .is_ok_and(|orders| orders.send((until, sleeper)).is_ok());
        if sent {
            let _ = woken.await;
        }
    }
}
