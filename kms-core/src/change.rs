//! A change of one scope's keys as plain data: what to find, what to write.

use crate::error::{Error, ErrorKind, Result};
use crate::id::{DataKeyId, DataKeyVersionId, KeyVersionId, RootKeyId, RootKeyVersionId};
use crate::root_name::RootName;
use crate::rows::ScopeRows;
use crate::scope::{Purpose, ScopeId};

/// A change of one scope's keys, prepared with no transaction open and ready to be applied in one.
///
/// It is plain data: rows with wrapped keys, and what it expects to find. The engine makes it; a
/// [`Repository`](crate::Repository) applies it, or the store crate does on a connection of the caller's.
///
/// # How it is applied
///
/// Inside a savepoint, in this order, so that neither two appliers nor a Go process can deadlock:
///
/// 1. If [`bumps`](Self::bumps): add one to the collection version.
/// 2. Lock the root key's row (for several change sets: in order of their ids).
/// 3. Read the scope's rows anew, in a statement of its own, and compare with
///    [`expected`](Self::expected) by [`ScopeRows::same_keys`]; a difference is a conflict.
/// 4. Write: [`insert`](Self::insert), [`update`](Self::update), [`root`](Self::root), [`delete`](Self::delete).
/// 5. Read back the version numbers that the database assigned; a difference is a conflict.
///
/// A change set that can't be applied changes nothing, and leaves the caller's transaction usable.
#[derive(Clone, Debug)]
pub struct ChangeSet {
    /// What it does.
    pub operation: Operation,
    /// Whose keys it changes.
    pub scope: ScopeId,
    /// The scope's root key: the one to lock, or the one to insert.
    pub root_key: RootKeyId,
    /// The complete rows that the change was prepared from; `None` for a scope that has no keys yet.
    pub expected: Option<ScopeRows>,
    /// Rows to insert, parents first.
    pub insert: Inserts,
    /// Version rows to encrypt anew.
    pub update: Updates,
    /// What becomes of the scope's root of trust.
    pub root: RootChange,
    /// What to delete.
    pub delete: Option<Deletion>,
}

/// The operations that change keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// The first keys of a scope.
    Create,
    /// New versions of all keys of a scope.
    Rotate,
    /// All keys of a scope encrypted anew.
    Rewrap,
    /// Data keys that a scope lacks.
    Reconcile,
    /// One key version deleted.
    Revoke,
    /// All keys of a scope deleted.
    Delete,
    /// The root keys of a scope encrypted anew by another root of trust, which is the scope's from then on.
    AssignRoot,
    /// The keys that a scope has in another database.
    Import,
    /// Another id for a scope, and all its keys encrypted anew for it.
    Rename,
}

impl Operation {
    /// The name of the engine's method.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "create_keys",
            Self::Rotate => "rotate_keys",
            Self::Rewrap => "rewrap_keys",
            Self::Reconcile => "reconcile_keys",
            Self::Revoke => "revoke_key_version",
            Self::Delete => "delete_keys",
            Self::AssignRoot => "assign_root",
            Self::Import => "import_scope",
            Self::Rename => "rename_scope",
        }
    }
}

/// What a change does to the root of trust that wraps a scope's root key versions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RootChange {
    /// It stays.
    #[default]
    Keep,
    /// It is the root of this name.
    Assign(RootName),
    /// It is the engine's own.
    Unassign,
}

/// Rows to insert.
#[derive(Clone, Debug, Default)]
pub struct Inserts {
    /// Whether the root key itself is new.
    pub root_key: bool,
    /// New versions of the root key.
    pub root_key_versions: Vec<NewRootKeyVersion>,
    /// New data keys.
    pub data_keys: Vec<NewDataKey>,
    /// New versions of data keys, old or new.
    pub data_key_versions: Vec<NewDataKeyVersion>,
}

/// A root key version to insert.
#[derive(Clone, Debug)]
pub struct NewRootKeyVersion {
    /// Primary key.
    pub id: RootKeyVersionId,
    /// The number that the database will assign; never sent, only compared afterwards.
    pub version: i64,
    /// The wrapped key.
    pub key: Vec<u8>,
}

/// A data key to insert.
#[derive(Clone, Debug)]
pub struct NewDataKey {
    /// Primary key.
    pub id: DataKeyId,
    /// What it is for.
    pub purpose: Purpose,
}

/// A data key version to insert.
#[derive(Clone, Debug)]
pub struct NewDataKeyVersion {
    /// Primary key.
    pub id: DataKeyVersionId,
    /// Its data key.
    pub data_key: DataKeyId,
    /// The root key version that wraps it.
    pub root_key_version: RootKeyVersionId,
    /// The number that the database will assign; never sent, only compared afterwards.
    pub version: i64,
    /// The wrapped key.
    pub key: Vec<u8>,
}

/// Version rows to encrypt anew, and the scope's new id. An update names the columns listed here and no others: naming
/// `version` too would wait for every application transaction that references the row.
#[derive(Clone, Debug, Default)]
pub struct Updates {
    /// New `key` of root key versions.
    pub root_key_versions: Vec<(RootKeyVersionId, Vec<u8>)>,
    /// New `key` and `root_key_version_id` of data key versions.
    pub data_key_versions: Vec<RewrappedDataKeyVersion>,
    /// New `scope_id` of the root key. It is written last. A scope of this id that has keys is
    /// [`ErrorKind::AlreadyExists`].
    pub scope: Option<ScopeId>,
}

/// A data key version encrypted anew.
#[derive(Clone, Debug)]
pub struct RewrappedDataKeyVersion {
    /// Which one.
    pub id: DataKeyVersionId,
    /// The root key version that wraps it now.
    pub root_key_version: RootKeyVersionId,
    /// The wrapped key.
    pub key: Vec<u8>,
}

/// A deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// What to delete.
    pub target: DeletionTarget,
    /// Whether it must be proven first that nothing of the application needs it.
    pub proof: Proof,
}

/// What a deletion deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeletionTarget {
    /// One key version.
    Version(KeyVersionId),
    /// The root key, and by cascade every key of the scope.
    Scope,
}

/// Whether a deletion has to prove that nothing is lost by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing of the application may reference what goes, and something must be able to tell: at least
    /// one restricting (or no-action) foreign key to the data key versions, and none that cascades,
    /// sets null or sets a default.
    Required,
    /// The caller takes the loss: the forms under `dangerous()`.
    Skipped,
}

impl ChangeSet {
    /// Whether it adds one to the collection version: all but the creation of a scope's keys, which
    /// makes no cache stale and so need not make transactions wait for each other.
    #[must_use]
    pub fn bumps(&self) -> bool {
        !self.insert.root_key
    }

    /// The id under which the scope's rows are once this is applied.
    #[must_use]
    pub fn scope_after(&self) -> &ScopeId {
        self.update.scope.as_ref().unwrap_or(&self.scope)
    }

    /// The scopes of whose rows a cache may know: two for a renaming.
    pub fn scopes(&self) -> impl Iterator<Item = &ScopeId> {
        std::iter::once(&self.scope).chain(&self.update.scope)
    }

    /// The new key versions, by id, with the numbers that their wrapped keys are bound to.
    pub fn numbers(&self) -> impl Iterator<Item = (&str, i64)> {
        let root = self.insert.root_key_versions.iter();
        let root = root.map(|new| (new.id.as_str(), new.version));
        let data = self.insert.data_key_versions.iter();
        root.chain(data.map(|new| (new.id.as_str(), new.version)))
    }

    /// Confirms that it was applied, and gives the receipt: for a [`Repository`](crate::Repository), once everything is
    /// written. `assigned` tells the number that the database gave to the key version of this id.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Conflict`] if a key version that the change set inserts has no number, or another than the one
    /// that its wrapped key is bound to. Then nothing of it may stay.
    pub fn applied(&self, assigned: impl Fn(&str) -> Option<i64>) -> Result<Receipt> {
        if self
            .numbers()
            .all(|(id, number)| assigned(id) == Some(number))
        {
            Ok(Receipt::found_applied(self))
        } else {
            Err(Error::new(ErrorKind::Conflict)
                .with_detail("the database assigned another version number"))
        }
    }
}

/// Says that a change set was applied. Handed to [`Kms::accept`](crate::Kms::accept) after the commit
/// it makes the change visible to this process at once.
///
/// Without it the process sees its own change as late as any other: within its freshness.
///
/// There is one only for what was applied: [`ChangeSet::applied`] gives it to the repository that wrote the change.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "hand it to Kms::accept after the commit, so that this process sees the change at once"]
pub struct Receipt {
    operation: Operation,
    scope: ScopeId,
    renamed_to: Option<ScopeId>,
}

impl Receipt {
    /// For a change that was seen to be applied.
    pub(crate) fn found_applied(change: &ChangeSet) -> Self {
        Self {
            operation: change.operation,
            scope: change.scope.clone(),
            renamed_to: change.update.scope.clone(),
        }
    }

    /// What was done.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// To whose keys.
    #[must_use]
    pub fn scope(&self) -> &ScopeId {
        &self.scope
    }

    /// The id that this scope has now, if it was renamed.
    #[must_use]
    pub fn renamed_to(&self) -> Option<&ScopeId> {
        self.renamed_to.as_ref()
    }
}
