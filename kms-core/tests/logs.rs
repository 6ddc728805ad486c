//! What somebody on call reads: each trouble once, and nothing that a stranger made long.
//!
//! In a process of its own, since the subscriber is global; and one test alone, so that nothing else is in the log.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_core::{Blob, ErrorKind, Rewrap};
use support::instrumented::{Process, newest};
use support::{OIDC, World, scope};

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn logged() -> MutexGuard<'static, Vec<u8>> {
    LOGGED.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Log;

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        logged().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The lines since the last call of this.
fn lines() -> Vec<String> {
    let text = String::from_utf8(std::mem::take(&mut *logged())).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_dead_key_version_is_logged_when_it_dies_and_when_it_opens_again_however_often_it_is_asked_for()
 {
    tracing_subscriber::fmt()
        .without_time()
        .with_ansi(false)
        .with_writer(|| Log)
        .init();
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    let old = world.encrypt(&id, b"old").await;
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let damage = || {
        let at =
            |scopes: &mut Vec<kms_core::ScopeRows>| scopes[0].root_key_versions[0].key[20] ^= 1;
        world.repository.tamper(at);
    };
    damage();
    let process = Process::new(&world).await;
    let _ = lines();
    for _ in 0..200 {
        newest(&process, &id).await;
        let error = process.kms.decrypt(&id, &OIDC, &old, b"").await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::TamperedKey);
        process.clock.advance(Duration::from_secs(60));
    }
    let warnings = lines();
    // The root key version, and the two data key versions under it.
    assert_eq!(warnings.len(), 3, "{warnings:?}");
    assert!(warnings.iter().all(|line| line.contains("does not open")));

    // What a blob says of itself is in no log, however long it is.
    let made_up = Blob::new(old.ciphertext().to_vec(), "k".repeat(10_000_000));
    let refused = process.kms.decrypt(&id, &OIDC, &made_up, b"").await;
    refused.unwrap_err();
    assert!(lines().iter().all(|line| line.len() < 2_000));

    damage();
    process.clock.advance(Duration::from_secs(301));
    process.kms.decrypt(&id, &OIDC, &old, b"").await.unwrap();
    let said = lines();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(said.iter().all(|line| line.contains("opens again")));
}
