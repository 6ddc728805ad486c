//! Another id for a scope, by the function of the schema that is let through by the trigger.

use diesel::prelude::*;
use diesel::sql_types::Text;
use kms_core::{RootKeyId, ScopeId};

use super::{Conn, RunQueryDsl};
use crate::dialect::Renaming;

impl Renaming for Conn {
    async fn rename_scope(&mut self, root_key: &RootKeyId, scope: &ScopeId) -> QueryResult<()> {
        diesel::sql_query("select kms_rename_scope($1, $2)")
            .bind::<Text, _>(root_key.as_str())
            .bind::<Text, _>(scope.as_str())
            .execute(self)
            .await
            .map(drop)
    }
}
