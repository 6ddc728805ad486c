//! Statements that read the same for both databases. Compiled once per database, as a child of its
//! module: `super::schema` and `super::Conn` are that database's.

use diesel::prelude::*;
use kms_core::{DeletionTarget, KeyVersionId, RootKeyId};

use super::schema::{kms_data_key, kms_data_key_version, kms_root_key, kms_root_key_version};
use super::{Conn, RunQueryDsl};
use crate::dialect::KeyTables;

impl KeyTables for Conn {
    async fn owner(&mut self, id: &KeyVersionId) -> QueryResult<Option<String>> {
        match id {
            KeyVersionId::Root(id) => {
                kms_root_key_version::table
                    .inner_join(kms_root_key::table)
                    .filter(kms_root_key_version::private_id.eq(id.as_str()))
                    .select(kms_root_key::scope_id)
                    .first(self)
                    .await
            }
            KeyVersionId::Data(id) => {
                kms_data_key_version::table
                    .inner_join(kms_data_key::table.inner_join(kms_root_key::table))
                    .filter(kms_data_key_version::private_id.eq(id.as_str()))
                    .select(kms_root_key::scope_id)
                    .first(self)
                    .await
            }
        }
        .optional()
    }

    async fn delete_target(
        &mut self,
        root_key: &RootKeyId,
        target: &DeletionTarget,
    ) -> QueryResult<usize> {
        match target {
            DeletionTarget::Scope => {
                diesel::delete(kms_root_key::table.find(root_key.as_str()))
                    .execute(self)
                    .await
            }
            DeletionTarget::Version(KeyVersionId::Root(id)) => {
                diesel::delete(kms_root_key_version::table.find(id.as_str()))
                    .execute(self)
                    .await
            }
            DeletionTarget::Version(KeyVersionId::Data(id)) => {
                diesel::delete(kms_data_key_version::table.find(id.as_str()))
                    .execute(self)
                    .await
            }
        }
    }
}
