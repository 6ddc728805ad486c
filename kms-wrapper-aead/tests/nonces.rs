//! Nonces never repeat: invariant 10 for one process. `fork.rs` has the forked one.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashSet;

use kms_core::{KeyBytes, LocalKey, NONCE_LEN};
use kms_wrapper_aead::fastest;

fn nonces(key: &LocalKey, count: usize) -> Vec<[u8; NONCE_LEN]> {
    (0..count)
        .map(|_| {
            let blob = key.encrypt(b"", b"").unwrap();
            *blob.ciphertext().first_chunk().unwrap()
        })
        .collect()
}

#[test]
fn invariant_10_ten_thousand_nonces_all_differ() {
    let key = LocalKey::new(&*fastest(), &KeyBytes::generate().unwrap(), "id");
    let distinct: HashSet<_> = nonces(&key, 10_000).into_iter().collect();
    assert_eq!(distinct.len(), 10_000);
}

#[test]
fn invariant_10_threads_that_share_a_key_draw_different_nonces() {
    let key = LocalKey::new(&*fastest(), &KeyBytes::generate().unwrap(), "id");
    let drawn: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| nonces(&key, 2_000)))
            .collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    });
    let distinct: HashSet<_> = drawn.iter().collect();
    assert_eq!(distinct.len(), 16_000);
}
