//! The decorators do what a test of the engine relies on.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{
    Blob, Claim, Clock, Error, ErrorKind, MemoryRepository, Ownership, Purpose, Repository,
    Resolution, Result, ScopeId, SecretBytes, Wrapper,
};
use kms_testkit::{
    CountingWrapper, Fault, FaultyWrapper, Gate, InstrumentedRepository, ManualClock,
    RepositoryCalls, RepositoryMethod, When, WrapperCalls, WrapperMethod, change_sets,
};

const DATABASE: Purpose = Purpose::from_static("database");

fn scope() -> ScopeId {
    ScopeId::from_stored("o_1")
}

fn lost() -> Error {
    Error::new(ErrorKind::OutcomeUnknown)
}

fn unreachable() -> Error {
    Error::new(ErrorKind::DatabaseUnreachable)
}

/// Passes bytes through. It protects nothing: here only the calls matter.
#[derive(Debug)]
struct Transparent;

#[async_trait]
impl Wrapper for Transparent {
    fn kind(&self) -> &'static str {
        "transparent"
    }

    fn key_id(&self) -> Option<String> {
        Some("none".to_owned())
    }

    fn owns(&self, _blob: &Blob) -> Ownership {
        Ownership::Yes
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        self.owns(blob)
    }

    fn claims(&self) -> Vec<Claim> {
        vec![Claim::by_label("none", "none")]
    }

    async fn encrypt(&self, plaintext: &[u8], _aad: &[u8]) -> Result<Blob> {
        Ok(Blob::new(plaintext.to_vec(), "none"))
    }

    async fn decrypt(&self, blob: &Blob, _aad: &[u8]) -> Result<SecretBytes> {
        Ok(blob.ciphertext().to_vec().into())
    }
}

#[tokio::test]
async fn a_fault_before_has_no_effect_and_one_after_has() {
    let repository = InstrumentedRepository::new(Arc::new(MemoryRepository::new()));
    let change = change_sets::create(&scope(), &[DATABASE]);
    let changes = Arc::new([change.clone()]);

    let before = Fault::FailBefore(lost());
    repository.inject(RepositoryMethod::Apply, When::Next, before);
    let error = repository.apply(changes.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    let resolved = repository.resolve(changes.clone()).await.unwrap();
    assert_eq!(resolved, [Resolution::NotApplied]);

    let after = Fault::FailAfter(lost());
    repository.inject(RepositoryMethod::Apply, When::Next, after);
    let error = repository.apply(changes.clone()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutcomeUnknown);
    let resolved = repository.resolve(changes.clone()).await.unwrap();
    assert_eq!(resolved, [Resolution::Applied]);
    assert_eq!(repository.pending(), 0);
}

#[tokio::test]
async fn a_fault_happens_to_the_call_it_was_meant_for() {
    let repository = InstrumentedRepository::new(Arc::new(MemoryRepository::new()));
    let fault = Fault::FailBefore(unreachable());
    repository.inject(RepositoryMethod::Load, When::Nth(3), fault.clone());
    let mut failed = Vec::new();
    for _ in 0..4 {
        let _ = repository.collection_version(None).await.unwrap();
        failed.push(repository.load(&[]).await.is_err());
    }
    assert_eq!(failed, [false, false, true, false]);

    repository.inject(RepositoryMethod::Load, When::Always, fault);
    for _ in 0..3 {
        let error = repository.load(&[]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DatabaseUnreachable);
    }
    repository.clear();
    assert!(repository.load(&[]).await.is_ok());
}

#[tokio::test]
async fn refused_change_sets_each_have_the_error_as_outcome() {
    let repository = InstrumentedRepository::new(Arc::new(MemoryRepository::new()));
    let refuse = Fault::Refuse(Error::new(ErrorKind::Conflict));
    repository.inject(RepositoryMethod::Apply, When::Next, refuse);
    let other = ScopeId::new("o_2").unwrap();
    let changes = Arc::new([
        change_sets::create(&scope(), &[]),
        change_sets::create(&other, &[]),
    ]);
    let outcomes = repository.apply(changes).await.unwrap();
    let kinds = outcomes
        .into_iter()
        .map(|outcome| outcome.unwrap_err().kind());
    assert_eq!(kinds.collect::<Vec<_>>(), [ErrorKind::Conflict; 2]);
    let snapshot = repository.load(&[scope(), other]).await.unwrap();
    assert!(snapshot.scopes.is_empty());
}

/// What a test of "a loader overtaken by a rotation" is made of.
#[tokio::test]
async fn a_load_stopped_after_it_read_gives_what_was_there_then() {
    let memory = MemoryRepository::new();
    let creation = Arc::new([change_sets::create(&scope(), &[DATABASE])]);
    let _ = memory.apply(creation).await.unwrap();
    let before = memory.load(&[scope()]).await.unwrap();

    let repository = Arc::new(InstrumentedRepository::new(Arc::new(memory.clone())));
    let gate = Gate::new();
    let pause = Fault::PauseAfter(gate.clone());
    repository.inject(RepositoryMethod::Load, When::Next, pause);
    let loading = tokio::spawn({
        let repository = Arc::clone(&repository);
        async move { repository.load(&[scope()]).await }
    });
    gate.reached().await;
    let rotation = Arc::new([change_sets::rotate(&before.scopes[0])]);
    let outcomes = memory.apply(rotation).await.unwrap();
    assert!(outcomes[0].is_ok());
    assert!(!loading.is_finished());
    gate.open();
    let overtaken = loading.await.unwrap().unwrap();
    assert_eq!(overtaken.collection, before.collection);
    assert!(overtaken.scopes[0].same_keys(&before.scopes[0]));
    let fresh = repository.load(&[scope()]).await.unwrap();
    assert_eq!(fresh.scopes[0].root_key_versions.len(), 2);
}

#[tokio::test]
async fn a_call_that_hangs_takes_no_effect_and_can_be_dropped() {
    let memory = MemoryRepository::new();
    let repository = InstrumentedRepository::new(Arc::new(memory.clone()));
    let gate = Gate::new();
    let hang = Fault::PauseBefore(gate.clone());
    repository.inject(RepositoryMethod::Apply, When::Next, hang);
    let changes = Arc::new([change_sets::create(&scope(), &[])]);
    {
        let call = repository.apply(changes);
        tokio::pin!(call);
        tokio::select! {
            biased;
            _ = &mut call => panic!("the gate is closed"),
            () = gate.reached() => {}
        }
    }
    assert_eq!(gate.arrivals(), 1);
    assert!(memory.load(&[scope()]).await.unwrap().scopes.is_empty());
}

#[tokio::test]
async fn a_faulty_wrapper_fails_as_told_and_else_is_the_wrapper() {
    let wrapper = FaultyWrapper::new(Arc::new(Transparent));
    assert_eq!(wrapper.kind(), "transparent");
    assert_eq!(wrapper.key_id().as_deref(), Some("none"));
    let fault = Fault::FailBefore(Error::new(ErrorKind::Throttled));
    wrapper.inject(WrapperMethod::Decrypt, When::Next, fault);
    let blob = wrapper.encrypt(b"data", b"").await.unwrap();
    let error = wrapper.decrypt(&blob, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Throttled);
    assert_eq!(wrapper.decrypt(&blob, b"").await.unwrap().expose(), b"data");
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn calls_are_counted_by_method() {
    let repository = InstrumentedRepository::new(Arc::new(MemoryRepository::new()));
    let _ = repository.load(&[]).await.unwrap();
    let _ = repository.load(&[]).await.unwrap();
    let _ = repository.collection_version(None).await.unwrap();
    let calls = RepositoryCalls {
        load: 2,
        collection_version: 1,
        ..RepositoryCalls::default()
    };
    assert_eq!(repository.take(), calls);
    assert_eq!(repository.calls(), RepositoryCalls::default());
}

#[tokio::test]
async fn wrapper_calls_are_counted_also_how_many_at_once() {
    let faulty = FaultyWrapper::new(Arc::new(Transparent));
    let gate = Gate::new();
    let pause = Fault::PauseBefore(gate.clone());
    faulty.inject(WrapperMethod::Encrypt, When::Always, pause);
    let wrapper = Arc::new(CountingWrapper::new(Arc::new(faulty)));
    let calls: Vec<_> = (0..3)
        .map(|_| {
            let wrapper = Arc::clone(&wrapper);
            tokio::spawn(async move { wrapper.encrypt(b"", b"").await })
        })
        .collect();
    gate.reached_by(3).await;
    gate.open();
    for call in calls {
        let blob = call.await.unwrap().unwrap();
        let _ = wrapper.decrypt(&blob, b"").await.unwrap();
    }
    let expected = WrapperCalls {
        encrypt: 3,
        decrypt: 3,
        preflight: 0,
        most_at_once: 3,
    };
    assert_eq!(wrapper.take(), expected);
    assert_eq!(wrapper.calls(), WrapperCalls::default());
}

#[test]
fn a_manual_clock_moves_when_told_and_its_clones_with_it() {
    let clock = ManualClock::new();
    let same = clock.clone();
    let before = clock.now();
    assert_eq!(same.now(), before);
    clock.advance(Duration::from_millis(1500));
    assert_eq!(same.now() - before, Duration::from_millis(1500));
}
