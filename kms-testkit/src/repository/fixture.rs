//! What the suite needs of a backend beside the repository itself.

use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{DataKeyVersionId, KeyVersionId, OnDelete, Repository, RootKeyVersionId, ScopeId};

/// Name of the column that holds the data key version id in the tables of
/// [`Fixture::add_referencer`].
pub const REFERENCE_COLUMN: &str = "key_version_id";

/// An empty database with a repository on it, and everything that happens in a database beside a
/// repository: the application's rows, and the hands of somebody with access.
///
/// Methods panic when they fail: they are part of a test. Those that a backend can't do are left out, and
/// what they stand for is named in [`unsupported`](Self::unsupported).
#[async_trait]
pub trait Fixture: Send + Sync {
    /// The repository under test, the same one each time.
    fn repository(&self) -> Arc<dyn Repository>;

    /// What this fixture can't do. Properties that need it are skipped, with a line on stderr.
    fn unsupported(&self) -> &[Feature] {
        &[]
    }

    /// A repository on the same database that shares nothing with the first in memory, as another
    /// process would have.
    async fn another_repository(&self) -> Arc<dyn Repository> {
        lacking(Feature::AnotherRepository)
    }

    /// Inserts the application's own row of this scope, before it gets its keys. To be left out where
    /// nothing references scopes.
    async fn add_scope(&self, scope: &ScopeId) {
        let _ = scope;
    }

    /// Deletes the application's own row of this scope, from where the deletion cascades through all its
    /// keys.
    async fn delete_scope(&self, scope: &ScopeId) {
        let _ = scope;
        lacking(Feature::ApplicationScopes);
    }

    /// `delete from kms_root_key` where the scope is this one.
    async fn delete_root_key(&self, scope: &ScopeId) {
        let _ = scope;
        lacking(Feature::Tampering);
    }

    /// Creates a table of the application whose nullable column [`REFERENCE_COLUMN`] references
    /// `kms_data_key_version(private_id)`, with this rule. Where the database has deferrable
    /// constraints, `no action` is `deferrable initially deferred`, as the docs tell applications.
    async fn add_referencer(&self, table: &str, on_delete: OnDelete) {
        let _ = (table, on_delete);
        lacking(Feature::Referencers);
    }

    /// Drops such a table, rows and all.
    async fn drop_referencer(&self, table: &str) {
        let _ = table;
        lacking(Feature::Referencers);
    }

    /// Inserts a row into such a table, and commits it.
    async fn add_reference(&self, table: &str, id: &DataKeyVersionId) {
        let _ = (table, id);
        lacking(Feature::Referencers);
    }

    /// Deletes that row.
    async fn drop_reference(&self, table: &str, id: &DataKeyVersionId) {
        let _ = (table, id);
        lacking(Feature::Referencers);
    }

    /// Sets the wrapped key of a version by hand.
    async fn set_key(&self, id: &KeyVersionId, key: &[u8]) {
        let _ = (id, key);
        lacking(Feature::Tampering);
    }

    /// Sets the number of a version by hand.
    async fn set_version(&self, id: &KeyVersionId, version: i64) {
        let _ = (id, version);
        lacking(Feature::Tampering);
    }

    /// Sets by hand which root key version (perhaps another scope's) wraps a data key version.
    async fn set_wrapping(&self, id: &DataKeyVersionId, root_key_version: &RootKeyVersionId) {
        let _ = (id, root_key_version);
        lacking(Feature::Tampering);
    }

    /// Makes a root key version this much older than it is, with the trigger that keeps `create_time`
    /// out of the way.
    async fn set_age(&self, id: &RootKeyVersionId, age: Duration) {
        let _ = (id, age);
        lacking(Feature::Aging);
    }

    /// Sets the schema version by hand.
    async fn set_schema_version(&self, version: &str) {
        let _ = version;
        lacking(Feature::SchemaVersion);
    }
}

/// What a suite's constructor gives: a fixture, or none where its service is not there.
pub trait Offer {
    /// What is offered.
    type Fixture: Fixture;

    /// It, if there is one.
    fn fixture(self) -> Option<Self::Fixture>;
}

impl<F: Fixture> Offer for F {
    type Fixture = F;

    fn fixture(self) -> Option<F> {
        Some(self)
    }
}

impl<F: Fixture> Offer for Option<F> {
    type Fixture = F;

    fn fixture(self) -> Self {
        self
    }
}

/// What a [`Fixture`] may be unable to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Feature {
    /// A second repository on the same database.
    AnotherRepository,
    /// Scope rows of the application, with a cascade to the keys.
    ApplicationScopes,
    /// Tables of the application that reference data key versions.
    Referencers,
    /// Rows edited or deleted by hand.
    Tampering,
    /// Rows made older by hand.
    Aging,
    /// The schema version edited by hand.
    SchemaVersion,
    /// What changed since a collection version, by the repository itself.
    Telling,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::AnotherRepository,
        Self::ApplicationScopes,
        Self::Referencers,
        Self::Tampering,
        Self::Aging,
        Self::SchemaVersion,
        Self::Telling,
    ];
}

/// Whether the fixture can do this. If not, says on stderr (past the capture of test output) what is
/// skipped for it.
pub(super) fn can(fixture: &dyn Fixture, feature: Feature) -> bool {
    if !fixture.unsupported().contains(&feature) {
        return true;
    }
    // The test harness names a test's thread after the test.
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a property");
    // A closed stderr is no reason to fail.
    let _ = writeln!(
        std::io::stderr(),
        "SKIPPED what needs {feature:?} in {test}: the fixture does not support it"
    );
    false
}

fn lacking(feature: Feature) -> ! {
    panic!("this fixture neither implements {feature:?} nor names it in unsupported()")
}
