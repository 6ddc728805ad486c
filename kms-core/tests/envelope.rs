//! The local half of envelope encryption, which wrappers of cloud services share.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use kms_core::{
    Blob, ENVELOPE_MECHANISM, Envelope, Error, ErrorKind, KeyBytes, NONCE_LEN, TAG_LEN,
};
use kms_wrapper_aead::fastest;

/// A blob, and the fresh key as the service would decrypt it.
fn sealed(plaintext: &[u8], aad: &[u8]) -> (Blob, KeyBytes) {
    let sealed = Envelope::new(fastest()).seal(plaintext, aad).unwrap();
    let key = KeyBytes::from_slice(sealed.key().expose()).unwrap();
    (sealed.into_blob("arn:key", vec![7; 40]), key)
}

fn open(blob: &Blob, key: &KeyBytes, aad: &[u8]) -> Result<Vec<u8>, ErrorKind> {
    Envelope::new(fastest())
        .open(blob, key, aad)
        .map(|plaintext| plaintext.expose().to_vec())
        .map_err(|error: Error| error.kind())
}

#[test]
fn an_envelope_has_the_layout_of_the_format_and_opens() {
    for plaintext in [&b""[..], b"x", &[9; 1000]] {
        let (blob, key) = sealed(plaintext, b"aad");
        assert_eq!(blob.mechanism(), ENVELOPE_MECHANISM);
        assert_eq!(blob.key_id(), "arn:key");
        assert_eq!(blob.wrapped_key(), [7; 40]);
        assert_eq!(blob.iv().len(), NONCE_LEN);
        assert_eq!(blob.ciphertext().len(), plaintext.len() + TAG_LEN);
        let read = Blob::decode(&blob.encode()).unwrap();
        assert_eq!(open(&read, &key, b"aad").unwrap(), plaintext);
    }
}

#[test]
fn every_envelope_has_a_key_and_a_nonce_of_its_own() {
    let ((a, a_key), (b, b_key)) = (sealed(b"same", b""), sealed(b"same", b""));
    assert_ne!(a_key, b_key);
    assert_ne!(a.iv(), b.iv());
    assert_ne!(a.ciphertext(), b.ciphertext());
}

#[test]
fn another_aad_another_key_or_a_flipped_bit_does_not_open() {
    let (blob, key) = sealed(b"plaintext", b"aad");
    let (_, other) = sealed(b"plaintext", b"aad");
    let failed = Err(ErrorKind::AuthenticationFailed);
    assert_eq!(open(&blob, &key, b""), failed);
    assert_eq!(open(&blob, &other, b"aad"), failed);
    for position in 0..blob.ciphertext().len() {
        let mut ciphertext = blob.ciphertext().to_vec();
        ciphertext[position] ^= 1;
        let flipped = Blob::new(ciphertext, "arn:key").with_iv(blob.iv());
        assert_eq!(open(&flipped, &key, b"aad"), failed);
    }
    for position in 0..NONCE_LEN {
        let mut iv = blob.iv().to_vec();
        iv[position] ^= 1;
        let flipped = blob.clone().with_iv(iv);
        assert_eq!(open(&flipped, &key, b"aad"), failed);
    }
}

#[test]
fn a_blob_of_another_shape_is_told_from_one_that_does_not_authenticate() {
    let (blob, key) = sealed(b"plaintext", b"");
    for shape in [
        blob.clone().with_iv([]),
        blob.clone().with_iv([0; NONCE_LEN + 1]),
        Blob::new(vec![1; TAG_LEN - 1], "id").with_iv([0; NONCE_LEN]),
    ] {
        assert_eq!(open(&shape, &key, b""), Err(ErrorKind::InvalidBlob));
    }
}
