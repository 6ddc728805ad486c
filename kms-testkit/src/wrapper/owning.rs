//! What a wrapper says of blobs without opening them, on which campaigns rely.
#![expect(
    clippy::missing_panics_doc,
    reason = "each function panics where its property does not hold"
)]

use std::sync::Arc;

use kms_core::{Ownership, PooledWrapper, VersionAge, Wrapper as _};

use crate::wrapper::altered::renamed;
use crate::wrapper::opening::encrypt;
use crate::wrapper::{Subject, Weakness};

/// Ownership is told by the key id: a blob under one that nobody has is neither its own nor current.
pub async fn a_blob_under_a_key_id_of_nobody_is_not_its_own(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let own = encrypt(wrapper, b"plaintext").await;
    let nobody = renamed(&own, "kms-testkit-nobody");
    assert_ne!(wrapper.owns(&nobody), Ownership::Yes);
    assert_ne!(wrapper.is_current(&nobody), Ownership::Yes);
}

/// It claims something before its first call, the same after one, and not the stranger's key. What it has just
/// encrypted is of no older version.
pub async fn its_claims_are_those_of_its_configuration(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let before = wrapper.claims();
    assert!(!before.is_empty(), "it claims nothing");
    let own = encrypt(wrapper, b"plaintext").await;
    assert_eq!(wrapper.claims(), before, "its claims changed with a call");
    assert_ne!(wrapper.version_of(&own), VersionAge::Older);
    for claim in subject.stranger.claims() {
        assert!(
            !before.iter().any(|own| own.is_same_key(&claim)),
            "it claims the stranger's key: {claim:?}"
        );
    }
}

/// What it decrypts with a [former key](Subject::with_former) is its own, and not current: a campaign has to rewrap it.
pub async fn what_a_former_key_made_opens_and_is_not_current(subject: &Subject) {
    let wrapper = &*subject.wrapper;
    let Some(former) = &subject.former else {
        eprintln!("{}: no former key was given", wrapper.kind());
        return;
    };
    let blob = encrypt(&**former, b"plaintext").await;
    let back = wrapper
        .decrypt(&blob, b"")
        .await
        .expect("it opens what its former key made");
    assert_eq!(back.expose(), b"plaintext");
    assert_ne!(wrapper.owns(&blob), Ownership::No);
    assert_ne!(wrapper.is_current(&blob), Ownership::Yes);
}

/// A pool of it and the stranger opens the blobs of both, and takes none of the stranger's for surely current.
pub async fn in_a_pool_with_a_stranger_each_blob_opens(subject: &Subject) {
    let (wrapper, stranger) = (&subject.wrapper, &subject.stranger);
    let pool = PooledWrapper::new(Arc::clone(wrapper))
        .with_decrypting(Arc::clone(stranger))
        .expect("its key is not the stranger's");
    for member in [wrapper, stranger] {
        let blob = encrypt(&**member, b"plaintext").await;
        let back = pool.decrypt(&blob, b"").await;
        assert_eq!(back.expect("a member opens it").expose(), b"plaintext");
        assert_ne!(pool.owns(&blob), Ownership::No);
    }
    let own = encrypt(&**wrapper, b"plaintext").await;
    assert_ne!(pool.is_current(&own), Ownership::No);
    let foreign = encrypt(&**stranger, b"plaintext").await;
    if !subject.is_weak(Weakness::OpensForeignBlobs) {
        assert_ne!(pool.is_current(&foreign), Ownership::Yes);
    }
}
