//! Wrapped keys stay in their rows.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_core::{
    Binding, Blob, CampaignOptions, ErrorKind, Kms, PooledWrapper, Rewrap, RewrapKeys, ScopeId,
    ScopeRows, Wrapper,
};
use support::{OIDC, World, scope};

/// Two scopes whose keys were made in this mode.
async fn world_in(binding: Binding) -> (World, Kms) {
    let world = World::new().await;
    let kms = world.builder().binding(binding).build().await.unwrap();
    for id in ["o_1", "o_2"] {
        kms.create_keys(&scope(id), &[support::DATABASE, OIDC])
            .await
            .unwrap();
    }
    (world, kms)
}

/// What the newest data key version of `o_1` says when a fresh process opens it after this edit.
async fn after_tampering(
    binding: Binding,
    edit: impl FnOnce(&mut Vec<ScopeRows>),
) -> Result<(), ErrorKind> {
    let (world, kms) = world_in(binding).await;
    kms.rotate_keys(&scope("o_1"), Rewrap::No).await.unwrap();
    world.repository.tamper(edit);
    let fresh = world.builder().binding(binding).build().await.unwrap();
    match fresh.wrapper(&scope("o_1"), &OIDC).await {
        Ok(wrapper) => wrapper.encrypt(b"x", b"").map(drop),
        Err(error) => Err(error),
    }
    .map_err(|error| error.kind())
}

fn rows<'a>(scopes: &'a mut [ScopeRows], id: &str) -> &'a mut ScopeRows {
    scopes
        .iter_mut()
        .find(|rows| rows.scope == scope(id))
        .unwrap()
}

fn oidc(rows: &mut ScopeRows) -> &mut kms_core::DataKeyRow {
    rows.data_keys
        .iter_mut()
        .find(|key| key.purpose == OIDC)
        .unwrap()
}

#[tokio::test]
async fn invariant_05_a_wrapped_data_key_moved_to_another_row_does_not_open() {
    // Between purposes, between scopes, between versions: in either direction nothing opens.
    let between_purposes = |scopes: &mut Vec<ScopeRows>| {
        let rows = rows(scopes, "o_1");
        let other = rows
            .data_keys
            .iter()
            .find(|key| key.purpose != OIDC)
            .unwrap();
        let key = other.versions[1].key.clone();
        oidc(rows).versions[1].key = key;
    };
    let between_versions = |scopes: &mut Vec<ScopeRows>| {
        let versions = &mut oidc(rows(scopes, "o_1")).versions;
        versions[1].key = versions[0].key.clone();
        versions[1].root_key_version = versions[0].root_key_version.clone();
    };
    let between_scopes = |scopes: &mut Vec<ScopeRows>| {
        let key = oidc(rows(scopes, "o_2")).versions[0].key.clone();
        oidc(rows(scopes, "o_1")).versions[1].key = key;
    };
    assert_eq!(after_tampering(Binding::Required, |_| {}).await, Ok(()));
    assert_eq!(
        after_tampering(Binding::Required, between_purposes).await,
        Err(ErrorKind::TamperedKey)
    );
    assert_eq!(
        after_tampering(Binding::Required, between_versions).await,
        Err(ErrorKind::TamperedKey)
    );
    assert_eq!(
        after_tampering(Binding::Required, between_scopes).await,
        Err(ErrorKind::TamperedKey)
    );
    // What binding is for: without it the first two are accepted.
    assert_eq!(
        after_tampering(Binding::GoCompatible, between_purposes).await,
        Ok(())
    );
    assert_eq!(
        after_tampering(Binding::GoCompatible, between_versions).await,
        Ok(())
    );
}

#[tokio::test]
async fn invariant_05_a_wrapped_root_key_moved_to_another_scope_does_not_open() {
    let moved = |scopes: &mut Vec<ScopeRows>| {
        let key = rows(scopes, "o_2").root_key_versions[0].key.clone();
        rows(scopes, "o_1").root_key_versions[1].key = key;
    };
    assert_eq!(
        after_tampering(Binding::Required, moved).await,
        Err(ErrorKind::TamperedKey)
    );
}

#[tokio::test]
async fn invariant_05_an_old_version_renumbered_as_newest_does_not_open() {
    let renumbered = |scopes: &mut Vec<ScopeRows>| {
        let versions = &mut oidc(rows(scopes, "o_1")).versions;
        versions[0].version = 3;
        versions.sort_by_key(|version| version.version);
    };
    assert_eq!(
        after_tampering(Binding::Required, renumbered).await,
        Err(ErrorKind::TamperedKey)
    );
    assert_eq!(
        after_tampering(Binding::GoCompatible, renumbered).await,
        Ok(())
    );
}

#[tokio::test]
async fn invariant_05_an_old_root_key_version_renumbered_as_newest_does_not_open() {
    let (world, kms) = world_in(Binding::Required).await;
    let id = scope("o_1");
    kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    world.repository.tamper(|scopes| {
        let versions = &mut rows(scopes, "o_1").root_key_versions;
        versions[0].version = 3;
        versions.sort_by_key(|version| version.version);
        rows(scopes, "o_1").data_keys.remove(0);
    });
    let fresh = world.builder().build().await.unwrap();
    let root_key = fresh.root_key_wrapper(&id).await.unwrap();
    let error = Wrapper::encrypt(&root_key, b"k", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    let missing = [support::DATABASE];
    let error = fresh
        .prepare_reconcile_keys(&id, &missing)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
}

#[tokio::test]
async fn invariant_05_a_data_key_version_wrapped_by_another_scopes_root_key_fails_alone_as_tampered_with()
 {
    for binding in [Binding::Required, Binding::Migrating, Binding::GoCompatible] {
        let (world, _) = world_in(binding).await;
        world.repository.tamper(|scopes| {
            let foreign = rows(scopes, "o_2").root_key_versions[0].id.clone();
            oidc(rows(scopes, "o_1")).versions[0].root_key_version = foreign;
        });
        let fresh = world.builder().binding(binding).build().await.unwrap();
        let error = fresh.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TamperedKey);
        let other = fresh
            .wrapper(&scope("o_1"), &support::DATABASE)
            .await
            .unwrap();
        other.encrypt(b"fine", b"").unwrap();
    }
}

#[tokio::test]
async fn any_flipped_bit_and_any_truncation_of_a_wrapped_key_is_an_error_of_that_key_alone() {
    let (world, kms) = world_in(Binding::Required).await;
    let original = world.repository_rows(&scope("o_1")).await.data_keys[1].versions[0]
        .key
        .clone();
    for position in 0..original.len() {
        let mut damaged = original.clone();
        damaged[position] ^= 1;
        // The mark of a bound key is a hint: losing it makes the key unbound in name only.
        let set = |key: Vec<u8>| {
            world.repository.tamper(|scopes| {
                rows(scopes, "o_1").data_keys[1].versions[0].key = key;
            });
        };
        for key in [damaged, original[..position].to_vec()] {
            set(key);
            let rows = world.repository_rows(&scope("o_1")).await;
            let ring = kms.open(&rows).await;
            ring.wrapper(&support::DATABASE).unwrap();
            match ring.wrapper(&OIDC) {
                Err(error) => assert!(
                    [ErrorKind::TamperedKey, ErrorKind::UnboundKey].contains(&error.kind()),
                    "{error}"
                ),
                // After the ciphertext: the key id in the blob and the mark, on which nothing depends.
                Ok(_) => assert!(position >= 62, "byte {position}"),
            }
        }
        set(original.clone());
    }
}

#[tokio::test]
async fn an_unbound_key_is_refused_where_binding_is_required_and_says_what_to_do() {
    let (world, _) = world_in(Binding::GoCompatible).await;
    let strict = world.builder().build().await.unwrap();
    let error = strict.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnboundKey);
    assert!(error.to_string().contains("Migrating"), "{error}");
}

#[tokio::test]
async fn migrating_reads_both_and_rewrapping_binds() {
    let (world, go) = world_in(Binding::GoCompatible).await;
    let blob = go
        .wrapper(&scope("o_1"), &OIDC)
        .await
        .unwrap()
        .encrypt(b"from before", b"")
        .unwrap();
    let migrating = world
        .builder()
        .binding(Binding::Migrating)
        .build()
        .await
        .unwrap();
    assert_eq!(migrating.census().await.unwrap().unbound, 6);
    let options = CampaignOptions::new("bind");
    let outcome = migrating
        .rewrap_all(&options, RewrapKeys::All, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (2, 0));
    assert_eq!(migrating.census().await.unwrap().unbound, 0);
    let strict = world.builder().build().await.unwrap();
    let plain = strict
        .decrypt(&scope("o_1"), &OIDC, &blob, b"")
        .await
        .unwrap();
    assert_eq!(plain.expose(), b"from before");
}

#[tokio::test]
async fn a_copied_key_is_not_bound_into_its_second_place() {
    // Within a scope: told by the key itself.
    let (world, _) = world_in(Binding::GoCompatible).await;
    world.repository.tamper(|scopes| {
        let data_keys = &mut rows(scopes, "o_1").data_keys;
        data_keys[1].versions[0].key = data_keys[0].versions[0].key.clone();
    });
    let migrating = world
        .builder()
        .binding(Binding::Migrating)
        .build()
        .await
        .unwrap();
    let rewrap = async |id: &str| migrating.rewrap_keys(&scope(id), RewrapKeys::All).await;
    assert_eq!(
        rewrap("o_1").await.unwrap_err().kind(),
        ErrorKind::DuplicateKey
    );
    rewrap("o_2").await.unwrap();
}

#[tokio::test]
async fn a_replayed_root_key_is_not_bound_into_its_second_place_by_moving_to_another_root() {
    let (world, go) = world_in(Binding::GoCompatible).await;
    let id = scope("o_1");
    go.rotate_keys(&id, Rewrap::No).await.unwrap();
    let kept = world.repository_rows(&id).await.root_key_versions[1]
        .key
        .clone();
    let pool = PooledWrapper::new(support::root("new"))
        .with_decrypting(std::sync::Arc::clone(&world.root))
        .unwrap();
    let moved = |binding| {
        let pool = std::sync::Arc::new(pool.clone());
        world.builder().binding(binding).root_wrapper(pool).build()
    };
    // Everything is under the new root, when version 2 as it was under the old one is put in the place of
    // version 1.
    let unbound = moved(Binding::GoCompatible).await.unwrap();
    unbound
        .rewrap_keys(&id, RewrapKeys::ForeignRoot)
        .await
        .unwrap();
    world
        .repository
        .tamper(|scopes| rows(scopes, "o_1").root_key_versions[0].key = kept);
    let migrating = moved(Binding::Migrating).await.unwrap();
    let error = migrating
        .rewrap_keys(&id, RewrapKeys::ForeignRoot)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DuplicateKey);
}

#[tokio::test]
async fn a_key_copied_from_another_scope_is_found_however_its_blob_was_dressed_up() {
    for dress_up in [
        // As it was; with the mark of a bound key; with a field that nobody knows.
        |key: Vec<u8>| key,
        |key: Vec<u8>| Blob::decode(&key).unwrap().marked_bound().encode(),
        |mut key: Vec<u8>| {
            key.extend([0xfa, 0x07, 1, 0]);
            key
        },
    ] {
        let (world, _) = world_in(Binding::GoCompatible).await;
        world.repository.tamper(|scopes| {
            let key = rows(scopes, "o_2").root_key_versions[0].key.clone();
            rows(scopes, "o_1").root_key_versions[0].key = dress_up(key);
            // What is wrapped by it comes along.
            let keys: Vec<_> = rows(scopes, "o_2")
                .data_keys
                .iter()
                .map(|key| key.versions[0].key.clone())
                .collect();
            for (data_key, key) in rows(scopes, "o_1").data_keys.iter_mut().zip(keys) {
                data_key.versions[0].key = dress_up(key);
            }
        });
        let migrating = world
            .builder()
            .binding(Binding::Migrating)
            .build()
            .await
            .unwrap();
        // It does open: that is what this mode can't tell.
        migrating.wrapper(&scope("o_1"), &OIDC).await.unwrap();
        let error = migrating
            .rewrap_keys(&scope("o_1"), RewrapKeys::All)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        let error = migrating
            .rotate_keys(&scope("o_1"), Rewrap::Yes)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        let options = CampaignOptions::new("bind");
        let outcome = migrating
            .rewrap_all(&options, RewrapKeys::All, |_| {})
            .await
            .unwrap();
        let outcome = outcome.report().unwrap();
        let failed: Vec<_> = outcome
            .failures
            .iter()
            .map(|f| (f.scope.clone(), f.kind.as_str()))
            .collect();
        assert_eq!(
            failed,
            [
                (scope("o_1"), "DuplicateKey"),
                (scope("o_2"), "DuplicateKey")
            ]
        );
    }
}

#[tokio::test]
async fn invariant_04_a_version_that_does_not_open_fails_alone_and_encryption_never_falls_back() {
    let (world, kms) = world_in(Binding::Required).await;
    let id: ScopeId = scope("o_1");
    let old = kms
        .wrapper(&id, &OIDC)
        .await
        .unwrap()
        .encrypt(b"old", b"")
        .unwrap();
    kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let new = kms
        .wrapper(&id, &OIDC)
        .await
        .unwrap()
        .encrypt(b"new", b"")
        .unwrap();
    world.repository.tamper(|scopes| {
        let key = &mut oidc(rows(scopes, "o_1")).versions[1].key;
        let middle = key.len() / 2;
        key[middle] ^= 1;
    });
    let fresh = world.builder().build().await.unwrap();
    let wrapper = fresh.wrapper(&id, &OIDC).await.unwrap();
    assert_eq!(wrapper.decrypt(&old, b"").unwrap().expose(), b"old");
    let error = wrapper.decrypt(&new, b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    assert_eq!(error.context("key_version"), Some(new.key_id()));
    let error = wrapper.encrypt(b"x", b"").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    let ring = fresh.ensure(&id).await.unwrap();
    let failures: Vec<_> = ring.failures().map(|(id, _)| id.to_string()).collect();
    assert_eq!(failures, [new.key_id()]);
}
