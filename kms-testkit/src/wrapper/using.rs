//! What a user of a wrapper relies on beside encrypting and decrypting.
#![expect(
    clippy::missing_panics_doc,
    reason = "each function panics where its property does not hold"
)]

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use kms_core::Ownership;
use tokio::time::timeout;

use crate::wrapper::opening::{assert_round_trip, encrypt};
use crate::wrapper::{Subject, assert_hidden};

/// It claims what it made, also after the blob was stored: [`Ownership::Yes`] or [`Ownership::Unknown`].
pub async fn it_owns_its_blobs(subject: &Subject) {
    let blob = encrypt(&*subject.wrapper, b"plaintext").await;
    assert_ne!(subject.wrapper.owns(&blob), Ownership::No);
    assert_ne!(subject.wrapper.is_current(&blob), Ownership::No);
}

/// After an encryption, the key id that the wrapper tells, if it tells one, is the one in the blob; it is
/// never an empty one, and neither is the kind.
pub async fn the_key_id_is_that_of_its_blobs(subject: &Subject) {
    assert!(!subject.wrapper.kind().is_empty(), "the kind is empty");
    let blob = encrypt(&*subject.wrapper, b"plaintext").await;
    if let Some(id) = subject.wrapper.key_id() {
        assert!(!id.trim().is_empty(), "the key id is blank");
        assert_eq!(id, blob.key_id());
    }
}

/// `Debug` of wrapper, blob and decrypted secret shows neither a secret of the wrapper nor the plaintext.
pub async fn debug_shows_no_secret(subject: &Subject) {
    const PLAINTEXT: &[u8] = b"a plaintext that would be recognised";
    let wrapper = &*subject.wrapper;
    let blob = encrypt(wrapper, PLAINTEXT).await;
    let back = wrapper
        .decrypt(&blob, b"")
        .await
        .expect("the wrapper opens its own blob");
    let shown = format!("{wrapper:?} {wrapper:#?} {blob:?} {blob:#?} {back:?} {back:#?}");
    assert_hidden(PLAINTEXT, &shown);
    for secret in &subject.secrets {
        assert_hidden(secret, &shown);
    }
}

/// 32 tasks encrypt and decrypt at once, and each gets its own back.
pub async fn it_serves_many_tasks_at_once(subject: &Subject) {
    let tasks = (0..32).map(|number| {
        let wrapper = Arc::clone(&subject.wrapper);
        tokio::spawn(async move {
            for round in 0..4 {
                let plaintext = format!("plaintext {round} of task {number}");
                assert_round_trip(&*wrapper, plaintext.as_bytes(), b"").await;
            }
        })
    });
    for outcome in join_all(tasks).await {
        outcome.expect("each task gets its own plaintext back");
    }
}

/// Futures dropped before their end, at their first point of waiting or a little later, leave the wrapper as
/// it was.
pub async fn a_dropped_future_leaves_nothing_behind(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let blob = encrypt(wrapper, b"before").await;
    for round in 0..8 {
        drop(wrapper.encrypt(b"dropped", b"").now_or_never());
        drop(wrapper.decrypt(&blob, b"").now_or_never());
        let moment = Duration::from_micros(100 * round);
        drop(timeout(moment, wrapper.encrypt(b"dropped", b"")).await);
        drop(timeout(moment, wrapper.decrypt(&blob, b"")).await);
    }
    let back = wrapper
        .decrypt(&blob, b"")
        .await
        .expect("it still decrypts");
    assert_eq!(back.expose(), b"before");
    assert_round_trip(wrapper, b"after", b"").await;
}
