//! Customers with roots of their own, and engines that can reach them.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use kms_core::{
    Kms, KmsBuilder, NamedRootLimits, ResolverError, RootName, RootResolver, ScopeId, ScopeRows,
    Wrapper,
};
use kms_testkit::{CountingWrapper, Fault, FaultyWrapper, ManualClock, When, WrapperMethod};

use crate::support::{DATABASE, OIDC, World, root, scope};

/// How long cached keys are used before their root is asked again.
pub(crate) const RECHECK: std::time::Duration = std::time::Duration::from_secs(60);

/// The root of one customer, whose calls are counted and fail on demand.
#[derive(Clone)]
pub(crate) struct Customer {
    pub(crate) name: RootName,
    pub(crate) root: Arc<FaultyWrapper>,
    /// What an engine gets.
    pub(crate) wrapper: Arc<CountingWrapper>,
    counter: Arc<CountingWrapper>,
}

impl Customer {
    pub(crate) fn new(name: &str) -> Self {
        let counter = Arc::new(CountingWrapper::new(root(name)));
        let root = Arc::new(FaultyWrapper::new(Arc::clone(&counter) as Arc<dyn Wrapper>));
        Self {
            name: self::name(name),
            wrapper: Arc::new(CountingWrapper::new(Arc::clone(&root) as Arc<dyn Wrapper>)),
            root,
            counter,
        }
    }

    /// Every call fails.
    pub(crate) fn fails(&self, kind: kms_core::ErrorKind) {
        for method in [WrapperMethod::Encrypt, WrapperMethod::Decrypt] {
            let fault = Fault::FailBefore(kms_core::Error::new(kind));
            self.root.inject(method, When::Always, fault);
        }
    }

    pub(crate) fn works_again(&self) {
        self.root.clear();
    }

    /// Calls since the last call of this, whatever became of them.
    pub(crate) fn asked(&self) -> u64 {
        let calls = self.wrapper.take();
        calls.encrypt + calls.decrypt
    }

    /// Calls that reached the root since the last call of this.
    pub(crate) fn calls(&self) -> u64 {
        let calls = self.counter.take();
        calls.encrypt + calls.decrypt
    }
}

/// What an application has in a table of its own: names, and how their roots are reached.
#[derive(Debug, Default)]
pub(crate) struct Customers {
    pub(crate) roots: Mutex<BTreeMap<RootName, Arc<dyn Wrapper>>>,
    pub(crate) asked: AtomicUsize,
    pub(crate) down: std::sync::atomic::AtomicBool,
}

impl Customers {
    pub(crate) fn of(customers: &[&Customer]) -> Arc<Self> {
        let this = Self::default();
        for customer in customers {
            this.set(&customer.name, Arc::clone(&customer.wrapper) as _);
        }
        Arc::new(this)
    }

    pub(crate) fn set(&self, name: &RootName, root: Arc<dyn Wrapper>) {
        self.roots.lock().unwrap().insert(name.clone(), root);
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl RootResolver for Customers {
    async fn resolve(&self, name: &RootName) -> Result<Option<Arc<dyn Wrapper>>, ResolverError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        // Others that ask meanwhile have the chance to.
        tokio::task::yield_now().await;
        if self.down.load(Ordering::SeqCst) {
            return Err("the application's table can't be read".into());
        }
        Ok(self.roots.lock().unwrap().get(name).cloned())
    }
}

/// An engine of the fleet whose root is the world's, whose calls are counted.
pub(crate) struct Engine {
    pub(crate) kms: Kms,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) customers: Arc<Customers>,
    own: Arc<CountingWrapper>,
}

impl Engine {
    pub(crate) async fn new(world: &World, customers: &[&Customer]) -> Self {
        Self::with(world, customers, |builder| builder).await
    }

    pub(crate) async fn with(
        world: &World,
        customers: &[&Customer],
        set: impl FnOnce(KmsBuilder) -> KmsBuilder,
    ) -> Self {
        let clock = Arc::new(ManualClock::new());
        let own = Arc::new(CountingWrapper::new(Arc::clone(&world.root)));
        let customers = Customers::of(customers);
        let builder = world
            .builder()
            .root_wrapper(Arc::clone(&own) as _)
            .root_resolver(Arc::clone(&customers) as _)
            .named_root_limits(NamedRootLimits::default().with_recheck(RECHECK))
            .clock(Arc::clone(&clock) as _);
        let engine = Self {
            kms: set(builder).build().await.unwrap(),
            clock,
            customers,
            own,
        };
        // Building it looked at the check blobs, which is not what is counted.
        engine.own_calls();
        engine
    }

    /// Calls of the engine's own root since the last call of this.
    pub(crate) fn own_calls(&self) -> u64 {
        let calls = self.own.take();
        calls.encrypt + calls.decrypt
    }

    pub(crate) async fn encrypt(&self, scope: &ScopeId) -> kms_core::Result<kms_core::Blob> {
        self.kms.wrapper(scope, &OIDC).await?.encrypt(b"data", b"")
    }

    pub(crate) async fn opens(&self, scope: &ScopeId, blob: &kms_core::Blob) -> bool {
        let opened = self.kms.decrypt(scope, &OIDC, blob, b"").await;
        opened.is_ok_and(|plain| plain.expose() == b"data")
    }
}

/// A fleet with the tenants `o_1` and `o_2`, and a customer whose root `o_1` is given.
pub(crate) async fn one_of_two() -> (World, Customer, Engine) {
    let world = World::with_scope("o_1").await;
    world
        .kms
        .create_keys(&scope("o_2"), &[DATABASE, OIDC])
        .await
        .unwrap();
    let customer = Customer::new("customer-1");
    let engine = Engine::new(&world, &[&customer]).await;
    engine
        .kms
        .assign_root(&scope("o_1"), &customer.name)
        .await
        .unwrap();
    let _ = (engine.own_calls(), customer.calls());
    (world, customer, engine)
}

pub(crate) fn name(name: &str) -> RootName {
    RootName::new(name).unwrap()
}

/// Whether these are the same rows.
pub(crate) async fn is_unchanged(world: &World, before: &ScopeRows) -> bool {
    world.repository_rows(&before.scope).await.same_keys(before)
}
