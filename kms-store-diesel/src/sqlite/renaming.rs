//! Another id for a scope, by the table of the schema whose trigger is let through by the one that keeps scope ids.

use diesel::prelude::*;
use kms_core::{RootKeyId, ScopeId};

use super::schema::kms_scope_renaming;
use crate::dialect::Renaming;

impl Renaming for SqliteConnection {
    async fn rename_scope(&mut self, root_key: &RootKeyId, scope: &ScopeId) -> QueryResult<()> {
        diesel::insert_into(kms_scope_renaming::table)
            .values((
                kms_scope_renaming::root_key_id.eq(root_key.as_str()),
                kms_scope_renaming::scope_id.eq(scope.as_str()),
            ))
            .execute(self)
            .map(drop)
    }
}
