//! Another id for a scope, by the function of the schema that is let through by the trigger.

use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::dialect::Renaming;
use crate::writes::RenamedRecord;

impl Renaming for PgConnection {
    fn rename_scopes(&mut self, rows: &[RenamedRecord<'_>]) -> QueryResult<()> {
        for row in rows {
            diesel::sql_query("select kms_rename_scope($1, $2)")
                .bind::<Text, _>(row.root_key)
                .bind::<Text, _>(row.scope)
                .execute(self)?;
        }
        Ok(())
    }
}
