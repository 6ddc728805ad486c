//! What became of a change set, told from the rows alone.

use crate::change::{ChangeSet, DeletionTarget};
use crate::id::KeyVersionId;
use crate::repository::Resolution;
use crate::rows::ScopeRows;

impl ChangeSet {
    /// Tells from the scope's rows whether this change set was applied, when the answer to its commit was
    /// lost. `found` is what the database holds now of [`scope_after`](Self::scope_after), `None` if that has no keys.
    ///
    /// For implementations of [`Repository::resolve`](crate::Repository::resolve), which call it once the
    /// transaction in doubt has ended for sure.
    ///
    /// Ids and wrapped keys are random, so a single inserted id or rewritten wrapped key that is there
    /// proves the change, and one old wrapped key that is still there disproves it; so does a version
    /// number that somebody else took. A deletion counts as applied when its target is gone from the scope, whoever
    /// deleted it; the engine asks whether it is under another id. A creation counts as not applied when its root key is not there: the other reading,
    /// that the scope was created and deleted again meanwhile, is left out, since then it is as well to
    /// create it anew. A renaming counts so too: its scope is prepared again from what there is.
    #[must_use]
    pub fn resolution(&self, found: Option<&ScopeRows>) -> Resolution {
        match found.filter(|rows| rows.root_key == self.root_key) {
            Some(rows) => self.resolution_in(rows),
            None if self.delete.is_some() => Resolution::Applied,
            None if self.insert.root_key || self.update.scope.is_some() => Resolution::NotApplied,
            None => Resolution::Unknown,
        }
    }

    fn resolution_in(&self, rows: &ScopeRows) -> Resolution {
        let gone = match self.delete.as_ref().map(|deletion| &deletion.target) {
            Some(DeletionTarget::Scope) => Some(false),
            Some(DeletionTarget::Version(id)) => Some(!holds(rows, id)),
            None => None,
        };
        if gone == Some(true) || self.inserts_in(rows) || self.rewritten_in(rows) {
            Resolution::Applied
        } else if gone == Some(false)
            || self.insertion_ruled_out(rows)
            || self.untouched_in(rows)
            || self
                .expected
                .as_ref()
                .is_some_and(|expected| expected.same_keys(rows))
        {
            Resolution::NotApplied
        } else {
            Resolution::Unknown
        }
    }

    /// Whether anything that this change set inserts is there.
    fn inserts_in(&self, rows: &ScopeRows) -> bool {
        // The root key itself is known to be there.
        self.insert.root_key
            || self
                .insert
                .root_key_versions
                .iter()
                .any(|new| rows.root_key_versions.iter().any(|row| row.id == new.id))
            || self
                .insert
                .data_keys
                .iter()
                .any(|new| rows.data_keys.iter().any(|row| row.id == new.id))
            || self
                .insert
                .data_key_versions
                .iter()
                .any(|new| holds(rows, &new.id.clone().into()))
    }

    /// Whether a wrapped key of this change set is in its row.
    fn rewritten_in(&self, rows: &ScopeRows) -> bool {
        self.update
            .root_key_versions
            .iter()
            .any(|(id, key)| wrapped_key(rows, &id.clone().into()) == Some(key))
            || self
                .update
                .data_key_versions
                .iter()
                .any(|new| wrapped_key(rows, &new.id.clone().into()) == Some(&new.key))
    }

    /// Whether a wrapped key that this change set replaces is still in its row.
    fn untouched_in(&self, rows: &ScopeRows) -> bool {
        let Some(expected) = &self.expected else {
            return false;
        };
        let root = self.update.root_key_versions.iter().map(|(id, _)| {
            let id: KeyVersionId = id.clone().into();
            id
        });
        let data = self
            .update
            .data_key_versions
            .iter()
            .map(|new| KeyVersionId::from(new.id.clone()));
        root.chain(data).any(|id| {
            let old = wrapped_key(expected, &id);
            old.is_some() && old == wrapped_key(rows, &id)
        })
    }

    /// Whether the rows show that what this change set inserts never was there: the newest version of a
    /// key is never revoked, and data keys go with their scope only.
    fn insertion_ruled_out(&self, rows: &ScopeRows) -> bool {
        let root = self.insert.root_key_versions.iter().any(|new| {
            let numbers = rows.root_key_versions.iter().map(|row| row.version);
            ruled_out(new.version, numbers)
        });
        let data = self.insert.data_key_versions.iter().any(|new| {
            rows.data_keys
                .iter()
                .find(|key| key.id == new.data_key)
                .is_some_and(|key| ruled_out(new.version, key.versions.iter().map(|v| v.version)))
        });
        root || data || !self.insert.data_keys.is_empty()
    }
}

/// Whether a version of this number, whose id is not among the rows, was never inserted: the number is
/// somebody else's, or none this high was ever given.
fn ruled_out(number: i64, mut found: impl Iterator<Item = i64> + Clone) -> bool {
    found.clone().max().is_none_or(|highest| highest < number) || found.any(|row| row == number)
}

fn holds(rows: &ScopeRows, id: &KeyVersionId) -> bool {
    wrapped_key(rows, id).is_some()
}

fn wrapped_key<'a>(rows: &'a ScopeRows, id: &KeyVersionId) -> Option<&'a Vec<u8>> {
    match id {
        KeyVersionId::Root(id) => rows
            .root_key_versions
            .iter()
            .find(|row| row.id == *id)
            .map(|row| &row.key),
        KeyVersionId::Data(id) => rows
            .data_keys
            .iter()
            .flat_map(|key| &key.versions)
            .find(|row| row.id == *id)
            .map(|row| &row.key),
    }
}
