//! Logins that hang are given up, and leave no thread behind.
//!
//! In a process of its own, whose threads can be counted.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_core::{CallLimits, Wrapper as _};
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_gcp::CloudKmsWrapper;

/// Threads of logins; the kernel cuts a thread's name after 15 bytes.
fn logins() -> usize {
    fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.starts_with("cloud-kms-login"))
        .count()
}

async fn wait_until_at_most(threads: usize) {
    let end = Instant::now() + Duration::from_secs(60);
    while logins() > threads {
        assert!(Instant::now() < end, "{} threads of logins", logins());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_login_that_hangs_leaves_nothing_behind() {
    let tokens = FaultyProxy::start("127.0.0.1:1");
    tokens.fail(NetworkFault::Hang);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let user = serde_json::json!({
        "type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r",
        "token_uri": tokens.url(),
    });
    file.write_all(user.to_string().as_bytes()).unwrap();
    let limits = CallLimits::default()
        .with_attempt_timeout(Duration::from_millis(200))
        .with_pauses(Duration::from_millis(1), Duration::from_millis(2))
        .with_attempts(3);
    let wrapper = CloudKmsWrapper::builder("projects/p/locations/l/keyRings/r/cryptoKeys/k")
        .endpoint("http://127.0.0.1:1")
        .credentials_file(file.path())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .limits(limits)
        .build()
        .unwrap();
    assert_eq!(logins(), 0, "building starts nothing");
    for _ in 0..4 {
        wrapper.encrypt(b"x", b"").await.unwrap_err();
    }
    assert!(tokens.requests() > 4, "{} logins", tokens.requests());
    // The last one may still hope: a worker, and a thread that read the file.
    wait_until_at_most(2).await;
    drop(wrapper);
    wait_until_at_most(0).await;
}
