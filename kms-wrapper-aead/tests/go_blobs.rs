//! Blobs that Go's AEAD wrapper made open, and altered ones don't.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use data_encoding::{BASE64, HEXLOWER};
use kms_core::{Blob, ErrorKind, KeyBytes, Ownership, SecretBytes, Wrapper as _};
use kms_wrapper_aead::AeadWrapper;
use serde::Deserialize;

#[derive(Deserialize)]
struct Vector {
    name: String,
    key_hex: String,
    key_id: String,
    #[serde(default)]
    aad_b64: String,
    #[serde(default)]
    plaintext_b64: String,
    blob_b64: String,
}

impl Vector {
    fn wrapper(&self) -> AeadWrapper {
        AeadWrapper::builder(&self.key_id)
            .key_text(&self.key_hex)
            .build()
            .unwrap()
    }

    fn aad(&self) -> Vec<u8> {
        BASE64.decode(self.aad_b64.as_bytes()).unwrap()
    }

    fn plaintext(&self) -> Vec<u8> {
        BASE64.decode(self.plaintext_b64.as_bytes()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        BASE64.decode(self.blob_b64.as_bytes()).unwrap()
    }

    fn blob(&self) -> Blob {
        Blob::decode(&self.bytes()).unwrap()
    }
}

fn vectors() -> Vec<Vector> {
    let vectors: Vec<Vector> = serde_json::from_str(include_str!("data/go-aead.json")).unwrap();
    assert!(vectors.len() >= 10, "{}", vectors.len());
    vectors
}

fn open(vector: &Vector, blob: &Blob, aad: &[u8]) -> kms_core::Result<SecretBytes> {
    now(vector.wrapper().decrypt(blob, aad))
}

#[test]
fn every_blob_of_go_opens_to_its_plaintext() {
    for vector in vectors() {
        let blob = vector.blob();
        assert_eq!(blob.key_id(), vector.key_id, "{}", vector.name);
        assert_eq!(vector.wrapper().owns(&blob), Ownership::Yes);
        let plaintext = open(&vector, &blob, &vector.aad()).unwrap();
        assert_eq!(plaintext.expose(), vector.plaintext(), "{}", vector.name);
    }
}

#[test]
fn every_blob_of_go_encodes_to_the_same_bytes_again() {
    for vector in vectors() {
        assert_eq!(vector.blob().encode(), vector.bytes(), "{}", vector.name);
    }
}

#[test]
fn no_blob_of_go_opens_with_another_aad() {
    for vector in vectors() {
        let aad = vector.aad();
        let longer = [aad.as_slice(), b"\0"].concat();
        let others = [b"other".as_slice(), &longer, aad.get(1..).unwrap_or(b"-")];
        for other in others {
            let error = open(&vector, &vector.blob(), other).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
        }
    }
}

#[test]
fn no_blob_of_go_opens_with_any_one_bit_of_its_ciphertext_flipped() {
    for vector in vectors() {
        let (wrapper, aad) = (vector.wrapper(), vector.aad());
        let whole = vector.blob().ciphertext().to_vec();
        // Every bit of short ones; one bit of every byte, and all bits of both ends, of long ones.
        let chosen = |bit: &usize| {
            whole.len() <= 128 || bit % 8 == bit / 8 % 8 || {
                let byte = bit / 8;
                byte < 32 || byte + 32 >= whole.len()
            }
        };
        for bit in (0..whole.len() * 8).filter(chosen) {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let blob = Blob::new(bytes, &vector.key_id);
            let outcome = now(wrapper.decrypt(&blob, &aad));
            let kind = outcome.unwrap_err().kind();
            assert_eq!(kind, ErrorKind::AuthenticationFailed, "{}", vector.name);
        }
    }
}

#[test]
fn no_blob_of_go_opens_with_its_ciphertext_cut_anywhere() {
    for vector in vectors() {
        let (wrapper, aad) = (vector.wrapper(), vector.aad());
        let whole = vector.blob().ciphertext().to_vec();
        for length in 0..whole.len() {
            for cut in [&whole[..length], &whole[whole.len() - length..]] {
                let blob = Blob::new(cut.to_vec(), &vector.key_id);
                let error = now(wrapper.decrypt(&blob, &aad)).unwrap_err();
                let expected = if length < 28 {
                    ErrorKind::InvalidBlob
                } else {
                    ErrorKind::AuthenticationFailed
                };
                assert_eq!(error.kind(), expected, "{} at {length}", vector.name);
            }
        }
    }
}

#[test]
fn no_serialized_blob_of_go_with_any_one_bit_flipped_gives_another_plaintext() {
    // A flipped bit in key info does not alter what the key authenticates, so that blob may open: to the
    // same plaintext, then.
    for vector in vectors()
        .into_iter()
        .filter(|vector| vector.bytes().len() <= 256)
    {
        let (wrapper, aad) = (vector.wrapper(), vector.aad());
        let whole = vector.bytes();
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let opened = Blob::decode(&bytes).and_then(|blob| now(wrapper.decrypt(&blob, &aad)));
            match opened {
                Ok(plaintext) => assert_eq!(plaintext.expose(), vector.plaintext()),
                Err(error) => assert!(
                    [ErrorKind::InvalidBlob, ErrorKind::AuthenticationFailed]
                        .contains(&error.kind()),
                    "{error}"
                ),
            }
        }
    }
}

#[test]
fn a_blob_of_go_without_key_id_opens_and_may_be_anyones() {
    let vector = &vectors()[0];
    let blob = Blob::new(vector.blob().ciphertext().to_vec(), "");
    assert_eq!(vector.wrapper().owns(&blob), Ownership::Unknown);
    let plaintext = open(vector, &blob, &vector.aad()).unwrap();
    assert_eq!(plaintext.expose(), vector.plaintext());
}

#[test]
fn no_blob_of_go_opens_with_any_one_bit_of_the_key_flipped() {
    let vector = &vectors()[1];
    let key = HEXLOWER.decode(vector.key_hex.as_bytes()).unwrap();
    for bit in 0..key.len() * 8 {
        let mut other = key.clone();
        other[bit / 8] ^= 1 << (bit % 8);
        let wrapper = AeadWrapper::builder(&vector.key_id)
            .key(KeyBytes::from_slice(&other).unwrap())
            .build()
            .unwrap();
        let error = now(wrapper.decrypt(&vector.blob(), &vector.aad())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
}

/// A local wrapper never waits, so its future is ready at the first look.
fn now<T>(future: impl Future<Output = T>) -> T {
    let mut future = std::pin::pin!(future);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.as_mut().poll(&mut context) {
        std::task::Poll::Ready(value) => value,
        std::task::Poll::Pending => panic!("a local wrapper waited"),
    }
}
