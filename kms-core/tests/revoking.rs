//! What may be destroyed: what nothing needs, as far as that is proven.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use kms_core::{ErrorKind, KeyVersionId, OnDelete, Referencer, Rewrap, RewrapKeys};
use support::{OIDC, World, scope};

#[tokio::test]
async fn invariant_04_a_version_in_use_or_newest_is_not_revoked_and_a_free_one_is() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let blob = world.encrypt(&scope, b"old").await;
    let first = world.wrapper(&scope).await.key_version_id().clone();
    let revoke = async |id: &KeyVersionId| world.kms.revoke_key_version(id).await;

    let error = revoke(&first.clone().into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewestVersion);
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let error = revoke(&first.clone().into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UseNotProven);

    world
        .repository
        .declare_referencer(client_table(OnDelete::NoAction));
    world.repository.reference(&first, "oidc_client").unwrap();
    let error = revoke(&first.clone().into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(error.context("table").unwrap().contains("oidc_client"));
    assert!(world.repository.release(&first, "oidc_client"));

    let root_versions: Vec<_> = world.kms.list_keys(&scope).await.unwrap()[0]
        .versions
        .iter()
        .map(|version| version.id.clone())
        .collect();
    let error = revoke(&root_versions[0]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    let error = revoke(&root_versions[1]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewestVersion);

    revoke(&first.clone().into()).await.unwrap();
    let error = world
        .kms
        .decrypt(&scope, &OIDC, &blob, b"")
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
    let error = revoke(&first.into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);

    world
        .kms
        .rewrap_keys(&scope, RewrapKeys::All)
        .await
        .unwrap();
    revoke(&root_versions[0]).await.unwrap();
    assert_eq!(
        world.kms.list_keys(&scope).await.unwrap()[0].versions.len(),
        1
    );
}

#[tokio::test]
async fn invariant_04_the_dangerous_forms_skip_the_proof_and_nothing_else() {
    let world = World::with_scope("o_1").await;
    let scope = scope("o_1");
    let first = world.wrapper(&scope).await.key_version_id().clone();
    let dangerous = world.kms.dangerous();
    let error = dangerous
        .revoke_key_version(&first.clone().into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NewestVersion);
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    dangerous.revoke_key_version(&first.into()).await.unwrap();
    let error = world.kms.delete_keys(&scope).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UseNotProven);
    dangerous.delete_keys(&scope).await.unwrap();
    let error = world.kms.wrapper(&scope, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
}

fn client_table(on_delete: OnDelete) -> Referencer {
    Referencer {
        schema: None,
        table: "oidc_client".into(),
        column: "key_version_id".into(),
        on_delete,
    }
}
