//! Another root key in the place of the right one is found before it wraps anything.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use async_trait::async_trait;
use kms_core::{
    Binding, Blob, CampaignOptions, Claim, Error, ErrorKind, KeyBytes, Kms, KmsBuilder,
    MemoryRepository, Ownership, PooledWrapper, Repository, Result, Rewrap, RewrapKeys, RootCheck,
    SecretBytes, Wrapper,
};
use kms_testkit::{Fault, RepositoryMethod, When, WrapperMethod};
use kms_wrapper_aead::AeadWrapper;
use support::instrumented::Process;
use support::{OIDC, World, on, root, scope};

/// The local key of the id `root`, one for each number.
fn key(number: u8) -> Arc<dyn Wrapper> {
    let key = KeyBytes::from_slice(&[number; 32]).unwrap();
    Arc::new(AeadWrapper::builder("root").key(key).build().unwrap())
}

fn engine(repository: &MemoryRepository, root: &Arc<dyn Wrapper>) -> KmsBuilder {
    on(Arc::new(repository.clone())).root_wrapper(Arc::clone(root))
}

async fn refused(builder: KmsBuilder) -> Error {
    let error = builder.build().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
    assert_eq!(error.context("root_key_id"), Some("root"));
    assert!(
        error.to_string().contains("another key is in its place"),
        "{error}"
    );
    error
}

/// A database that knows nothing of check blobs, as one from before them.
async fn without_checks(repository: &MemoryRepository) -> MemoryRepository {
    let old = MemoryRepository::new();
    let all = repository
        .scopes(&kms_core::ScopeFilter::default(), None, 99)
        .await
        .unwrap();
    let scopes = repository.load(&all).await.unwrap().scopes;
    old.tamper(|rows| *rows = scopes);
    old
}

#[tokio::test]
async fn another_key_under_the_same_id_is_refused_before_it_wraps_anything() {
    let repository = MemoryRepository::new();
    let right = engine(&repository, &key(1)).build().await.unwrap();
    right.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    refused(engine(&repository, &key(2))).await;

    let late = engine(&repository, &key(2))
        .root_checked_later()
        .build()
        .await
        .unwrap();
    let options = CampaignOptions::new("c");
    let attempts = [
        late.preflight().await.map(drop),
        late.create_keys(&scope("o_2"), &[OIDC]).await,
        late.rotate_keys(&scope("o_1"), Rewrap::No).await,
        late.rotate_all(&options, Rewrap::No, |_| {})
            .await
            .map(drop),
        late.rewrap_all(&options, RewrapKeys::All, |_| {})
            .await
            .map(drop),
    ];
    for attempt in attempts {
        let error = attempt.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
    }
    // Nothing of the others is lost.
    let right = engine(&repository, &key(1)).build().await.unwrap();
    right.preflight().await.unwrap();
    right.rotate_keys(&scope("o_1"), Rewrap::Yes).await.unwrap();
    assert_eq!(right.census().await.unwrap().root_key_versions, 2);
}

#[tokio::test]
async fn in_an_empty_database_the_first_process_says_which_key_is_the_right_one() {
    let repository = MemoryRepository::new();
    engine(&repository, &key(1)).build().await.unwrap();
    refused(engine(&repository, &key(2))).await;
}

#[tokio::test]
async fn a_root_key_that_the_database_does_not_know_is_refused_before_it_wraps_anything() {
    let repository = MemoryRepository::new();
    let former = engine(&repository, &key(1)).build().await.unwrap();
    former.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    let mistaken = root("mistaken");
    // One that is told by check blobs, and one from before them.
    for database in [repository.clone(), without_checks(&repository).await] {
        let checks = database.root_checks().await.unwrap();
        let error = engine(&database, &mistaken).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
        assert_eq!(error.context("root_key_id"), Some("mistaken"));
        assert_eq!(error.context("known_root_keys"), Some("root"));
        assert!(error.to_string().contains("root_may_be_new"), "{error}");
        let late = engine(&database, &mistaken).root_checked_later();
        let late = late.build().await.unwrap();
        for attempt in [
            late.preflight().await,
            late.create_keys(&scope("o_2"), &[OIDC]).await,
        ] {
            assert_eq!(attempt.unwrap_err().kind(), ErrorKind::WrongRootKey);
        }
        assert_eq!(database.root_checks().await.unwrap(), checks);
        // Beside the former one it is how a fleet moves.
        let pool = PooledWrapper::new(Arc::clone(&mistaken));
        let pool: Arc<dyn Wrapper> = Arc::new(pool.with_decrypting(key(1)).unwrap());
        engine(&database, &pool).build().await.unwrap();
        engine(&database, &mistaken).build().await.unwrap();
    }
}

#[tokio::test]
async fn a_root_key_may_be_new_to_the_database_where_the_application_says_so() {
    let repository = MemoryRepository::new();
    let former = engine(&repository, &key(1)).build().await.unwrap();
    former.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    let new = root("new");
    let first = engine(&repository, &new).root_may_be_new();
    let first = first.build().await.unwrap();
    first.create_keys(&scope("o_2"), &[OIDC]).await.unwrap();
    let error = first.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey);
    // From then on the database knows both.
    for (root, id) in [(&key(1), "o_1"), (&new, "o_2")] {
        let kms = engine(&repository, root).build().await.unwrap();
        kms.wrapper(&scope(id), &OIDC).await.unwrap();
    }
    // It says nothing about another key under an id that is known.
    refused(engine(&repository, &key(2)).root_may_be_new()).await;
}

/// Knows which key it has once it is asked, as an alias.
#[derive(Debug)]
struct Alias(Arc<dyn Wrapper>);

#[async_trait]
impl Wrapper for Alias {
    fn kind(&self) -> &'static str {
        "alias"
    }

    fn key_id(&self) -> Option<String> {
        None
    }

    fn owns(&self, _: &Blob) -> Ownership {
        Ownership::Unknown
    }

    fn is_current(&self, _: &Blob) -> Ownership {
        Ownership::Unknown
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::by_alias("alias")]
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.0.encrypt(plaintext, aad).await
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        match self.0.owns(blob) {
            Ownership::No => Err(ErrorKind::ForeignRootKey.into()),
            _ => self.0.decrypt(blob, aad).await,
        }
    }
}

#[tokio::test]
async fn a_root_that_learns_from_its_service_that_all_is_another_key_s_is_refused() {
    let repository = MemoryRepository::new();
    let right: Arc<dyn Wrapper> = Arc::new(Alias(root("right")));
    let kms = engine(&repository, &right).build().await.unwrap();
    kms.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    engine(&repository, &right).build().await.unwrap();
    let mistaken: Arc<dyn Wrapper> = Arc::new(Alias(root("mistaken")));
    for database in [repository.clone(), without_checks(&repository).await] {
        let error = engine(&database, &mistaken).build().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WrongRootKey, "{error}");
        assert_eq!(error.context("known_root_keys"), Some("right"));
    }
}

#[tokio::test]
async fn of_two_processes_that_begin_with_other_keys_at_once_one_is_refused() {
    let repository = MemoryRepository::new();
    let gate = kms_testkit::Gate::new();
    let faulty = Arc::new(kms_testkit::InstrumentedRepository::new(Arc::new(
        repository.clone(),
    )));
    faulty.inject(
        RepositoryMethod::StoreRootCheck,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    let slow = on(faulty as Arc<dyn Repository>).root_wrapper(key(2));
    let slow = tokio::spawn(async move { slow.build().await.map(drop) });
    gate.reached().await;
    engine(&repository, &key(1)).build().await.unwrap();
    gate.open();
    let error = slow.await.unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongRootKey);
}

#[tokio::test]
async fn a_database_from_before_check_blobs_is_told_by_its_keys() {
    for binding in [Binding::Required, Binding::GoCompatible] {
        let repository = MemoryRepository::new();
        let right = engine(&repository, &key(1))
            .binding(binding)
            .build()
            .await
            .unwrap();
        for id in ["o_1", "o_2"] {
            right.create_keys(&scope(id), &[OIDC]).await.unwrap();
        }
        let old = without_checks(&repository).await;
        refused(engine(&old, &key(2)).binding(binding)).await;
        assert_eq!(old.root_checks().await.unwrap(), []);
        // One that was altered does not condemn the key.
        old.tamper(|scopes| *scopes[0].root_key_versions[0].key.last_mut().unwrap() ^= 1);
        engine(&old, &key(1))
            .binding(binding)
            .build()
            .await
            .unwrap();
        assert_eq!(old.root_checks().await.unwrap().len(), 1);
    }
}

#[tokio::test]
async fn a_check_blob_that_was_altered_is_mended_by_who_opens_the_keys() {
    let world = World::with_scope("o_1").await;
    let stored = world.repository.root_checks().await.unwrap().remove(0);
    let mut blob = Blob::decode(&stored.blob).unwrap().ciphertext().to_vec();
    blob[0] ^= 1;
    let altered = RootCheck {
        key_id: stored.key_id.clone(),
        blob: Blob::new(blob, "root").marked_bound().encode(),
    };
    let store = world
        .repository
        .store_root_check(&altered, Some(&stored.blob));
    assert!(store.await.unwrap());
    world.another_process().await;
    let mended = world.repository.root_checks().await.unwrap();
    assert_ne!(mended[0], altered);
    world.another_process().await;
    assert_eq!(world.repository.root_checks().await.unwrap(), mended);
}

#[tokio::test]
async fn the_check_costs_one_decryption_per_process_and_later_changes_nothing() {
    let world = World::with_scope("o_1").await;
    let process = Process::with(&world, KmsBuilder::root_checked_later).await;
    assert_eq!(process.root_calls(), (0, 0));
    process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    // Before each rotation the scope's newest key is opened too, since the id of this root's keys proves nothing.
    assert_eq!(process.root_calls(), (1, 2));
    assert_eq!(process.queries().root_checks, 1);
    process
        .kms
        .rotate_keys(&scope("o_1"), Rewrap::No)
        .await
        .unwrap();
    assert_eq!(process.root_calls(), (1, 1));
    assert_eq!(process.queries().root_checks, 0);
}

#[tokio::test]
async fn a_rotation_opens_nothing_where_the_ids_of_the_root_s_keys_prove_whose_they_are() {
    let mut world = World::new().await;
    world.repository = MemoryRepository::new();
    let named = AeadWrapper::named("root").key(KeyBytes::generate().unwrap());
    world.root = Arc::new(named.build().unwrap());
    let process = Process::new(&world).await;
    let id = scope("o_1");
    process.kms.create_keys(&id, &[OIDC]).await.unwrap();
    process.root_calls();
    process.kms.rotate_keys(&id, Rewrap::No).await.unwrap();
    assert_eq!(process.root_calls(), (1, 0));
}

#[tokio::test]
async fn a_root_wrapper_that_is_out_of_reach_keeps_no_engine_from_being_built_and_is_checked_later()
{
    let world = World::with_scope("o_1").await;
    let root = Arc::new(kms_testkit::FaultyWrapper::new(key(2)));
    let unreachable = || Fault::FailBefore(Error::new(ErrorKind::Unreachable));
    root.inject(WrapperMethod::Decrypt, When::Always, unreachable());
    let kms = engine(&world.repository, &(Arc::clone(&root) as _))
        .build()
        .await
        .unwrap();
    let create = async |kms: &Kms| kms.create_keys(&scope("o_2"), &[OIDC]).await.unwrap_err();
    assert_eq!(create(&kms).await.kind(), ErrorKind::Unreachable);
    root.clear();
    assert_eq!(create(&kms).await.kind(), ErrorKind::WrongRootKey);
}

#[tokio::test]
async fn who_may_only_encrypt_creates_keys_and_learns_from_preflight_that_it_can_not_be_checked() {
    let world = World::new().await;
    let root = Arc::new(kms_testkit::FaultyWrapper::new(Arc::clone(&world.root)));
    let denied = Fault::FailBefore(Error::new(ErrorKind::Denied));
    root.inject(WrapperMethod::Decrypt, When::Always, denied);
    let kms = engine(&world.repository, &(root as _))
        .build()
        .await
        .unwrap();
    kms.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    assert_eq!(kms.preflight().await.unwrap_err().kind(), ErrorKind::Denied);
}

#[tokio::test]
async fn an_engine_that_only_decrypts_is_checked_and_writes_nothing() {
    let repository = MemoryRepository::new();
    let kms = engine(&repository, &key(1))
        .decrypt_only()
        .build()
        .await
        .unwrap();
    kms.preflight().await.unwrap();
    assert_eq!(repository.root_checks().await.unwrap(), []);
    engine(&repository, &key(1)).build().await.unwrap();
    refused(engine(&repository, &key(2)).decrypt_only()).await;
}

#[tokio::test]
async fn what_the_wrong_key_has_wrapped_already_is_mended_with_a_pool_of_both() {
    let repository = MemoryRepository::new();
    let right = engine(&repository, &key(1)).build().await.unwrap();
    right.create_keys(&scope("o_1"), &[OIDC]).await.unwrap();
    // As by a process from before the check.
    let elsewhere = MemoryRepository::new();
    let wrong = engine(&elsewhere, &key(2)).build().await.unwrap();
    wrong.create_keys(&scope("o_2"), &[OIDC]).await.unwrap();
    let theirs = elsewhere.load(&[scope("o_2")]).await.unwrap().scopes;
    repository.tamper(|scopes| scopes.extend(theirs));

    let error = right.wrapper(&scope("o_2"), &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TamperedKey);
    assert_eq!(error.context("root_key_id"), Some("root"));
    let said = error.to_string();
    assert!(
        said.contains("another root key under the same id looks the same"),
        "{said}"
    );

    let pool = PooledWrapper::new(key(1)).with_decrypting(key(2)).unwrap();
    let both = engine(&repository, &(Arc::new(pool) as _))
        .build()
        .await
        .unwrap();
    let options = CampaignOptions::new("mend");
    let outcome = both
        .rewrap_all(&options, RewrapKeys::ForeignRoot, |_| {})
        .await
        .unwrap();
    assert_eq!(outcome.report().unwrap().failures, []);
    let mended = engine(&repository, &key(1)).build().await.unwrap();
    for id in ["o_1", "o_2"] {
        mended.wrapper(&scope(id), &OIDC).await.unwrap();
    }
}

#[tokio::test]
async fn a_check_blob_is_no_key_wherever_it_is_put() {
    let world = World::with_scope("o_1").await;
    let check = world.repository.root_checks().await.unwrap().remove(0);
    world.repository.tamper(|scopes| {
        scopes[0].root_key_versions[0].key.clone_from(&check.blob);
    });
    for binding in [Binding::Required, Binding::Migrating, Binding::GoCompatible] {
        let kms = world.builder().binding(binding).build().await.unwrap();
        let error = kms.wrapper(&scope("o_1"), &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TamperedKey, "{binding:?}");
    }
}
