//! An engine whose calls are counted, whose repository and root wrapper fail on demand, and whose time
//! stands still.

use std::sync::Arc;

use kms_core::{Kms, KmsBuilder, Repository, ScopeId, Wrapper};
use kms_testkit::{
    CountingWrapper, FaultyWrapper, InstrumentedRepository, ManualClock, RepositoryCalls,
    WrapperCalls,
};

use super::{OIDC, World, in_any_runtime, on};

pub struct Process {
    pub kms: Kms,
    pub clock: Arc<ManualClock>,
    pub repository: Arc<InstrumentedRepository>,
    pub root: Arc<FaultyWrapper>,
    root_calls: Arc<CountingWrapper>,
}

impl Process {
    pub async fn new(world: &World) -> Self {
        Self::with(world, |builder| builder).await
    }

    pub async fn with(world: &World, set: impl FnOnce(KmsBuilder) -> KmsBuilder) -> Self {
        Self::made_by(world, |repository| set(on(repository))).await
    }

    /// With an engine that says nothing about runtimes.
    pub async fn in_any_runtime(world: &World) -> Self {
        Self::made_by(world, in_any_runtime).await
    }

    async fn made_by(world: &World, make: impl FnOnce(Arc<dyn Repository>) -> KmsBuilder) -> Self {
        let clock = Arc::new(ManualClock::new());
        let root_calls = Arc::new(CountingWrapper::new(Arc::clone(&world.root)));
        let repository = Arc::new(InstrumentedRepository::new(Arc::new(
            world.repository.clone(),
        )));
        // Faults outside, counters inside: what is counted really happened.
        let root = Arc::new(FaultyWrapper::new(
            Arc::clone(&root_calls) as Arc<dyn Wrapper>
        ));
        let builder = make(Arc::clone(&repository) as Arc<dyn Repository>)
            .root_wrapper(Arc::clone(&root) as Arc<dyn Wrapper>)
            .clock(Arc::clone(&clock) as _);
        let process = Self {
            kms: builder.build().await.unwrap(),
            clock,
            repository,
            root,
            root_calls,
        };
        let _ = (process.queries(), process.root_calls());
        process
    }

    /// Queries since the last call.
    pub fn queries(&self) -> RepositoryCalls {
        self.repository.take()
    }

    /// Calls of the root wrapper since the last call: (encrypt, decrypt).
    pub fn root_calls(&self) -> (u64, u64) {
        let WrapperCalls {
            encrypt, decrypt, ..
        } = self.root_calls.take();
        (encrypt, decrypt)
    }
}

/// The id of the key version that encrypts for `OIDC`.
pub async fn newest(process: &Process, scope: &ScopeId) -> String {
    let wrapper = process.kms.wrapper(scope, &OIDC).await.unwrap();
    wrapper.key_version_id().to_string()
}
