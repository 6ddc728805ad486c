//! Another id for a scope, by the table of the schema whose trigger is let through by the one that keeps scope ids.

use diesel::prelude::*;

use super::schema::kms_scope_renaming;
use crate::dialect::Renaming;
use crate::writes::RenamedRecord;

impl Renaming for SqliteConnection {
    fn rename_scopes(&mut self, rows: &[RenamedRecord<'_>]) -> QueryResult<()> {
        for row in rows {
            diesel::insert_into(kms_scope_renaming::table)
                .values((
                    kms_scope_renaming::root_key_id.eq(row.root_key),
                    kms_scope_renaming::scope_id.eq(row.scope),
                ))
                .execute(self)?;
        }
        Ok(())
    }
}
