//! An engine on a database, with scopes.

use std::sync::Arc;

use anyhow::Result;
use kms_kit::core::{Aead, KeyBytes};
use kms_kit::{AeadWrapper, Kms, KmsBuilder, Purpose, Repository, ScopeId, Wrapper};

/// The purposes of each scope.
pub const PURPOSES: [Purpose; 3] = [
    Purpose::from_static("database"),
    Purpose::from_static("oidc"),
    Purpose::from_static("client-secrets"),
];

/// Scopes of a world for measuring single operations.
pub const SCOPES: usize = 200;

/// The id of a scope, of the length that ids of tenants have.
///
/// # Panics
///
/// Never: the id of each number is valid.
#[must_use]
pub fn scope(number: usize) -> ScopeId {
    ScopeId::new(format!("o_{number:010}")).expect("a valid id")
}

/// A local root key.
///
/// # Errors
///
/// If the system has no random numbers.
pub fn local_root(id: &str) -> Result<Arc<dyn Wrapper>> {
    Ok(Arc::new(
        AeadWrapper::builder(id)
            .key(KeyBytes::generate()?)
            .build()?,
    ))
}

/// Settings of an engine, as an application would have them.
#[must_use]
pub fn builder(repository: Arc<dyn Repository>, root: &Arc<dyn Wrapper>) -> KmsBuilder {
    kms_kit::builder(repository)
        .root_wrapper(Arc::clone(root))
        .purposes(PURPOSES)
}

/// The same on this primitive.
#[must_use]
pub fn builder_on(
    aead: Arc<dyn Aead>,
    repository: Arc<dyn Repository>,
    root: &Arc<dyn Wrapper>,
) -> KmsBuilder {
    KmsBuilder::new(repository, aead)
        .root_wrapper(Arc::clone(root))
        .purposes(PURPOSES)
}

/// Creates scopes of these numbers, one by one.
///
/// # Errors
///
/// Those of the engine.
pub async fn create(kms: &Kms, numbers: std::ops::Range<usize>) -> Result<Vec<ScopeId>> {
    let mut scopes = Vec::new();
    for number in numbers {
        let scope = scope(number);
        kms.create_keys(&scope, &PURPOSES).await?;
        scopes.push(scope);
    }
    Ok(scopes)
}

/// Creates scopes of these numbers in one transaction, each with one call to the root wrapper.
///
/// # Errors
///
/// Those of the engine.
pub async fn create_together(
    kms: &Kms,
    repository: &Arc<dyn Repository>,
    numbers: std::ops::RangeInclusive<usize>,
) -> Result<Vec<ScopeId>> {
    let scopes: Vec<_> = numbers.map(scope).collect();
    let mut changes = Vec::new();
    for scope in &scopes {
        let prepared = kms.prepare_create_keys(scope, &PURPOSES).await?;
        changes.push(prepared.into_change_set());
    }
    let outcomes = repository.apply(changes.into()).await?;
    let receipts = outcomes.into_iter().collect::<Result<Vec<_>, _>>()?;
    kms.accept(&receipts);
    Ok(scopes)
}
