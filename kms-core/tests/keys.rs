//! Keys from creation to deletion, as an application sees them.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_core::{
    Blob, ErrorKind, KeyKind, KeyVersionId, Kms, Purpose, Rewrap, RewrapKeys, ScopeId, Scopes,
};
use support::{DATABASE, OIDC, World, scope};

#[tokio::test]
async fn invariant_05_what_is_encrypted_for_one_scope_opens_for_it_alone() {
    let world = World::new().await;
    let (mine, other) = (scope("o_1"), scope("o_2"));
    for scope in [&mine, &other] {
        world
            .kms
            .create_keys(scope, &[DATABASE, OIDC])
            .await
            .unwrap();
    }
    let wrapper = world.kms.wrapper(&mine, &OIDC).await.unwrap();
    let blob = wrapper.encrypt(b"secret", b"row:1").unwrap();
    let blob = Blob::decode(&blob.encode()).unwrap();
    assert_eq!(blob.key_id(), wrapper.key_version_id().as_str());
    assert_eq!(
        wrapper.decrypt(&blob, b"row:1").unwrap().expose(),
        b"secret"
    );

    let error = wrapper.decrypt(&blob, b"row:2").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    for (scope, purpose) in [(&other, OIDC), (&mine, DATABASE)] {
        let foreign = world.kms.wrapper(scope, &purpose).await.unwrap();
        let error = foreign.decrypt(&blob, b"row:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
        // Nor under the name of a key version that is there.
        let renamed = Blob::new(
            blob.ciphertext().to_vec(),
            foreign.key_version_id().as_str(),
        );
        let error = foreign.decrypt(&renamed, b"row:1").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
    world.kms.rotate_keys(&mine, Rewrap::No).await.unwrap();
    let newer = world.kms.wrapper(&mine, &OIDC).await.unwrap();
    let renamed = Blob::new(blob.ciphertext().to_vec(), newer.key_version_id().as_str());
    let error = newer.decrypt(&renamed, b"row:1").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    assert_eq!(newer.decrypt(&blob, b"row:1").unwrap().expose(), b"secret");
}

#[tokio::test]
async fn invariant_09_a_failed_authentication_says_only_that_it_failed() {
    let world = World::with_scope("o_1").await;
    let wrapper = world.wrapper(&scope("o_1")).await;
    let blob = wrapper.encrypt(b"hunter2 and more", b"row:1").unwrap();
    let flipped = |position: usize| {
        let mut bytes = blob.ciphertext().to_vec();
        bytes[position] ^= 1;
        Blob::new(bytes, blob.key_id())
    };
    // The nonce, the ciphertext, the tag, a tag too short, another aad, none.
    let shorter = Blob::new(blob.ciphertext()[..40].to_vec(), blob.key_id());
    let failures = [
        wrapper.decrypt(&flipped(0), b"row:1"),
        wrapper.decrypt(&flipped(20), b"row:1"),
        wrapper.decrypt(&flipped(43), b"row:1"),
        wrapper.decrypt(&shorter, b"row:1"),
        wrapper.decrypt(&blob, b"row:2"),
        wrapper.decrypt(&blob, b""),
    ]
    .map(|result| result.unwrap_err());
    for error in failures {
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
        assert_eq!(error.to_string(), "authentication failed");
        assert!(std::error::Error::source(&error).is_none());
        assert!(!error.is_retryable());
    }
}

#[tokio::test]
async fn invariant_10_encryptions_are_counted_against_the_budget_of_a_key_version() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    for n in 0..5 {
        assert_eq!(world.wrapper(&scope).await.encryptions(), n);
        world.encrypt(&scope, b"x").await;
    }
    // Whatever the cache does: the key is the same as long as it is kept.
    world
        .kms
        .create_keys(&support::scope("o_2"), &[])
        .await
        .unwrap();
    let wrapper = world.wrapper(&scope).await;
    assert_eq!(wrapper.encryptions(), 5);
    assert!(wrapper.encryptions() < kms_core::LocalKey::BUDGET);
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    assert_eq!(world.wrapper(&scope).await.encryptions(), 0, "a new key");
}

#[tokio::test]
async fn invariant_04_after_a_rotation_the_newest_version_encrypts_and_all_decrypt() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let mut blobs = vec![world.encrypt(&scope, b"v1").await];
    for (version, rewrap) in [(2, Rewrap::No), (3, Rewrap::Yes), (4, Rewrap::No)] {
        world.kms.rotate_keys(&scope, rewrap).await.unwrap();
        let blob = world
            .encrypt(&scope, format!("v{version}").as_bytes())
            .await;
        assert_eq!(world.version_of(&scope, &blob).await, version);
        blobs.push(blob);
    }
    world
        .kms
        .rewrap_keys(&scope, RewrapKeys::All)
        .await
        .unwrap();
    for kms in [&world.kms, &world.another_process().await] {
        for (blob, expected) in blobs.iter().zip(["v1", "v2", "v3", "v4"]) {
            let plain = kms.decrypt(&scope, &OIDC, blob, b"").await.unwrap();
            assert_eq!(plain.expose(), expected.as_bytes());
        }
    }
}

#[tokio::test]
async fn keys_are_listed_root_key_first_with_versions_ascending() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    world.kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    let keys = world.kms.list_keys(&scope).await.unwrap();
    let shown: Vec<_> = keys
        .iter()
        .map(|key| (key.kind, key.purpose.as_str(), key.versions.len()))
        .collect();
    assert_eq!(
        shown,
        [
            (KeyKind::Kek, "rootKey", 2),
            (KeyKind::Dek, "database", 2),
            (KeyKind::Dek, "oidc", 2)
        ]
    );
    let newest_root = keys[0].versions[1].id.to_string();
    for key in &keys {
        let numbers: Vec<_> = key.versions.iter().map(|version| version.version).collect();
        assert_eq!(numbers, [1, 2]);
        for version in &key.versions {
            let wrapped_by = version.root_key_version.as_ref().map(ToString::to_string);
            assert_eq!(
                wrapped_by,
                (key.kind == KeyKind::Dek).then(|| newest_root.clone())
            );
        }
    }
}

#[tokio::test]
async fn an_engine_has_the_purposes_that_it_was_given_each_once_and_never_that_of_root_keys() {
    let world = World::new().await;
    assert_eq!(world.kms.purposes(), [DATABASE, OIDC]);
    for (purposes, kind, named) in [
        (
            vec![OIDC, DATABASE, OIDC],
            ErrorKind::DuplicatePurpose,
            "oidc",
        ),
        (
            vec![OIDC, Purpose::from_stored(Purpose::ROOT_KEY)],
            ErrorKind::ReservedPurpose,
            "rootKey",
        ),
    ] {
        let error = world.builder().purposes(purposes).build().await;
        let error = error.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.context("purpose"), Some(named));
    }
}

#[tokio::test]
async fn bad_input_to_creation_has_kinds_of_its_own_and_changes_nothing() {
    let world = World::new().await;
    let scope = scope("o_1");
    let undeclared = Purpose::new("undeclared").unwrap();
    let reserved = Purpose::from_stored(Purpose::ROOT_KEY);
    for (purposes, kind) in [
        (vec![undeclared], ErrorKind::UndeclaredPurpose),
        (vec![OIDC, OIDC], ErrorKind::DuplicatePurpose),
        (vec![reserved], ErrorKind::ReservedPurpose),
    ] {
        let error = world.kms.create_keys(&scope, &purposes).await.unwrap_err();
        assert_eq!(error.kind(), kind);
        assert_eq!(error.operation(), Some("create_keys"));
    }
    let error = world.kms.list_keys(&scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);

    world.kms.create_keys(&scope, &[]).await.unwrap();
    let error = world.kms.create_keys(&scope, &[OIDC]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(error.context("scope"), Some("o_1"));
    assert_eq!(world.kms.list_keys(&scope).await.unwrap().len(), 1);
}

#[tokio::test]
async fn an_unknown_scope_or_purpose_has_its_kind_in_every_operation() {
    let world = World::new().await;
    let missing = scope("missing");
    let kinds = [
        world.kms.wrapper(&missing, &OIDC).await.map(drop),
        world.kms.root_key_wrapper(&missing).await.map(drop),
        world.kms.ensure(&missing).await.map(drop),
        world.kms.list_keys(&missing).await.map(drop),
        world.kms.rotate_keys(&missing, Rewrap::No).await,
        world.kms.rewrap_keys(&missing, RewrapKeys::All).await,
        world.kms.delete_keys(&missing).await,
        world.kms.dangerous().delete_keys(&missing).await,
    ]
    .map(|result| result.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::UnknownScope; 8]);

    let only_root = scope("only_root");
    world.kms.create_keys(&only_root, &[]).await.unwrap();
    let error = world.kms.wrapper(&only_root, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPurpose);
    assert_eq!(error.context("purpose"), Some("oidc"));
    let undeclared = Purpose::from_static("undeclared");
    let error = world
        .kms
        .wrapper(&only_root, &undeclared)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UndeclaredPurpose);
}

#[tokio::test]
async fn reconciling_makes_what_is_missing_and_reports_a_scope_without_root_key() {
    let world = World::new().await;
    let (bare, full, missing) = (scope("bare"), scope("full"), scope("missing"));
    world.kms.create_keys(&bare, &[]).await.unwrap();
    world
        .kms
        .create_keys(&full, &[DATABASE, OIDC])
        .await
        .unwrap();
    let all = [bare.clone(), full.clone(), missing.clone()];
    let outcome = world
        .kms
        .reconcile_keys(Scopes::Only(&all), &[DATABASE, OIDC])
        .await
        .unwrap();
    assert_eq!(outcome.created, [(bare.clone(), vec![DATABASE, OIDC])]);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(outcome.failed[0].0, missing);
    assert_eq!(outcome.failed[0].1.kind(), ErrorKind::UnknownScope);
    world.encrypt(&bare, b"works").await;
    let again = world
        .kms
        .reconcile_keys(Scopes::All, &[DATABASE, OIDC])
        .await
        .unwrap();
    assert!(again.created.is_empty() && again.failed.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn two_creations_of_one_scope_one_wins_and_the_other_is_told() {
    let world = World::new().await;
    let other = world.another_process().await;
    let scope = scope("o_1");
    let purposes = [OIDC];
    let results = tokio::join!(
        world.kms.create_keys(&scope, &purposes),
        other.create_keys(&scope, &purposes),
    );
    let kinds: Vec<_> = [results.0, results.1]
        .into_iter()
        .filter_map(|result| Some(result.err()?.kind()))
        .collect();
    assert_eq!(kinds, [ErrorKind::AlreadyExists]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_rotations_all_succeed_and_number_consecutively() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let kms = world.another_process().await;
        let scope = scope.clone();
        tasks.spawn(async move { kms.rotate_keys(&scope, Rewrap::Yes).await });
    }
    while let Some(result) = tasks.join_next().await {
        result.unwrap().unwrap();
    }
    for key in world.kms.list_keys(&scope).await.unwrap() {
        let numbers: Vec<_> = key.versions.iter().map(|version| version.version).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }
}

#[tokio::test]
async fn a_decrypt_only_engine_decrypts_and_lists_and_changes_nothing() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let blob = world.encrypt(&scope, b"secret").await;
    let reader = world.builder().decrypt_only().build().await.unwrap();
    let plain = reader.decrypt(&scope, &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"secret");
    assert_eq!(reader.list_keys(&scope).await.unwrap().len(), 3);
    let wrapper = reader.wrapper(&scope, &OIDC).await.unwrap();
    let version: KeyVersionId = wrapper.key_version_id().clone().into();
    let root_key = reader.root_key_wrapper(&scope).await.unwrap();
    let campaign = kms_core::CampaignOptions::new("c");
    let kinds = [
        wrapper.encrypt(b"", b"").map(drop),
        reader.create_keys(&support::scope("o_2"), &[OIDC]).await,
        reader.rotate_keys(&scope, Rewrap::No).await,
        reader.rewrap_keys(&scope, RewrapKeys::All).await,
        reader.revoke_key_version(&version).await,
        reader.delete_keys(&scope).await,
        reader.reconcile_keys(Scopes::All, &[OIDC]).await.map(drop),
        reader.announce_restore().await,
        kms_core::Wrapper::encrypt(&root_key, b"", b"")
            .await
            .map(drop),
        reader.dangerous().revoke_key_version(&version).await,
        reader.dangerous().delete_keys(&scope).await,
        reader
            .prepare_rotate_keys(&scope, Rewrap::No)
            .await
            .map(drop),
        reader
            .rotate_all(&campaign, Rewrap::No, |_| {})
            .await
            .map(drop),
        reader
            .rewrap_all(&campaign, RewrapKeys::All, |_| {})
            .await
            .map(drop),
    ]
    .map(|result| result.unwrap_err().kind());
    assert_eq!(kinds, [ErrorKind::DecryptOnly; 14]);
}

#[tokio::test]
async fn without_a_root_wrapper_keys_are_listed_and_not_opened() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let blind = world.builder_without_root().build().await.unwrap();
    assert_eq!(blind.list_keys(&scope).await.unwrap().len(), 3);
    for error in [
        blind.wrapper(&scope, &OIDC).await.map(drop).unwrap_err(),
        blind
            .create_keys(&support::scope("o_2"), &[])
            .await
            .unwrap_err(),
        blind.rotate_keys(&scope, Rewrap::No).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NoRootWrapper);
    }
}

#[tokio::test]
async fn a_schema_of_another_version_is_refused_by_name() {
    let world = World::new().await;
    world.repository.set_schema_version("v0.0.1");
    let error = world.builder().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion);
    assert_eq!(error.context("expected"), Some("v0.0.2"));
    assert_eq!(error.context("found"), Some("v0.0.1"));
}

#[tokio::test]
async fn the_root_key_wrapper_opens_what_any_version_of_it_made() {
    use kms_core::Wrapper as _;
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let before = world.kms.root_key_wrapper(&scope).await.unwrap();
    let blob = before.encrypt(b"k", b"a").await.unwrap();
    world.kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    // Version 1 wraps nothing any more, and is unwrapped on demand.
    let after = world.kms.root_key_wrapper(&scope).await.unwrap();
    assert_ne!(before.key_id(), after.key_id());
    assert_eq!(after.decrypt(&blob, b"a").await.unwrap().expose(), b"k");
}

#[tokio::test]
async fn names_beyond_ascii_round_trip() {
    let world = World::new().await;
    let scope = ScopeId::new("日本 tenant ü").unwrap();
    world.kms.create_keys(&scope, &[OIDC]).await.unwrap();
    world.encrypt(&scope, b"x").await;
    assert_eq!(world.kms.scopes(None, 10).await.unwrap(), [scope]);
}

/// Request handlers run on any thread: what the engine's methods give must be `Send`.
#[test]
fn every_future_of_the_engine_can_move_between_threads() {
    fn send<T: Send>(_: T) {}
    fn check(kms: &Kms, scope: &ScopeId, id: &KeyVersionId, blob: &Blob) {
        send(kms.wrapper(scope, &OIDC));
        send(kms.decrypt(scope, &OIDC, blob, b""));
        send(kms.ensure(scope));
        send(kms.create_keys(scope, &[]));
        send(kms.rotate_keys(scope, Rewrap::Yes));
        send(kms.rewrap_keys(scope, RewrapKeys::All));
        send(kms.revoke_key_version(id));
        send(kms.delete_keys(scope));
        send(kms.reconcile_keys(Scopes::All, &[]));
        send(kms.census());
        let options = kms_core::CampaignOptions::new("c");
        send(kms.rotate_all(&options, Rewrap::Yes, |_| {}));
    }
    let _ = check;
}

#[tokio::test]
async fn a_receipt_is_not_to_be_had_for_what_the_database_did_not_number() {
    let world = World::with_scope("o_1").await;
    let prepared = world
        .kms
        .prepare_rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    let change = prepared.change_set();
    let numbers = |id: &str| {
        let root = change.insert.root_key_versions.iter();
        let data = change.insert.data_key_versions.iter();
        root.map(|new| (new.id.as_str(), new.version))
            .chain(data.map(|new| (new.id.as_str(), new.version)))
            .find(|(known, _)| *known == id)
            .map(|(_, number)| number)
    };
    let receipt = change.applied(numbers).unwrap();
    assert_eq!(receipt.scope(), &scope("o_1"));
    for assigned in [None, Some(1), Some(7)] {
        let error = change.applied(|_| assigned).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
    }
}
