//! What ties the fresh key of an envelope to its row.

use data_encoding::BASE64;
use kms_core::service::BOUND_ENVELOPE_MECHANISM;
use kms_core::{Aead as _, Blob, ENVELOPE_MECHANISM, ErrorKind, KeyBytes, NONCE_LEN, Wrapper as _};
use kms_wrapper_aead::AesGcm;
use kms_wrapper_gcp::CloudKmsMode;
use serde_json::{Value, json};

use crate::support::{Own, bound};

const OWN: &[u8] = b"a row of the tenant whose fresh key was learned";
const OTHER: &[u8] = b"a row of another tenant";

async fn call(own: &Own, verb: &str, body: &Value) -> Value {
    let path = format!("v1/{}:{verb}", own.key);
    let (code, answer) = own.client().request("POST", &path, body).await;
    assert_eq!(code, 200, "{answer}");
    answer
}

/// A blob that somebody made without the service, under a fresh key that they know.
fn made_of(key: &KeyBytes, key_id: &str, aad: &[u8], mechanism: u64, wrapped: Vec<u8>) -> Blob {
    let nonce = [7; NONCE_LEN];
    let mut ciphertext = b"forged".to_vec();
    let prepared = AesGcm.prepare(key);
    let tag = prepared.seal_in_place(&nonce, aad, &mut ciphertext);
    ciphertext.extend_from_slice(&tag.unwrap());
    Blob::new(ciphertext, key_id)
        .with_iv(nonce)
        .with_wrapped_key(mechanism, wrapped)
}

#[tokio::test]
async fn a_fresh_key_that_somebody_learned_makes_no_key_of_another_row() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let blob = own.wrapper.encrypt(b"plaintext", OWN).await.unwrap();
    let body = json!({
        "ciphertext": BASE64.encode(blob.wrapped_key()),
        "additionalAuthenticatedData": BASE64.encode(&bound(OWN)),
    });
    let answer = call(&own, "decrypt", &body).await;
    let learned = BASE64.decode(answer["plaintext"].as_str().unwrap().as_bytes());
    let learned = KeyBytes::from_slice(&learned.unwrap()).unwrap();
    let forged = |aad, mechanism| {
        let wrapped = blob.wrapped_key().to_vec();
        made_of(&learned, blob.key_id(), aad, mechanism, wrapped)
    };
    // It is well made: the row that it was learned from takes it.
    let opened = forged(OWN, BOUND_ENVELOPE_MECHANISM);
    own.wrapper.decrypt(&opened, OWN).await.unwrap();
    for mechanism in [BOUND_ENVELOPE_MECHANISM, ENVELOPE_MECHANISM] {
        let error = own.wrapper.decrypt(&forged(OTHER, mechanism), OTHER).await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
}

#[tokio::test]
async fn an_envelope_whose_fresh_key_is_not_bound_still_opens() {
    let own = Own::start(CloudKmsMode::Envelope).await;
    let fresh = KeyBytes::generate().unwrap();
    let body = json!({ "plaintext": BASE64.encode(fresh.expose()) });
    let answer = call(&own, "encrypt", &body).await;
    let wrapped = BASE64.decode(answer["ciphertext"].as_str().unwrap().as_bytes());
    let old = made_of(
        &fresh,
        answer["name"].as_str().unwrap(),
        OWN,
        ENVELOPE_MECHANISM,
        wrapped.unwrap(),
    );
    let back = own.wrapper.decrypt(&old, OWN).await.unwrap();
    assert_eq!(back.expose(), b"forged");
}
