//! What must not open.
#![expect(
    clippy::missing_panics_doc,
    reason = "each function panics where its property does not hold"
)]

use kms_core::{Blob, Error, ErrorKind, Ownership};

use crate::wrapper::altered::{Part, renamed};
use crate::wrapper::opening::encrypt;
use crate::wrapper::{Subject, Weakness, assert_hidden};

/// A plaintext to be recognised, should an error repeat it.
pub(super) const PLAINTEXT: &[u8] = b"plaintext of 32 bytes, like keys";

/// Another `aad` than the one at encryption fails as an authentication: longer, shorter, flipped, missing, or
/// there where none was.
pub async fn a_wrong_aad_does_not_open(subject: &Subject) {
    if subject.is_weak(Weakness::NoAad) {
        return;
    }
    let wrapper = &*subject.wrapper;
    let right: &[u8] = b"scope o_1234567890";
    let pairs: [(&[u8], &[u8]); 7] = [
        (right, b""),
        (right, b"scope o_1234567891"),
        (right, b"scope o_123456789"),
        (right, b"scope o_1234567890 "),
        (right, b"scope o_1234567890\0"),
        (b"", b"a"),
        (b"", b"\0"),
    ];
    for (right, wrong) in pairs {
        let blob = wrapper
            .encrypt(PLAINTEXT, right)
            .await
            .expect("a short plaintext can be encrypted");
        let error = wrapper
            .decrypt(&blob, wrong)
            .await
            .expect_err("it opened with another aad");
        assert_refusal(subject, &error, &[ErrorKind::AuthenticationFailed]);
    }
}

/// One bit flipped in any byte of ciphertext, nonce and wrapped key.
pub async fn a_flipped_bit_in_any_byte_does_not_open(subject: &Subject) {
    let blob = encrypt(&*subject.wrapper, PLAINTEXT).await;
    for part in Part::of(&blob) {
        for position in 0..part.bytes(&blob).len() {
            let mut bytes = part.bytes(&blob).to_vec();
            bytes[position] ^= 1 << (position % 8);
            assert_does_not_open(subject, &part.replaced(&blob, &bytes), part, position).await;
        }
    }
}

/// Each part cut at the front or at the back, at many lengths, or with a byte too many.
pub async fn a_blob_of_another_length_does_not_open(subject: &Subject) {
    let blob = encrypt(&*subject.wrapper, PLAINTEXT).await;
    for part in Part::of(&blob) {
        let bytes = part.bytes(&blob);
        // Every length of a short part, and not more than some 64 calls for a long one.
        for length in (0..bytes.len()).step_by(bytes.len().div_ceil(64)) {
            let start = bytes.len() - length;
            for cut in [&bytes[..length], &bytes[start..]] {
                assert_does_not_open(subject, &part.replaced(&blob, cut), part, length).await;
            }
        }
        for longer in [[bytes, &[0]].concat(), [&[0], bytes].concat()] {
            assert_does_not_open(subject, &part.replaced(&blob, &longer), part, longer.len()).await;
        }
    }
}

/// What a stranger made doesn't open, and isn't claimed: [`Ownership::No`] or [`Ownership::Unknown`]. A wrapper
/// that can tell may say whose it is not.
pub async fn a_foreign_blob_does_not_open(subject: &Subject) {
    let foreign = encrypt(&*subject.stranger, PLAINTEXT).await;
    assert_ne!(subject.wrapper.owns(&foreign), Ownership::Yes);
    assert_ne!(subject.wrapper.is_current(&foreign), Ownership::Yes);
    let mut kinds = REFUSALS.to_vec();
    if subject.wrapper.owns(&foreign) == Ownership::No {
        kinds.extend([ErrorKind::ForeignRootKey, ErrorKind::UnknownKeyVersion]);
    }
    assert_foreign(subject, &foreign, &kinds).await;
}

/// A stranger's blob under the wrapper's own key id doesn't open either: ids decide nothing.
pub async fn a_forged_key_id_does_not_help(subject: &Subject) {
    let own = encrypt(&*subject.wrapper, PLAINTEXT).await;
    let foreign = encrypt(&*subject.stranger, PLAINTEXT).await;
    assert_foreign(subject, &renamed(&foreign, own.key_id()), REFUSALS).await;
}

async fn assert_foreign(subject: &Subject, blob: &Blob, kinds: &[ErrorKind]) {
    let opened = subject.wrapper.decrypt(blob, b"").await;
    if subject.is_weak(Weakness::OpensForeignBlobs) {
        opened.expect("it refuses a foreign blob: take back OpensForeignBlobs");
        return;
    }
    let error = opened.expect_err("it opened a stranger's blob");
    assert_refusal(subject, &error, kinds);
}

pub(super) const REFUSALS: &[ErrorKind] =
    &[ErrorKind::AuthenticationFailed, ErrorKind::InvalidBlob];

async fn assert_does_not_open(subject: &Subject, altered: &Blob, part: Part, number: usize) {
    match subject.wrapper.decrypt(altered, b"").await {
        Err(error) => assert_refusal(subject, &error, REFUSALS),
        Ok(plaintext) if subject.is_weak(Weakness::SpareBits) => assert!(
            plaintext.expose() == PLAINTEXT,
            "an altered {part:?} ({number}) opened to another plaintext"
        ),
        Ok(_) => panic!("it opened with an altered {part:?} ({number})"),
    }
}

pub(super) fn assert_refusal(subject: &Subject, error: &Error, kinds: &[ErrorKind]) {
    assert!(
        kinds.contains(&error.kind()) || subject.is_weak(Weakness::VagueErrors),
        "refused as {:?} instead of {kinds:?}: {error}",
        error.kind()
    );
    assert!(!error.is_retryable(), "trying again can't help: {error}");
    assert_hidden(PLAINTEXT, &format!("{error} {error:?}"));
    for secret in &subject.secrets {
        assert_hidden(secret, &format!("{error} {error:?}"));
    }
}
