//! Another id for a scope, as the unique column and the update of it in the databases.

use super::state::State;
use crate::change::ChangeSet;
use crate::applying::Refusal;
use crate::rows::ScopeRows;

impl State {
    /// Gives these rows the id that the change wants, if it wants one.
    pub(super) fn rename(&self, rows: &mut ScopeRows, change: &ChangeSet) -> Result<(), Refusal> {
        let Some(scope) = &change.update.scope else {
            return Ok(());
        };
        if self.scopes.contains_key(scope) {
            return Err(Refusal::AlreadyExists);
        }
        rows.scope = scope.clone();
        Ok(())
    }

    /// Puts rows in the place of those that the change was prepared from, which may have had another id.
    pub(super) fn put_after(&mut self, change: &ChangeSet, rows: ScopeRows) {
        self.take(&change.scope);
        self.put(rows);
    }
}
