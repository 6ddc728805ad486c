//! Check blobs: how processes agree on which root key is the right one.

use kms_core::{Repository, RootCheck};

use super::fixture::Fixture;

fn check(key_id: &str, blob: &[u8]) -> RootCheck {
    RootCheck {
        key_id: key_id.to_owned(),
        blob: blob.to_vec(),
    }
}

async fn store(repository: &dyn Repository, check: &RootCheck, former: Option<&[u8]>) -> bool {
    repository.store_root_check(check, former).await.unwrap()
}

/// Of two processes that store the first check blob of a key id, one does, and both read it.
pub async fn the_first_check_blob_of_a_key_id_stays(fixture: &dyn Fixture) {
    let (one, other) = (fixture.repository(), fixture.repository());
    assert_eq!(one.root_checks().await.unwrap(), []);
    let first = check("root", b"\0first");
    assert!(store(&*one, &first, None).await);
    assert!(!store(&*other, &check("root", b"second"), None).await);
    assert_eq!(other.root_checks().await.unwrap(), [first]);
}

/// A check blob is replaced only by who knows the present one.
pub async fn a_check_blob_is_replaced_where_it_is_the_expected_one(fixture: &dyn Fixture) {
    let repository = &*fixture.repository();
    let (first, second) = (check("root", b"first"), check("root", b"second"));
    assert!(
        !store(repository, &second, Some(b"first")).await,
        "none yet"
    );
    assert!(store(repository, &first, None).await);
    assert!(!store(repository, &second, Some(b"another")).await);
    assert_eq!(repository.root_checks().await.unwrap(), [first]);
    assert!(store(repository, &second, Some(b"first")).await);
    assert_eq!(repository.root_checks().await.unwrap(), [second]);
}

/// Each key id has one of its own.
pub async fn check_blobs_of_other_key_ids_stay_apart(fixture: &dyn Fixture) {
    let repository = &*fixture.repository();
    let checks = ["", "root", "arn:aws:kms:\u{e9}"].map(|id| check(id, b"blob"));
    for check in &checks {
        assert!(store(repository, check, None).await);
    }
    let mut found = repository.root_checks().await.unwrap();
    found.sort_by(|one, other| one.key_id.cmp(&other.key_id));
    let mut expected = checks.to_vec();
    expected.sort_by(|one, other| one.key_id.cmp(&other.key_id));
    assert_eq!(found, expected);
}
