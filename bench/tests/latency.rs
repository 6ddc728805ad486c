//! The distance to a root of trust is what it is said to be.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;
use kms_bench::latency::Distant;
use kms_bench::world::local_root;
use kms_kit::Wrapper;

#[tokio::test]
async fn each_call_takes_the_latency_and_calls_at_once_take_it_together() {
    let latency = Duration::from_millis(100);
    let root = Distant::new(local_root("root").unwrap(), latency);
    let blob = root.encrypt(b"secret", b"aad").await.unwrap();
    assert!(root.take_mean() >= latency);

    let start = Instant::now();
    let opened = try_join_all((0..50).map(|_| root.decrypt(&blob, b"aad")));
    assert!(
        opened
            .await
            .unwrap()
            .iter()
            .all(|bytes| bytes.expose() == b"secret")
    );
    assert!(start.elapsed() >= latency);
    assert!(start.elapsed() < latency * 25, "one after the other");
    assert!(root.take_mean() >= latency);
}

#[tokio::test]
async fn a_call_that_is_dropped_keeps_no_other_from_its_end() {
    let root = Arc::new(Distant::new(
        local_root("root").unwrap(),
        Duration::from_millis(20),
    ));
    let dropped = root.encrypt(b"secret", b"aad");
    let _ = tokio::time::timeout(Duration::from_millis(1), dropped).await;
    root.encrypt(b"secret", b"aad").await.unwrap();
}
