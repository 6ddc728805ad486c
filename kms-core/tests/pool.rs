//! Moving from one root key to another.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{
    Blob, CampaignOptions, Claim, ErrorKind, KeyBytes, Kms, MemoryRepository, Ownership,
    PooledWrapper, Result, Rewrap, RewrapKeys, SecretBytes, Wrapper,
};
use kms_wrapper_aead::AeadWrapper;
use support::instrumented::Process;
use support::{OIDC, World, root, scope};

fn pool(encrypting: &Arc<dyn Wrapper>, decrypting: &Arc<dyn Wrapper>) -> Arc<dyn Wrapper> {
    let pool = PooledWrapper::new(Arc::clone(encrypting))
        .with_decrypting(Arc::clone(decrypting))
        .unwrap();
    Arc::new(pool)
}

#[tokio::test]
async fn a_fleet_moves_to_another_root_key_in_four_steps_without_a_gap() {
    let world = World::with_scope("o_1").await;
    let id = scope("o_1");
    world.kms.create_keys(&scope("o_2"), &[OIDC]).await.unwrap();
    world.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    let (old, new) = (Arc::clone(&world.root), root("new"));
    let process = async |root: Arc<dyn Wrapper>| -> Kms {
        world.builder().root_wrapper(root).build().await.unwrap()
    };
    let blob = world.encrypt(&id, b"before").await;

    let step_1 = process(pool(&old, &new)).await;
    let step_2 = process(pool(&new, &old)).await;
    // The new root encrypts in some processes already: those of step 1 read it.
    step_2.rotate_keys(&id, Rewrap::No).await.unwrap();
    for kms in [&step_1, &step_2] {
        kms.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
        kms.wrapper(&id, &OIDC)
            .await
            .unwrap()
            .encrypt(b"x", b"")
            .unwrap();
    }
    let census = step_2.census().await.unwrap();
    assert_eq!(census.by_root_key.get("root"), Some(&3));
    assert_eq!(census.by_root_key.get("new"), Some(&1));
    assert_eq!(census.not_current, 3);

    let outcome = step_2
        .rewrap_all(
            &CampaignOptions::new("move"),
            RewrapKeys::ForeignRoot,
            |_| {},
        )
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (2, 0));
    let census = step_2.census().await.unwrap();
    assert_eq!(census.by_root_key.get("root"), None);
    assert_eq!(census.not_current, 0);

    let step_4 = process(new).await;
    let plain = step_4.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"before");
    let gone = process(old).await;
    let error = gone.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
}

/// A local key of this id.
fn local(id: &str, key: u8) -> Arc<dyn Wrapper> {
    let key = KeyBytes::from_slice(&[key; 32]).unwrap();
    Arc::new(AeadWrapper::builder(id).key(key).build().unwrap())
}

#[tokio::test]
async fn a_pool_refuses_one_key_twice() {
    let named = || -> Arc<dyn Wrapper> {
        let key = KeyBytes::from_slice(&[1; 32]).unwrap();
        Arc::new(AeadWrapper::named("same").key(key).build().unwrap())
    };
    let inner = PooledWrapper::new(root("outer"))
        .with_decrypting(local("same", 1))
        .unwrap();
    for (pool, twice) in [
        (PooledWrapper::new(local("same", 1)), local("same", 1)),
        (PooledWrapper::new(Arc::new(inner)), local("same", 1)),
        (PooledWrapper::new(named()), named()),
    ] {
        let error = pool.with_decrypting(twice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        let id = error.context("root_key_id").unwrap();
        assert!(id.starts_with("same"), "{id}");
    }
}

#[tokio::test]
async fn a_pool_tries_each_of_two_keys_under_one_id_and_says_that_only_trying_tells() {
    let (old, new) = (local("same", 1), local("same", 2));
    let pool = pool(&new, &old);
    for member in [&old, &new] {
        let blob = member.encrypt(b"x", b"a").await.unwrap();
        assert_eq!(pool.decrypt(&blob, b"a").await.unwrap().expose(), b"x");
        assert_eq!(pool.owns(&blob), Ownership::Unknown);
        assert_eq!(pool.is_current(&blob), Ownership::Unknown);
    }
    // In a pool in the pool it is the same.
    let outer = PooledWrapper::new(root("outer"))
        .with_decrypting(Arc::clone(&pool))
        .unwrap();
    let blob = old.encrypt(b"x", b"").await.unwrap();
    assert_eq!(outer.owns(&blob), Ownership::Unknown);
    assert_eq!(outer.is_current(&blob), Ownership::No);
}

#[tokio::test]
async fn keys_whose_ids_carry_a_check_value_are_told_apart_under_one_name() {
    let named = |key: u8| -> Arc<dyn Wrapper> {
        let key = KeyBytes::from_slice(&[key; 32]).unwrap();
        Arc::new(AeadWrapper::named("same").key(key).build().unwrap())
    };
    let (old, new) = (named(1), named(2));
    let pool = pool(&new, &old);
    let blob = old.encrypt(b"x", b"").await.unwrap();
    assert_eq!(pool.owns(&blob), Ownership::Yes);
    assert_eq!(pool.is_current(&blob), Ownership::No);
    let blob = new.encrypt(b"x", b"").await.unwrap();
    assert_eq!(pool.is_current(&blob), Ownership::Yes);
}

#[tokio::test]
async fn a_fleet_moves_between_two_keys_under_one_id() {
    let (old, new) = (local("same", 1), local("same", 2));
    let mut world = World::new().await;
    world.repository = MemoryRepository::new();
    world.root = Arc::clone(&old);
    let kms = world.another_process().await;
    let ids = ["o_1", "o_2"].map(scope);
    for id in &ids {
        kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let wrapper = kms.wrapper(&ids[0], &OIDC).await.unwrap();
    let blob = wrapper.encrypt(b"before", b"").unwrap();

    world.root = pool(&new, &old);
    let moving = world.another_process().await;
    let census = moving.census().await.unwrap();
    assert_eq!((census.not_current, census.unknown), (2, 2));
    let options = CampaignOptions::new("move");
    let outcome = moving.rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {});
    let outcome = outcome.await.unwrap();
    assert_eq!(outcome.report().unwrap().done, 2);
    // Nobody says that nothing is left under the old one: the ids can't tell.
    let census = moving.census().await.unwrap();
    assert_eq!((census.not_current, census.unknown), (2, 2));

    world.root = new;
    let moved = world.another_process().await;
    moved.preflight().await.unwrap();
    let plain = moved.decrypt(&ids[0], &OIDC, &blob, b"").await.unwrap();
    assert_eq!(plain.expose(), b"before");
    assert_eq!(moved.census().await.unwrap().not_current, 0);
    world.root = old;
    let error = world.builder().build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey);
}

#[tokio::test]
async fn a_pool_takes_two_wrappers_that_can_not_tell_their_blobs_whatever_they_have_encrypted() {
    let transit = || Arc::new(Transit::told("v1", Ownership::Unknown));
    let pool = PooledWrapper::new(transit())
        .with_decrypting(transit())
        .unwrap()
        .with_decrypting(root("v1"))
        .unwrap();
    assert_eq!(
        pool.owns(&Blob::new(vec![1], "v2")),
        Ownership::Unknown,
        "each of the two is asked"
    );
    PooledWrapper::new(root("v1"))
        .with_decrypting(transit())
        .unwrap();
}

/// A wrapper whose blobs carry ids that others may use too.
#[derive(Debug)]
struct Transit {
    id: &'static str,
    owns_its_id: Ownership,
}

impl Transit {
    fn told(id: &'static str, owns_its_id: Ownership) -> Self {
        Self { id, owns_its_id }
    }
}

#[async_trait]
impl Wrapper for Transit {
    fn kind(&self) -> &'static str {
        "transit"
    }
    fn key_id(&self) -> Option<String> {
        Some(self.id.to_owned())
    }
    fn owns(&self, blob: &Blob) -> Ownership {
        match self.owns_its_id {
            Ownership::Yes if blob.key_id() != self.id => Ownership::No,
            ownership => ownership,
        }
    }
    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }
    fn claims(&self) -> Vec<Claim> {
        vec![Claim::by_label(self.id, format!("{self:p}"))]
    }
    async fn encrypt(&self, _: &[u8], _: &[u8]) -> Result<Blob> {
        Err(ErrorKind::Unreachable.into())
    }
    async fn decrypt(&self, _: &Blob, _: &[u8]) -> Result<SecretBytes> {
        Err(ErrorKind::Unreachable.into())
    }
}

#[tokio::test]
async fn a_pool_asks_only_members_that_may_own_the_blob() {
    let (first, second, stranger) = (root("first"), root("second"), root("stranger"));
    let pool = pool(&first, &second);
    let blob = second.encrypt(b"x", b"a").await.unwrap();
    assert_eq!(pool.owns(&blob), Ownership::Yes);
    assert_eq!(pool.is_current(&blob), Ownership::No);
    assert_eq!(pool.decrypt(&blob, b"a").await.unwrap().expose(), b"x");
    let error = pool.decrypt(&blob, b"b").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    let foreign = stranger.encrypt(b"x", b"").await.unwrap();
    assert_eq!(pool.owns(&foreign), Ownership::No);
    let error = pool.decrypt(&foreign, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
}

#[tokio::test]
async fn invariant_11_a_blob_that_names_a_key_is_not_opened_with_it_unless_it_is_the_configured_one()
 {
    let attacker_key = KeyBytes::from_slice(&[7; 32]).unwrap();
    let attacker = AeadWrapper::builder("root")
        .key(attacker_key)
        .build()
        .unwrap();
    let configured = root("root");
    let blob = attacker.encrypt(b"planted", b"").await.unwrap();
    assert_eq!(blob.key_id(), "root");
    let error = configured.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    let renamed = Blob::new(blob.ciphertext().to_vec(), "elsewhere");
    assert!(configured.decrypt(&renamed, b"").await.is_err());
}

/// (The wrapper of AWS KMS, which Go's defect is about, shows the same against its service.)
#[tokio::test]
async fn defect_01_a_root_key_planted_under_another_key_is_not_opened_whatever_it_names() {
    let planted = KeyBytes::from_slice(&[7; 32]).unwrap();
    let theirs = AeadWrapper::builder("theirs")
        .key(KeyBytes::from_slice(&[8; 32]).unwrap())
        .build()
        .unwrap();
    let blob = theirs.encrypt(planted.expose(), b"").await.unwrap();
    for (named, kind, asked) in [
        ("theirs", ErrorKind::ForeignRootKey, 0),
        ("root", ErrorKind::TamperedKey, 2),
        ("", ErrorKind::TamperedKey, 2),
    ] {
        let world = World::with_scope("o_1").await;
        world.repository.tamper(|scopes| {
            let renamed = Blob::new(blob.ciphertext().to_vec(), named);
            scopes[0].root_key_versions[0].key = renamed.encode();
        });
        // The mode that opens most.
        let process = Process::with(&world, |builder| {
            builder.binding(kms_core::Binding::GoCompatible)
        })
        .await;
        let error = process.kms.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{named}");
        assert_eq!(process.root_calls(), (0, asked), "{named}");
    }
}
