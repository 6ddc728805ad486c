//! A process whose root wrapper is twenty milliseconds away. Calls of it are counted, whatever becomes of them.

use kms_core::{Kms, Repository};
use kms_testkit::InstrumentedRepository;

use super::*;

pub(super) const CALL: Duration = Duration::from_millis(20);

pub(super) struct Far {
    pub(super) kms: Kms,
    pub(super) root: Arc<FaultyWrapper>,
    pub(super) repository: Arc<InstrumentedRepository>,
    calls: Arc<CountingWrapper>,
}

impl Far {
    pub(super) async fn new(world: &World) -> Self {
        let repository = Arc::new(InstrumentedRepository::new(Arc::new(
            world.repository.clone(),
        )));
        let root = Arc::new(FaultyWrapper::new(Arc::clone(&world.root)));
        let calls = Arc::new(CountingWrapper::new(Arc::clone(&root) as Arc<dyn Wrapper>));
        let kms = on(Arc::clone(&repository) as Arc<dyn Repository>)
            .root_wrapper(Arc::clone(&calls) as Arc<dyn Wrapper>)
            .build()
            .await
            .unwrap();
        let far = Self {
            kms,
            root,
            repository,
            calls,
        };
        far.root_is_back();
        let _ = far.repository.take();
        far
    }

    /// Every call of the root wrapper fails, after the way to it.
    pub(super) fn root_is_away(&self) {
        let away = Fault::FailBefore(Error::new(ErrorKind::Unreachable));
        self.root.inject(WrapperMethod::Encrypt, When::Always, away);
    }

    pub(super) fn root_is_back(&self) {
        self.root.clear();
        self.root
            .inject(WrapperMethod::Encrypt, When::Always, Fault::Delay(CALL));
    }

    /// Calls of the root wrapper since the last time.
    pub(super) fn root_calls(&self) -> u64 {
        self.calls.take().encrypt
    }
}

/// Every call of a campaign fails.
pub(super) fn database_is_away(repository: &InstrumentedRepository) {
    for method in [
        RepositoryMethod::Scopes,
        RepositoryMethod::Load,
        RepositoryMethod::Campaign,
        RepositoryMethod::StartCampaign,
        RepositoryMethod::HoldCampaign,
        RepositoryMethod::ReleaseCampaign,
        RepositoryMethod::ApplyStep,
    ] {
        let away = Fault::FailBefore(Error::new(ErrorKind::DatabaseUnreachable));
        repository.inject(method, When::Always, away);
    }
}

pub(super) async fn all_rotated_once(world: &World, ids: &[ScopeId]) {
    for id in ids {
        assert_eq!(versions(world, id).await, 2, "{id}");
    }
}
