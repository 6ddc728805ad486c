//! Tenants move to another database, with every blob that they have.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "moving/comparing.rs"]
mod comparing;
#[path = "moving/meanwhile.rs"]
mod meanwhile;
#[path = "moving/renaming.rs"]
mod renaming;
mod support;

use std::sync::Arc;

use kms_core::{
    Binding, Blob, DataKeyVersionId, ErrorKind, ExportedScope, Imported, Kms, MemoryRepository,
    OnDelete, PooledWrapper, Referencer, Repository, Rewrap, RewrapKeys, ScopeId, Wrapper,
};
use kms_testkit::{CountingWrapper, Fault, InstrumentedRepository, RepositoryMethod, When};
use support::{OIDC, World, on, root, scope};

/// A database that tenants move to, whose engine has the same root.
struct Target {
    repository: MemoryRepository,
    root: Arc<CountingWrapper>,
    kms: Kms,
}

impl Target {
    async fn of(world: &World) -> Self {
        Self::under(Arc::clone(&world.root)).await
    }

    async fn under(root: Arc<dyn Wrapper>) -> Self {
        let repository = MemoryRepository::new();
        let root = Arc::new(CountingWrapper::new(root));
        let builder = on(Arc::new(repository.clone())).root_wrapper(Arc::clone(&root) as _);
        let kms = builder.build().await.unwrap();
        // Building it made a check blob, which is not what is counted.
        let _ = root.take();
        Self {
            repository,
            root,
            kms,
        }
    }

    /// Calls to encrypt and to decrypt since the last call of this.
    fn calls(&self) -> (u64, u64) {
        let calls = self.root.take();
        (calls.encrypt, calls.decrypt)
    }
}

/// A tenant with three versions of each key but one that was revoked, and a blob of each.
async fn tenant(world: &World, id: &str) -> (ScopeId, Vec<Blob>) {
    let id = scope(id);
    let mut blobs = Vec::new();
    for (number, rewrap) in [(1, Rewrap::No), (2, Rewrap::No), (3, Rewrap::No)] {
        match number {
            1 => world.kms.create_keys(&id, &[OIDC]).await.unwrap(),
            _ => world.kms.rotate_keys(&id, rewrap).await.unwrap(),
        }
        blobs.push(world.encrypt(&id, id.as_str().as_bytes()).await);
    }
    let revoked = DataKeyVersionId::parse(blobs.remove(1).key_id()).unwrap();
    let dangerous = world.kms.dangerous();
    dangerous.revoke_key_version(&revoked.into()).await.unwrap();
    (id, blobs)
}

async fn assert_opens(kms: &Kms, id: &ScopeId, blobs: &[Blob]) {
    for blob in blobs {
        let plaintext = kms.decrypt(id, &OIDC, blob, b"").await.unwrap();
        assert_eq!(plaintext.expose(), id.as_str().as_bytes());
    }
}

async fn is_there(repository: &MemoryRepository, id: &ScopeId) -> bool {
    let found = repository.load(std::slice::from_ref(id)).await.unwrap();
    !found.scopes.is_empty()
}

#[tokio::test]
async fn every_blob_opens_where_a_tenant_was_moved() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let target = Target::of(&world).await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let imported = target.kms.import_scope(&exported).await.unwrap();
    assert_eq!(imported, Imported::Created);
    assert_opens(&target.kms, &id, &blobs).await;
    let numbers = |keys: &[kms_core::Key]| -> Vec<i64> {
        keys[1].versions.iter().map(|row| row.version).collect()
    };
    let keys = target.kms.list_keys(&id).await.unwrap();
    assert_eq!(numbers(&world.kms.list_keys(&id).await.unwrap()), [1, 3]);
    assert_eq!(numbers(&keys), [1, 2]);
    assert_eq!(keys[1].versions[1].id.as_str(), blobs[1].key_id());
    // What is encrypted there opens there, and goes on doing so.
    target.kms.rotate_keys(&id, Rewrap::Yes).await.unwrap();
    assert_opens(&target.kms, &id, &blobs).await;
}

#[tokio::test]
async fn an_export_is_written_as_json_and_read_back_without_showing_a_key() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let line = serde_json::to_string(&exported).unwrap();
    assert!(line.starts_with(r#"{"format":"kms-scope-v1","scope":"o_1","root_key":"krk_"#));
    assert!(!line.contains('\n'));
    let read: ExportedScope = serde_json::from_str(&line).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), line);

    let target = Target::of(&world).await;
    let _ = target.kms.import_scope(&read).await.unwrap();
    assert_opens(&target.kms, &id, &blobs).await;
    let verified = target.kms.verify_import(&read).await.unwrap();
    world.kms.delete_exported(&verified).await.unwrap();

    let rows = target.repository.load(&[id]).await.unwrap();
    let key = format!("{:?}", rows.scopes[0].root_key_versions[0].key);
    for shown in [format!("{read:?}"), format!("{verified:?}")] {
        assert!(shown.contains("o_1") && shown.len() < 200, "{shown}");
        assert!(!shown.contains(&key[..20]), "{shown}");
    }
}

#[tokio::test]
async fn what_is_no_export_of_this_version_is_refused() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let line = serde_json::to_string(&world.kms.export_scope(&id).await.unwrap()).unwrap();
    for (good, bad) in [
        ("kms-scope-v1", "kms-scope-v2"),
        (r#""scope":"o_1""#, r#""scope":" ""#),
        (r#""purpose":"oidc""#, r#""purpose":"rootKey""#),
        (r#""id":"krkv_"#, r#""id":"krkv"#),
        (r#""key":""#, r#""key":"*"#),
        (r#""data_keys""#, r#""more":1,"data_keys""#),
    ] {
        assert!(line.contains(good));
        let bad = line.replacen(good, bad, 1);
        assert!(
            serde_json::from_str::<ExportedScope>(&bad).is_err(),
            "{bad}"
        );
    }
}

#[tokio::test]
async fn an_export_opens_for_no_other_tenant() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let line = serde_json::to_string(&world.kms.export_scope(&id).await.unwrap()).unwrap();
    let target = Target::of(&world).await;
    let forged = line.replace(r#""scope":"o_1""#, r#""scope":"o_2""#);
    let forged: ExportedScope = serde_json::from_str(&forged).unwrap();
    let error = target.kms.import_scope(&forged).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    assert_eq!(error.context("scope"), Some("o_2"));
    assert!(!is_there(&target.repository, &scope("o_2")).await);
}

#[tokio::test]
async fn a_database_under_another_root_takes_tenants_by_a_pool() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let staging = root("staging");
    let alone = Target::under(Arc::clone(&staging)).await;
    let error = alone.kms.import_scope(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
    assert!(!is_there(&alone.repository, &id).await);

    let pool = PooledWrapper::new(Arc::clone(&staging));
    let pool = pool.with_decrypting(Arc::clone(&world.root)).unwrap();
    let target = Target::under(Arc::new(pool)).await;
    let _ = target.kms.import_scope(&exported).await.unwrap();
    let without = on(Arc::new(target.repository.clone())).root_wrapper(staging);
    assert_opens(&without.build().await.unwrap(), &id, &blobs).await;
}

#[tokio::test]
async fn an_import_takes_one_call_each_way_for_each_root_key_version() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let target = Target::of(&world).await;
    let _ = target.kms.import_scope(&exported).await.unwrap();
    assert_eq!(target.calls(), (3, 3));
    let _ = target.kms.verify_import(&exported).await.unwrap();
    assert_eq!(target.calls(), (0, 6));
}

#[tokio::test]
async fn a_second_run_finds_what_the_first_one_did_and_calls_no_root_wrapper() {
    let world = World::new().await;
    let mut tenants = Vec::new();
    for number in 0..7 {
        tenants.push(tenant(&world, &format!("o_{number}")).await);
    }
    let target = Target::of(&world).await;
    let run = async |most_pages: usize| {
        let (mut created, mut already_here, mut after) = (0, 0, None);
        for _ in 0..most_pages {
            let page = world.kms.export_scopes(after.as_ref(), 3).await.unwrap();
            let Some(last) = page.last() else { break };
            let report = target.kms.import_scopes(&page).await.unwrap();
            assert!(report.failed.is_empty());
            created += report.created.len();
            already_here += report.already_here.len();
            after = Some(last.scope().clone());
        }
        (created, already_here)
    };
    assert_eq!(run(1).await, (3, 0));
    assert_eq!(run(10).await, (4, 3));
    target.calls();
    // It went on over there.
    target
        .kms
        .rotate_keys(&tenants[0].0, Rewrap::Yes)
        .await
        .unwrap();
    target.calls();
    assert_eq!(run(10).await, (0, 7));
    assert_eq!(target.calls(), (0, 0));
    for (id, blobs) in tenants {
        assert_opens(&target.kms, &id, &blobs).await;
    }
}

#[tokio::test]
async fn other_keys_of_the_same_tenant_are_no_import() {
    let world = World::new().await;
    let (id, _) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let other = Target::of(&world).await;
    other.kms.create_keys(&id, &[OIDC]).await.unwrap();
    let before = other.kms.list_keys(&id).await.unwrap();
    let report = other.kms.import_scopes(std::slice::from_ref(&exported));
    let failed = report.await.unwrap().failed;
    assert_eq!(failed[0].1.kind(), ErrorKind::ImportMismatch);
    let error = other.kms.import_scope(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);
    assert_eq!(error.context("scope"), Some("o_1"));
    assert_eq!(other.kms.list_keys(&id).await.unwrap(), before);

    // Rotated where it came from, after it was imported.
    let target = Target::of(&world).await;
    let _ = target.kms.import_scope(&exported).await.unwrap();
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let again = world.kms.export_scope(&id).await.unwrap();
    let newest = world.kms.list_keys(&id).await.unwrap()[0].versions[3]
        .id
        .clone();
    for error in [
        target.kms.import_scope(&again).await.unwrap_err(),
        target.kms.verify_import(&again).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::ImportMismatch);
        assert_eq!(error.context("key_version"), Some(newest.as_str()));
    }

    // Renamed where it is now.
    target.kms.rename_scope(&id, &scope("o_new")).await.unwrap();
    let error = target.kms.import_scope(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);
    assert_eq!(error.context("other_scope"), Some("o_new"));
    assert!(!is_there(&target.repository, &id).await);
}

#[tokio::test]
async fn one_that_fails_does_not_stop_the_others_of_its_page() {
    let world = World::new().await;
    for id in ["o_1", "o_2", "o_3"] {
        let _ = tenant(&world, id).await;
    }
    world.repository.tamper(|scopes| {
        scopes[1].data_keys[0].versions[0].key[20] ^= 1;
    });
    let target = Target::of(&world).await;
    let page = world.kms.export_scopes(None, 10).await.unwrap();
    let report = target.kms.import_scopes(&page).await.unwrap();
    assert_eq!(report.created, [scope("o_1"), scope("o_3")]);
    let [(failed, error)] = &report.failed[..] else {
        panic!("one failed: {report:?}");
    };
    assert_eq!(
        (failed, error.kind()),
        (&scope("o_2"), ErrorKind::TamperedKey)
    );
    assert!(!is_there(&target.repository, failed).await);
}

#[tokio::test]
async fn a_page_whose_commit_was_not_answered_is_found_to_be_here() {
    let world = World::new().await;
    for id in ["o_1", "o_2"] {
        let _ = tenant(&world, id).await;
    }
    let page = world.kms.export_scopes(None, 10).await.unwrap();
    let lost = || kms_core::Error::new(ErrorKind::OutcomeUnknown);
    for (fault, here) in [
        (Fault::FailAfter(lost()), 2),
        (Fault::FailBefore(lost()), 0),
    ] {
        let repository = Arc::new(InstrumentedRepository::new(Arc::new(
            MemoryRepository::new(),
        )));
        let builder = on(Arc::clone(&repository) as _).root_wrapper(Arc::clone(&world.root));
        let kms = builder.build().await.unwrap();
        repository.inject(RepositoryMethod::Apply, When::Next, fault);
        let report = kms.import_scopes(&page).await.unwrap();
        assert_eq!(report.already_here.len(), here);
        assert_eq!(report.created.len(), 2 - here);
        assert!(report.failed.is_empty());
    }
}

#[tokio::test]
async fn of_two_imports_at_once_one_finds_the_other_s() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    let target = Target::of(&world).await;
    let builder = on(Arc::new(target.repository.clone())).root_wrapper(Arc::clone(&world.root));
    let another = builder.build().await.unwrap();
    let (one, other) = tokio::join!(
        target.kms.import_scope(&exported),
        another.import_scope(&exported)
    );
    let mut results = [one.unwrap(), other.unwrap()];
    results.sort_by_key(|result| *result == Imported::AlreadyHere);
    assert_eq!(results, [Imported::Created, Imported::AlreadyHere]);
    assert_opens(&another, &id, &blobs).await;
}

#[tokio::test]
async fn a_tenant_is_deleted_only_as_it_was_verified_elsewhere() {
    let world = World::new().await;
    world.repository.declare_referencer(Referencer {
        schema: None,
        table: "client".into(),
        column: "key_version_id".into(),
        on_delete: OnDelete::Restrict,
    });
    let (id, blobs) = tenant(&world, "o_1").await;
    let target = Target::of(&world).await;
    let first = world.kms.export_scope(&id).await.unwrap();
    // Where it comes from it is no import, and elsewhere neither before there was one.
    let error = world.kms.verify_import(&first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);
    let error = target.kms.verify_import(&first).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);

    let _ = target.kms.import_scope(&first).await.unwrap();
    let verified = target.kms.verify_import(&first).await.unwrap();
    world.kms.rewrap_keys(&id, RewrapKeys::All).await.unwrap();
    let error = world.kms.delete_exported(&verified).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);

    let second = world.kms.export_scope(&id).await.unwrap();
    let verified = target.kms.verify_import(&second).await.unwrap();
    let used = DataKeyVersionId::parse(blobs[0].key_id()).unwrap();
    world.repository.reference(&used, "client").unwrap();
    let error = world.kms.delete_exported(&verified).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_opens(&world.kms, &id, &blobs).await;

    assert!(world.repository.release(&used, "client"));
    world.kms.delete_exported(&verified).await.unwrap();
    let error = world.kms.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    // Whoever was stopped in between does it again.
    world.kms.delete_exported(&verified).await.unwrap();
    assert_opens(&target.kms, &id, &blobs).await;
}

#[tokio::test]
async fn unbound_keys_are_not_made_bound_by_an_import() {
    let world = World::new().await;
    let unbound = world.builder().binding(Binding::GoCompatible);
    let unbound = unbound.build().await.unwrap();
    let id = scope("o_1");
    unbound.create_keys(&id, &[OIDC]).await.unwrap();
    let wrapper = unbound.wrapper(&id, &OIDC).await.unwrap();
    let blobs = [wrapper.encrypt(b"o_1", b"").unwrap()];
    let exported = unbound.export_scope(&id).await.unwrap();
    for binding in [Binding::Required, Binding::Migrating] {
        let target = on(Arc::new(MemoryRepository::new())).binding(binding);
        let target = target.root_wrapper(Arc::clone(&world.root));
        let target = target.build().await.unwrap();
        let error = target.import_scope(&exported).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnboundKey);
    }
    let target = on(Arc::new(MemoryRepository::new())).binding(Binding::GoCompatible);
    let target = target.root_wrapper(Arc::clone(&world.root));
    let target = target.build().await.unwrap();
    let _ = target.import_scope(&exported).await.unwrap();
    assert_opens(&target, &id, &blobs).await;
    let _ = target.verify_import(&exported).await.unwrap();
}
