//! What must open, and to what.
#![expect(
    clippy::missing_panics_doc,
    reason = "each function panics where its property does not hold"
)]

use std::collections::BTreeSet;

use kms_core::{Blob, ErrorKind, Wrapper};

use crate::wrapper::refusing::assert_refusal;
use crate::wrapper::{Subject, Weakness};

/// Around the length of a key, of a block, and of what services allow.
const SIZES: [usize; 8] = [0, 1, 31, 32, 33, 4095, 4096, 65_536];

/// Plaintexts of many sizes, empty to 64 KiB or the service's limit, come back as they were; one byte more
/// than the limit is refused.
pub async fn every_size_round_trips(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let limit = subject.limit.unwrap_or(usize::MAX);
    let allowed = SIZES.into_iter().filter(|size| *size <= limit);
    for size in allowed.chain(subject.limit) {
        let plaintext = plaintext(size);
        if size == 0 && subject.is_weak(Weakness::NoEmptyPlaintext) {
            wrapper
                .encrypt(&plaintext, b"")
                .await
                .expect_err("it encrypts an empty plaintext: take back NoEmptyPlaintext");
            continue;
        }
        assert_round_trip(wrapper, &plaintext, b"").await;
    }
    if let Some(limit) = subject.limit {
        let error = wrapper
            .encrypt(&plaintext(limit + 1), b"")
            .await
            .expect_err("it encrypts more than its limit: raise the limit");
        assert!(!error.is_retryable(), "a plaintext too long stays too long");
    }
}

/// An `aad` may be empty, short or long, and is not stored in the blob. All of it is bound: its first byte, one in the
/// middle and its last one.
pub async fn aad_of_any_length_is_bound(subject: &Subject) {
    const SHORT: &[u8] = b"kms-testkit-aad";
    let wrapper = &*subject.wrapper;
    assert_round_trip(wrapper, b"plaintext", b"").await;
    if subject.is_weak(Weakness::NoAad) {
        wrapper
            .encrypt(b"plaintext", SHORT)
            .await
            .expect_err("it dropped an aad, or it binds it: then take back NoAad");
        return;
    }
    let binary: Vec<u8> = (0..=255).collect();
    for aad in [b"a", SHORT, &binary, &[0; 40], &plaintext(5000)] {
        let blob = assert_round_trip(wrapper, b"plaintext", aad).await;
        let bytes = blob.encode();
        assert!(
            aad.len() < 8 || !bytes.windows(aad.len()).any(|window| window == aad),
            "the blob holds the aad"
        );
        for position in BTreeSet::from([0, aad.len() / 2, aad.len() - 1]) {
            let mut other = aad.to_vec();
            other[position] ^= 1;
            let Err(error) = wrapper.decrypt(&blob, &other).await else {
                panic!(
                    "it opened although byte {position} of an aad of {} is another",
                    aad.len()
                );
            };
            assert_refusal(subject, &error, &[ErrorKind::AuthenticationFailed]);
        }
    }
}

/// Two encryptions of one plaintext share nothing: neither ciphertext nor nonce nor fresh key.
pub async fn two_encryptions_differ(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let a = encrypt(wrapper, b"the same plaintext").await;
    let b = encrypt(wrapper, b"the same plaintext").await;
    assert_ne!(a.ciphertext(), b.ciphertext(), "the ciphertexts are equal");
    assert!(
        a.iv().is_empty() || a.iv() != b.iv(),
        "the nonces are equal"
    );
    assert!(
        a.wrapped_key().is_empty() || a.wrapped_key() != b.wrapped_key(),
        "the fresh keys are equal"
    );
}

/// A blob that was written and read again opens, and holds no plaintext.
pub async fn a_blob_survives_encoding(subject: &Subject) {
    const PLAINTEXT: &[u8] = b"a plaintext that would be recognised";
    let wrapper = &*subject.wrapper;
    let blob = encrypt(wrapper, PLAINTEXT).await;
    let bytes = blob.encode();
    assert!(
        !bytes
            .windows(PLAINTEXT.len())
            .any(|window| window == PLAINTEXT),
        "the blob holds the plaintext"
    );
    let read = Blob::decode(&bytes).expect("a blob decodes what it encodes");
    assert_eq!(read, blob);
    let back = wrapper
        .decrypt(&read, b"")
        .await
        .expect("the blob opens after it was stored");
    assert_eq!(back.expose(), PLAINTEXT);
}

/// [`Wrapper::preflight`] finds nothing to object to.
pub async fn preflight_succeeds(subject: &Subject) {
    if subject.is_weak(Weakness::NoAad) {
        return;
    }
    subject
        .wrapper
        .preflight()
        .await
        .expect("the wrapper passes its own preflight");
}

pub(super) fn plaintext(size: usize) -> Vec<u8> {
    (0..size)
        .map(|position| (position * 31 + position / 256).to_le_bytes()[0])
        .collect()
}

pub(super) async fn encrypt(wrapper: &dyn Wrapper, plaintext: &[u8]) -> Blob {
    wrapper
        .encrypt(plaintext, b"")
        .await
        .expect("a short plaintext can be encrypted")
}

pub(super) async fn assert_round_trip(wrapper: &dyn Wrapper, plaintext: &[u8], aad: &[u8]) -> Blob {
    let (size, aad_size) = (plaintext.len(), aad.len());
    let blob = wrapper
        .encrypt(plaintext, aad)
        .await
        .unwrap_or_else(|error| panic!("{size} bytes, aad of {aad_size}: {error}"));
    let back = wrapper
        .decrypt(&blob, aad)
        .await
        .unwrap_or_else(|error| panic!("{size} bytes, aad of {aad_size}: {error}"));
    assert!(
        back.expose() == plaintext,
        "{size} bytes, aad of {aad_size}: another plaintext came back"
    );
    blob
}
