//! What a wrapper of a key in a service binds, and what it opens.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kms_core::service::{BOUND_ENVELOPE_MECHANISM, Encrypted, Mode, Sealing, ServiceKey};
use kms_core::{
    Aead as _, Blob, ENVELOPE_MECHANISM, Envelope, Error, ErrorKind, KeyBytes, Result, SecretBytes,
};
use kms_wrapper_aead::AesGcm;

/// Keeps what it is sent, and gives back a number for it.
#[derive(Default)]
struct Service(Mutex<Vec<(Vec<u8>, Vec<u8>)>>);

#[async_trait]
impl ServiceKey for Service {
    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Encrypted> {
        let mut kept = self.0.lock().unwrap();
        kept.push((plaintext.to_vec(), aad.to_vec()));
        Ok(Encrypted {
            key_id: "key".to_owned(),
            ciphertext: kept.len().to_string().into_bytes(),
        })
    }

    async fn decrypt(&self, ciphertext: &[u8], aad: &[u8]) -> Result<SecretBytes> {
        let number: usize = std::str::from_utf8(ciphertext).unwrap().parse().unwrap();
        let kept = self.0.lock().unwrap();
        let (plaintext, bound) = &kept[number - 1];
        if bound == aad {
            return Ok(SecretBytes::new(plaintext.clone()));
        }
        Err(Error::new(ErrorKind::AuthenticationFailed))
    }
}

fn sealing(mode: Mode) -> Sealing {
    Sealing::new(mode, Some(Arc::new(AesGcm))).unwrap()
}

/// A blob by somebody who learned a fresh key and what the service made of it.
fn forged(fresh: &KeyBytes, wrapped: &[u8], mechanism: u64, aad: &[u8]) -> Blob {
    let nonce = [7; 12];
    let mut text = b"forged".to_vec();
    let key = AesGcm.prepare(fresh);
    let tag = key.seal_in_place(&nonce, aad, &mut text).unwrap();
    text.extend_from_slice(&tag);
    Blob::new(text, "key")
        .with_iv(nonce)
        .with_wrapped_key(mechanism, wrapped.to_vec())
}

#[tokio::test]
async fn a_fresh_key_that_somebody_learned_forges_no_blob_of_another_row() {
    let service = Service::default();
    let sealing = sealing(Mode::Envelope);
    let blob = sealing.encrypt(&service, b"key", b"row 1").await.unwrap();
    assert_eq!(blob.mechanism(), BOUND_ENVELOPE_MECHANISM);
    let learned = KeyBytes::from_slice(&service.0.lock().unwrap()[0].0).unwrap();
    for mechanism in [BOUND_ENVELOPE_MECHANISM, ENVELOPE_MECHANISM] {
        let forged = forged(&learned, blob.wrapped_key(), mechanism, b"row 2");
        let opened = sealing.decrypt(&service, &forged, b"row 2").await;
        assert_eq!(opened.unwrap_err().kind(), ErrorKind::AuthenticationFailed);
    }
    let back = sealing.decrypt(&service, &blob, b"row 1").await.unwrap();
    assert_eq!(back.expose(), b"key");
}

#[tokio::test]
async fn a_fresh_key_that_somebody_learned_does_not_pass_for_a_plaintext_of_direct_mode() {
    let service = Service::default();
    let sealing = sealing(Mode::Envelope);
    let blob = sealing.encrypt(&service, b"key", b"row 1").await.unwrap();
    let direct = Blob::new(blob.wrapped_key().to_vec(), "key");
    let opened = sealing.decrypt(&service, &direct, b"row 1").await;
    assert_eq!(opened.unwrap_err().kind(), ErrorKind::AuthenticationFailed);
}

#[tokio::test]
async fn an_envelope_without_aad_is_one_of_go_and_those_of_go_with_one_open() {
    let service = Service::default();
    let sealing = sealing(Mode::Envelope);
    let blob = sealing.encrypt(&service, b"key", b"").await.unwrap();
    assert_eq!(blob.mechanism(), ENVELOPE_MECHANISM);
    assert_eq!(service.0.lock().unwrap()[0].1, b"");

    let sealed = Envelope::new(Arc::new(AesGcm))
        .seal(b"old", b"row 1")
        .unwrap();
    let wrapped = service.encrypt(sealed.key().expose(), b"").await.unwrap();
    let old = sealed.into_blob("key", wrapped.ciphertext);
    let back = sealing.decrypt(&service, &old, b"row 1").await.unwrap();
    assert_eq!(back.expose(), b"old");
}

#[tokio::test]
async fn either_mode_opens_what_the_other_made_and_preflight_passes_in_both() {
    let service = Service::default();
    let (envelope, direct) = (sealing(Mode::Envelope), sealing(Mode::Direct));
    for (one, other) in [(&envelope, &direct), (&direct, &envelope)] {
        let blob = one.encrypt(&service, b"key", b"row").await.unwrap();
        let back = other.decrypt(&service, &blob, b"row").await.unwrap();
        assert_eq!(back.expose(), b"key");
        one.preflight(&service).await.unwrap();
    }
    let without = Sealing::new(Mode::Direct, None).unwrap();
    let blob = envelope.encrypt(&service, b"key", b"row").await.unwrap();
    let error = without.decrypt(&service, &blob, b"row").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let error = Sealing::new(Mode::Envelope, None).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
}
