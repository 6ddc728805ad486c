//! Building an engine.

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::{Engine, Executor, Freshness, Kms, Loader, RightRoot, loader::Settings};
use crate::aead::Aead;
use crate::binding::Binding;
use crate::cache::Cache;
use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::opener::Opener;
use crate::planner::Planner;
use crate::repository::Repository;
use crate::roots::{NamedRootLimits, RootResolver, Roots};
use crate::scope::Purpose;
use crate::usage::Usage;
use crate::wrapper::Wrapper;

/// Calls to the root wrapper that one operation on one scope has under way at once.
pub(super) const PARALLEL_ROOT_CALLS: usize = 8;

/// Settings of a [`Kms`]. The facade's `kms_kit::builder` fills in the AEAD provider.
///
/// | setting | default |
/// |---|---|
/// | [`root_wrapper`](Self::root_wrapper) | none: only operations that open or make no key work |
/// | [`root_resolver`](Self::root_resolver) | none: every scope is under the root wrapper |
/// | [`named_root_limits`](Self::named_root_limits) | 1,000 roots, asked anew every five minutes |
/// | [`purposes`](Self::purposes) | none |
/// | [`freshness`](Self::freshness) | within one second |
/// | [`binding`](Self::binding) | `Required` |
/// | [`cache_capacity`](Self::cache_capacity) | 10,000 scopes |
/// | [`recheck_interval`](Self::recheck_interval) | five minutes |
/// | [`lookup_interval`](Self::lookup_interval) | 100 ms |
/// | [`grace_period`](Self::grace_period) | none |
/// | [`load_timeout`](Self::load_timeout) | 30 seconds |
/// | [`root_checked_later`](Self::root_checked_later) | no: `build` checks the root wrapper's key |
/// | [`root_may_be_new`](Self::root_may_be_new) | no: a key that the database doesn't know is refused |
/// | [`runtime`](Self::runtime) | the caller's, if it has threads of its own; else a small one of this crate's |
#[derive(Debug)]
pub struct KmsBuilder {
    repository: Arc<dyn Repository>,
    aead: Arc<dyn Aead>,
    root: Option<Arc<dyn Wrapper>>,
    resolver: Option<Arc<dyn RootResolver>>,
    named_roots: NamedRootLimits,
    purposes: Vec<Purpose>,
    binding: Binding,
    decrypt_only: bool,
    capacity: usize,
    settings: Settings,
    clock: Arc<dyn Clock>,
    executor: Executor,
    checks_root: bool,
    root_may_be_new: bool,
}

impl KmsBuilder {
    /// Starts with where keys are stored and what encrypts them.
    #[must_use]
    pub fn new(repository: Arc<dyn Repository>, aead: Arc<dyn Aead>) -> Self {
        Self {
            repository,
            aead,
            root: None,
            resolver: None,
            named_roots: NamedRootLimits::default(),
            purposes: Vec::new(),
            binding: Binding::default(),
            decrypt_only: false,
            capacity: 10_000,
            settings: Settings::default(),
            clock: Arc::new(SystemClock),
            executor: Executor::default(),
            checks_root: true,
            root_may_be_new: false,
        }
    }

    /// The root of trust.
    #[must_use]
    pub fn root_wrapper(mut self, root: Arc<dyn Wrapper>) -> Self {
        self.root = Some(root);
        self
    }

    /// Where the roots come from that scopes were given by name: see [`Kms::assign_root`]. Not with
    /// [`Binding::GoCompatible`], since Go kms knows one root only and would wrap new keys of such a scope with that.
    #[must_use]
    pub fn root_resolver(mut self, resolver: Arc<dyn RootResolver>) -> Self {
        self.resolver = Some(resolver);
        self
    }

    /// How named roots are kept, how often they are asked anew, and what each of them may take.
    #[must_use]
    pub fn named_root_limits(mut self, limits: NamedRootLimits) -> Self {
        self.named_roots = limits;
        self
    }

    /// The purposes of data keys. No other can be created, so that a misspelt one is an error.
    #[must_use]
    pub fn purposes(mut self, purposes: impl IntoIterator<Item = Purpose>) -> Self {
        self.purposes = purposes.into_iter().collect();
        self
    }

    /// How old the knowledge may be that calls work with.
    #[must_use]
    pub fn freshness(mut self, freshness: Freshness) -> Self {
        self.settings.freshness = freshness;
        self
    }

    /// Whether wrapped keys are bound to their rows.
    #[must_use]
    pub fn binding(mut self, binding: Binding) -> Self {
        self.binding = binding;
        self
    }

    /// Scopes whose keys are kept unwrapped, at most. With more scopes in use, the others are loaded on
    /// use. A scope of 3 purposes takes less than 4 KiB with 2 versions of each key, and some 10 with ten.
    #[must_use]
    pub fn cache_capacity(mut self, scopes: usize) -> Self {
        self.capacity = scopes;
        self
    }

    /// How often the rows of a cached scope are read again although the collection version did not move:
    /// after a restore, two histories can carry the same one.
    #[must_use]
    pub fn recheck_interval(mut self, interval: Duration) -> Self {
        self.settings.recheck = interval;
        self
    }

    /// How far apart [`Kms::decrypt`] asks the database for key versions of one scope that the cache
    /// lacks. Callers wait for the next question rather than fail.
    #[must_use]
    pub fn lookup_interval(mut self, interval: Duration) -> Self {
        self.settings.lookup_interval = interval;
        self
    }

    /// How long past their freshness keys may be used while the database can't be asked. By default not
    /// at all. Within this period a key version that another process revoked still decrypts, and one
    /// that it replaced still encrypts.
    ///
    /// Keys are handed out at once then. The database is asked in the background, by one caller about every second.
    /// The caller who finds out that the database does not answer waits half a second for it.
    #[must_use]
    pub fn grace_period(mut self, period: Duration) -> Self {
        self.settings.grace = period;
        self
    }

    /// How long loading a scope's keys may take, from the query to the last call of the root wrapper; it also bounds
    /// the question for the collection version. Whoever waits for a load waits no longer than that.
    ///
    /// Repositories and root wrappers bound their calls themselves; this holds also for one that fails to.
    #[must_use]
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// Where keys are loaded and changes are applied: as tasks of this runtime, so that callers may go away, or run in
    /// any number of other runtimes.
    ///
    /// If none is set, they are tasks of the caller's runtime if that has threads of its own. Callers in a
    /// current-thread runtime, or in none, share a runtime of this crate's: it is begun when it is first needed, has
    /// one thread, `kms-loading`, and lives as long as the process. (A current-thread runtime stands still while
    /// nobody blocks on it, and with it would whoever waits elsewhere for a load that was begun in it. Choose one here
    /// only if all callers are in it.)
    #[must_use]
    pub fn runtime(mut self, runtime: Handle) -> Self {
        self.executor.chosen = Some(runtime);
        self
    }

    /// An engine that decrypts and lists, and changes nothing: it needs no right to encrypt with the
    /// root key nor to write to the tables.
    #[must_use]
    pub fn decrypt_only(mut self) -> Self {
        self.decrypt_only = true;
        self
    }

    /// Leaves the check of the root wrapper's key, which [`build`](Self::build) does otherwise, to the first change and to
    /// [`Kms::preflight`]. For a process that is to start without a call to the root wrapper.
    #[must_use]
    pub fn root_checked_later(mut self) -> Self {
        self.checks_root = false;
        self
    }

    /// Accepts a root key that the database has never seen although it knows others, and stores a check blob of it.
    ///
    /// Nothing that is moved by a [pool](crate::PooledWrapper) needs this: a pool that contains the former root is known.
    /// It is for a root that begins without the former one, next to scopes that it can't open: a second fleet in the
    /// same database, or tenants that are made anew because the former root is lost. Take it out again once the first
    /// such process was built: without it, a mistaken root is refused before it wraps anything.
    #[must_use]
    pub fn root_may_be_new(mut self) -> Self {
        self.root_may_be_new = true;
        self
    }

    /// Where the time comes from by which freshness is measured.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Checks the settings, with one query the database's schema version, and that the root wrapper's key is the one
    /// that the database was filled with: then the engine is ready.
    ///
    /// The database holds a *check blob* for each root key, a known text that the key encrypted; the first engine that
    /// changes something stores it. A root wrapper that opens neither that nor any of the keys under its id has another
    /// key in the place of the right one; one that may have made none of them is a mistaken one, unless
    /// [`root_may_be_new`](Self::root_may_be_new) says otherwise. It takes one query and one decryption, is done once per engine, and before its
    /// first change at the latest. A root wrapper that can't be asked now does not keep the engine from being built.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::DuplicatePurpose`]; [`ErrorKind::InvalidConfiguration`] for a cache of no scopes, limits of nothing,
    /// or a [resolver](Self::root_resolver) beside [`Binding::GoCompatible`];
    /// [`ErrorKind::SchemaVersion`], naming expected and found; [`ErrorKind::WrongRootKey`]; those of the repository.
    pub async fn build(self) -> Result<Kms> {
        refuse_duplicates(&self.purposes)?;
        if self.capacity == 0 {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("cache_capacity must be at least 1"));
        }
        if self.settings.load_timeout.is_zero() {
            return Err(Error::new(ErrorKind::InvalidConfiguration)
                .with_detail("load_timeout must be more than zero"));
        }
        self.named_roots.check()?;
        let go_compatible = self.binding == Binding::GoCompatible;
        if go_compatible && self.resolver.is_some() {
            return Err(Error::new(ErrorKind::InvalidConfiguration).with_detail(
                "Binding::GoCompatible excludes named roots, since Go kms knows one root only",
            ));
        }
        self.repository.validate_schema().await?;
        let root_key_id = self.root.as_ref().and_then(|root| root.key_id());
        let roots = Roots::new(
            self.root,
            self.resolver,
            self.named_roots,
            self.executor.clone(),
            go_compatible,
        );
        let opener = Arc::new(Opener {
            roots: Arc::new(roots),
            aead: self.aead,
            binding: self.binding,
            decrypt_only: self.decrypt_only,
            usage: Usage::default(),
        });
        let cache = Arc::new(Cache::new(self.capacity, self.clock));
        let loader = Arc::new(Loader::new(
            Arc::clone(&self.repository),
            Arc::clone(&opener),
            Arc::clone(&cache),
            self.settings,
            self.executor.clone(),
        ));
        let kms = Kms(Arc::new(Engine {
            repository: self.repository,
            planner: Planner {
                opener: Arc::clone(&opener),
                parallel: PARALLEL_ROOT_CALLS,
            },
            opener,
            root_key_id,
            purposes: self.purposes,
            cache,
            loader,
            executor: self.executor,
            queues: Arc::default(),
            right_root: RightRoot::unchecked(self.root_may_be_new),
        }));
        if self.checks_root {
            kms.0.check_root_at_start().await?;
        }
        Ok(kms)
    }
}

pub(super) fn refuse_duplicates(purposes: &[Purpose]) -> Result<()> {
    for (position, purpose) in purposes.iter().enumerate() {
        if purpose.as_str() == Purpose::ROOT_KEY {
            return Err(Error::new(ErrorKind::ReservedPurpose).with_context("purpose", purpose));
        }
        if purposes[..position].contains(purpose) {
            return Err(Error::new(ErrorKind::DuplicatePurpose).with_context("purpose", purpose));
        }
    }
    Ok(())
}
