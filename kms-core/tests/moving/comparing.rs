//! Both sides are compared key by key, not by what the rows say.

use kms_core::{Binding, ErrorKind};

use crate::support::{DATABASE, World, on, scope};
use crate::{Arc, MemoryRepository, OIDC, Target, tenant};

/// In a mode that reads unbound keys, two of them can change places: each opens, and is another key.
#[tokio::test]
async fn a_key_version_that_is_another_key_is_found_before_the_source_is_deleted() {
    let world = World::new().await;
    let unbound = world.builder().binding(Binding::GoCompatible);
    let unbound = unbound.build().await.unwrap();
    let id = scope("o_1");
    unbound.create_keys(&id, &[DATABASE, OIDC]).await.unwrap();
    let exported = unbound.export_scope(&id).await.unwrap();
    let repository = MemoryRepository::new();
    let target = on(Arc::new(repository.clone())).binding(Binding::GoCompatible);
    let target = target.root_wrapper(Arc::clone(&world.root));
    let target = target.build().await.unwrap();
    let _ = target.import_scope(&exported).await.unwrap();
    let _ = target.verify_import(&exported).await.unwrap();
    repository.tamper(|scopes| {
        let [one, other] = &mut scopes[0].data_keys[..] else {
            panic!("two data keys");
        };
        std::mem::swap(&mut one.versions[0].key, &mut other.versions[0].key);
    });
    target.ensure(&id).await.unwrap();
    let error = target.verify_import(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);
    assert!(error.context("key_version").unwrap().starts_with("kdkv_"));
}

#[tokio::test]
async fn a_key_that_does_not_open_where_it_is_now_keeps_the_source() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let target = Target::of(&world).await;
    let _ = target.kms.import_scope(&exported).await.unwrap();
    target
        .repository
        .tamper(|scopes| scopes[0].data_keys[0].versions[0].key[20] ^= 1);
    let error = target.kms.verify_import(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
}

#[tokio::test]
async fn an_engine_that_only_decrypts_exports_and_writes_nothing() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let reader = world.builder().decrypt_only().build().await.unwrap();
    let exported = reader.export_scope(&id).await.unwrap();
    assert_eq!(reader.export_scopes(None, 5).await.unwrap().len(), 1);
    let target = Target::of(&world).await;
    let _ = target.kms.import_scope(&exported).await.unwrap();
    let verified = target.kms.verify_import(&exported).await.unwrap();
    let page = [exported];
    for error in [
        reader.import_scope(&page[0]).await.unwrap_err(),
        reader.import_scopes(&page).await.unwrap_err(),
        reader.prepare_import_scope(&page[0]).await.unwrap_err(),
        reader.delete_exported(&verified).await.unwrap_err(),
        reader.rename_scope(&id, &scope("o_2")).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::DecryptOnly);
    }
}

#[tokio::test]
async fn pages_are_complete_and_without_duplicates() {
    let world = World::new().await;
    for number in 0..7 {
        let id = scope(&format!("o_{number}"));
        world.kms.create_keys(&id, &[]).await.unwrap();
    }
    let (mut after, mut all) = (None, Vec::new());
    loop {
        let page = world.kms.export_scopes(after.as_ref(), 2).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.scope().clone());
        all.extend(page.iter().map(|exported| exported.scope().clone()));
    }
    assert_eq!(all, world.kms.scopes(None, 100).await.unwrap());
    let unknown = world.kms.export_scope(&scope("o_9")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::UnknownScope);
}
