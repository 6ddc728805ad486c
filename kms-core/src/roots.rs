//! Which root of trust wraps the keys of a scope: the engine's own, or a named one that the application resolves.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use quick_cache::sync::Cache;

use crate::blob::Blob;
use crate::engine::Executor;
use crate::error::{Error, ErrorKind, Result};
use crate::root_name::RootName;
use crate::wrapper::{Claim, Ownership, Wrapper};

mod limits;
mod named;

pub use limits::NamedRootLimits;
use named::NamedRoot;

/// Turns the names of roots into wrappers: where the root of one tenant is the tenant's own.
///
/// The usual one looks the name up in a table of the application, finds the URL of a root there, and makes a wrapper
/// of it (the facade's `RootWrapper::from_url`).
///
/// # Contract
///
/// - The same name stands for the same root for ever. Where it is reached, and with which credentials, may change: it is
///   asked again after [`NamedRootLimits::with_keep`].
/// - `Ok(None)` says that there is no root of this name. An error says that this is not known now.
/// - It need not bound its time: [`NamedRootLimits::with_deadline`] does.
/// - It is not called while a database transaction of the engine is open, so that it may query.
///
/// # Security
///
/// Whoever can write what it reads chooses the key under which a tenant's keys are wrapped from then on: a URL that a
/// customer typed is checked before it gets there, for its host too.
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use kms_core::{ResolverError, RootName, RootResolver, Wrapper};
///
/// #[derive(Debug)]
/// struct Customers(/* a pool of connections */);
///
/// #[async_trait]
/// impl RootResolver for Customers {
///     async fn resolve(&self, name: &RootName) -> Result<Option<Arc<dyn Wrapper>>, ResolverError> {
///         // select root_url from customer where root_name = $1
///         Ok(None)
///     }
/// }
/// ```
#[async_trait]
pub trait RootResolver: fmt::Debug + Send + Sync {
    /// The wrapper of this root; `None` if there is no such root.
    ///
    /// # Errors
    ///
    /// Any: they become the source of [`ErrorKind::RootNotResolved`].
    async fn resolve(
        &self,
        name: &RootName,
    ) -> std::result::Result<Option<Arc<dyn Wrapper>>, ResolverError>;
}

/// What a [`RootResolver`] fails with: any error, so that `?` takes those of its database too.
pub type ResolverError = Box<dyn StdError + Send + Sync>;

/// The roots of one engine.
#[derive(Debug)]
pub(crate) struct Roots {
    own: Option<Arc<dyn Wrapper>>,
    resolver: Option<Arc<dyn RootResolver>>,
    /// An insertion of unit weight puts out two at most, and those are dropped when `quick_cache` has let go of its lock.
    named: Cache<RootName, Arc<NamedRoot>>,
    limits: NamedRootLimits,
    executor: Executor,
    /// Whether Go processes share the database, which know no named root.
    go_compatible: bool,
}

/// The root of a scope.
#[derive(Clone, Debug)]
pub(crate) struct Root {
    pub(crate) name: Option<RootName>,
    pub(crate) wrapper: Arc<dyn Wrapper>,
}

impl Roots {
    pub(crate) fn new(
        own: Option<Arc<dyn Wrapper>>,
        resolver: Option<Arc<dyn RootResolver>>,
        limits: NamedRootLimits,
        executor: Executor,
        go_compatible: bool,
    ) -> Self {
        Self {
            own,
            resolver,
            named: Cache::new(limits.capacity),
            limits,
            executor,
            go_compatible,
        }
    }

    /// The engine's own.
    pub(crate) fn own(&self) -> Result<&Arc<dyn Wrapper>> {
        self.own
            .as_ref()
            .ok_or_else(|| Error::new(ErrorKind::NoRootWrapper))
    }

    /// The root of this name, the engine's own for none. Never another one instead.
    pub(crate) async fn of(self: &Arc<Self>, name: Option<&RootName>) -> Result<Root> {
        let wrapper = match name {
            None => Arc::clone(self.own()?),
            Some(name) => self
                .named(name)
                .await
                .map_err(|error| error.with_context("root", name))?,
        };
        Ok(Root {
            name: name.cloned(),
            wrapper,
        })
    }

    /// When what a root opened is to be opened anew.
    pub(crate) fn limits(&self) -> &NamedRootLimits {
        &self.limits
    }

    async fn named(self: &Arc<Self>, name: &RootName) -> Result<Arc<dyn Wrapper>> {
        let Some(resolver) = &self.resolver else {
            let error = Error::new(ErrorKind::NoRootResolver);
            return Err(match self.go_compatible {
                true => error.with_detail(
                    "Binding::GoCompatible excludes named roots, since Go kms knows one root only",
                ),
                false => error,
            });
        };
        let root = self.slot(name);
        if root.resolve(&**resolver).await? {
            self.drop_later(&root)?;
        }
        Ok(root)
    }

    fn slot(&self, name: &RootName) -> Arc<NamedRoot> {
        if let Some(found) = self.named.get(name) {
            return found;
        }
        let made = Arc::new(NamedRoot::new(name.clone(), &self.limits));
        self.named.insert(name.clone(), Arc::clone(&made));
        made
    }

    /// Forgets the wrapper when its time is over, used or not.
    fn drop_later(self: &Arc<Self>, root: &Arc<NamedRoot>) -> Result<()> {
        let (this, root, keep) = (Arc::downgrade(self), Arc::downgrade(root), self.limits.keep);
        self.executor.spawn(async move {
            tokio::time::sleep(keep).await;
            if let (Some(this), Some(root)) = (this.upgrade(), root.upgrade()) {
                let same = |known: &Arc<NamedRoot>| Arc::ptr_eq(known, &root);
                drop(this.named.remove_if(root.name(), same));
            }
        })
    }
}

impl Root {
    /// Refuses a blob that this root can't have made, as far as the blob tells.
    pub(crate) fn may_have_made(&self, blob: &Blob) -> Result<()> {
        if self.wrapper.owns(blob) == Ownership::No {
            let error = Error::new(ErrorKind::ForeignRootKey);
            return Err(error.with_context("root_key_id", blob.key_id()));
        }
        Ok(())
    }

    /// Whether the blob's id proves that this root made it.
    pub(crate) fn surely_made(&self, blob: &Blob) -> bool {
        let claims = self.wrapper.claims();
        self.wrapper.owns(blob) == Ownership::Yes
            && !claims.is_empty()
            && claims.iter().all(Claim::is_proven_by_id)
    }

    /// The error with the root's name, if it has one.
    pub(crate) fn names(&self, error: Error) -> Error {
        match &self.name {
            Some(name) => error.with_context("root", name),
            None => error,
        }
    }
}
