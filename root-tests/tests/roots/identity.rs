//! A label is not a key: other keys whose blobs look alike, and versions within one key.

use std::sync::Arc;

use kms_kit::prelude::*;
use kms_kit::vault::{Auth, TransitWrapper};
use kms_kit::{CampaignOptions, ErrorKind, PooledWrapper, Result};
use kms_testkit::service::{Vault, VaultProcess};

use crate::root::{Root, impatient};
use crate::support::{Database, OIDC};

/// The two roots that tell versions of their keys.
mod a_version_that_wraps_keys_is_counted_until_it_was_rewrapped {
    use crate::root::Kind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn gcp_on_postgres() {
        super::versions(Kind::Gcp).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn vault_on_postgres() {
        super::versions(Kind::Vault).await;
    }
}

fn wrapper(vault: &Vault, mount: &str) -> Arc<dyn Wrapper> {
    let builder = TransitWrapper::builder()
        .address(vault.url())
        .auth(Auth::token(vault.token()))
        .mount_path(mount)
        .key_name("root")
        .key_id_prefix("main-")
        .limits(impatient());
    Arc::new(builder.build().unwrap())
}

async fn engine(database: &Database, root: &Arc<dyn Wrapper>) -> Result<Kms> {
    kms_kit::builder(database.repository())
        .root_wrapper(Arc::clone(root))
        .purposes([OIDC])
        .freshness(Freshness::Always)
        .build()
        .await
}

fn pool(encrypting: &Arc<dyn Wrapper>, decrypting: &Arc<dyn Wrapper>) -> Arc<dyn Wrapper> {
    let pool = PooledWrapper::new(Arc::clone(encrypting));
    Arc::new(pool.with_decrypting(Arc::clone(decrypting)).unwrap())
}

fn scopes(database: &Database) -> [ScopeId; 3] {
    ["o_1", "o_2", "o_3"].map(|id| {
        database.execute(&format!("insert into organization (id) values ('{id}')"));
        ScopeId::new(id).unwrap()
    })
}

/// What the scopes encrypted opens, by this engine.
async fn assert_opens(kms: &Kms, written: &[(ScopeId, Blob)]) {
    for (scope, blob) in written {
        let plain = kms.decrypt(scope, &OIDC, blob, b"").await.unwrap();
        assert_eq!(plain.expose(), scope.as_str().as_bytes());
    }
}

async fn written(kms: &Kms, scopes: &[ScopeId]) -> Vec<(ScopeId, Blob)> {
    let mut written = Vec::new();
    for scope in scopes {
        kms.create_keys(scope, &[OIDC]).await.unwrap();
        let wrapper = kms.wrapper(scope, &OIDC).await.unwrap();
        let blob = wrapper.encrypt(scope.as_str().as_bytes(), b"").unwrap();
        written.push((scope.clone(), blob));
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fleet_moves_between_two_vaults_whose_keys_have_one_prefix_on_postgres() {
    let (Some(database), Some(shared)) = (Database::postgres(), Vault::shared()) else {
        return;
    };
    let Some(mut own) = VaultProcess::start_own().await else {
        return;
    };
    let old_mount = own.vault().transit().await;
    own.vault().create_key(&old_mount, "root").await;
    let new_mount = shared.transit().await;
    shared.create_key(&new_mount, "root").await;
    let old = || wrapper(own.vault(), &old_mount);
    let new = wrapper(&shared, &new_mount);

    let scopes = scopes(&database);
    let step_0 = engine(&database, &old()).await.unwrap();
    let written = written(&step_0, &scopes).await;

    let step_1 = engine(&database, &pool(&old(), &new)).await.unwrap();
    let step_2 = engine(&database, &pool(&new, &old())).await.unwrap();
    step_2.rotate_keys(&scopes[0], Rewrap::No).await.unwrap();
    for kms in [&step_1, &step_2] {
        assert_opens(kms, &written).await;
    }
    let census = step_2.census().await.unwrap();
    assert_eq!((census.not_current, census.unknown), (4, 4));

    let options = CampaignOptions::default();
    let outcome = step_2.rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {});
    let outcome = outcome.await.unwrap();
    let report = outcome.report().unwrap();
    assert_eq!((report.done, report.failures.len()), (3, 0));
    let census = step_2.census().await.unwrap();
    assert_eq!(
        (census.not_current, census.unknown),
        (4, 4),
        "it can't tell"
    );

    let left_behind = old();
    own.stop();
    let step_4 = engine(&database, &new).await.unwrap();
    step_4.preflight().await.unwrap();
    assert_opens(&step_4, &written).await;
    assert_eq!(step_4.census().await.unwrap().not_current, 0);
    // Who was forgotten with the old root, whose blobs look the same, wraps nothing with it.
    own.start().await;
    own.unseal().await;
    let error = engine(&database, &left_behind).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_vault_that_was_deleted_and_made_again_is_refused_on_postgres() {
    let (Some(database), Some(vault)) = (Database::postgres(), Vault::shared()) else {
        return;
    };
    let mount = vault.transit().await;
    vault.create_key(&mount, "root").await;
    let root = wrapper(&vault, &mount);
    let kms = engine(&database, &root).await.unwrap();
    let scopes = scopes(&database);
    written(&kms, &scopes[..2]).await;
    let before = database.dump();

    vault.delete_key(&mount, "root").await;
    vault.create_key(&mount, "root").await;
    root.preflight().await.expect("the service is content");
    let error = engine(&database, &root).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
    assert_eq!(error.context("root_key_id"), Some("main-v1"));
    let later = kms_kit::builder(database.repository())
        .root_wrapper(root)
        .purposes([OIDC])
        .root_checked_later();
    let later = later.build().await.unwrap();
    let error = later.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey);
    let options = CampaignOptions::default();
    let rotated = later.rotate_all(&options, Rewrap::No, |_| {}).await;
    assert_eq!(rotated.unwrap_err().kind(), ErrorKind::WrongRootKey);
    let created = later.create_keys(&scopes[2], &[OIDC]).await;
    assert_eq!(created.unwrap_err().kind(), ErrorKind::WrongRootKey);
    assert_eq!(database.dump(), before, "nothing was written");
}

async fn versions(kind: crate::root::Kind) {
    let (Some(database), Some(root)) = (Database::postgres(), Root::new(kind).await) else {
        return;
    };
    let endpoint = root.endpoint();
    let kms = engine(&database, &root.wrapper(&endpoint)).await.unwrap();
    let scopes = scopes(&database);
    let written = written(&kms, &scopes).await;
    let census = kms.census().await.unwrap();
    assert_eq!((census.older_version, census.version_untold), (0, 0));

    root.rotate_in_its_service().await;
    // Neither who has seen the older version alone nor who has seen none is fooled.
    for kms in [
        kms,
        engine(&database, &root.wrapper(&endpoint)).await.unwrap(),
    ] {
        let census = kms.census().await.unwrap();
        assert_eq!((census.not_current, census.older_version), (0, 3));
        let options = CampaignOptions::new("not needed");
        let outcome = kms.rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {});
        let outcome = outcome.await.unwrap();
        assert!(outcome.report().is_none_or(|report| report.done == 0));
    }
    let fresh = engine(&database, &root.wrapper(&endpoint)).await.unwrap();
    fresh
        .rewrap_keys(&scopes[0], RewrapKeys::OlderVersions)
        .await
        .unwrap();
    assert_eq!(fresh.census().await.unwrap().older_version, 2);
    let options = CampaignOptions::new("free version 1");
    let outcome = fresh.rewrap_all(&options, RewrapKeys::OlderVersions, |_| {});
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.report().unwrap().done, 2, "the first one is done");
    let census = fresh.census().await.unwrap();
    assert_eq!((census.older_version, census.version_untold), (0, 0));

    root.retire_the_first_version().await;
    let after = engine(&database, &root.wrapper(&endpoint)).await.unwrap();
    assert_opens(&after, &written).await;
}
