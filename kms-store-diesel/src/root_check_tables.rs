//! The statements of check blobs, which read the same for both databases. Compiled once per database, as a child of its
//! module, like `key_tables.rs`.

use diesel::prelude::*;
use kms_core::RootCheck;

use super::schema::kms_root_check;
use super::{Conn, RunQueryDsl};
use crate::dialect::RootCheckTables;

impl RootCheckTables for Conn {
    async fn root_checks(&mut self) -> QueryResult<Vec<RootCheck>> {
        let rows: Vec<(String, Vec<u8>)> = kms_root_check::table
            .order((kms_root_check::update_time.desc(), kms_root_check::key_id))
            .select((kms_root_check::key_id, kms_root_check::check_blob))
            .load(self)
            .await?;
        let checks = rows.into_iter();
        Ok(checks
            .map(|(key_id, blob)| RootCheck { key_id, blob })
            .collect())
    }

    async fn store_root_check(
        &mut self,
        check: &RootCheck,
        former: Option<&[u8]>,
    ) -> QueryResult<bool> {
        let stored = match former {
            None => {
                diesel::insert_into(kms_root_check::table)
                    .values((
                        kms_root_check::key_id.eq(&check.key_id),
                        kms_root_check::check_blob.eq(&check.blob),
                    ))
                    .on_conflict_do_nothing()
                    .execute(self)
                    .await?
            }
            Some(former) => {
                diesel::update(kms_root_check::table.find(&check.key_id))
                    .filter(kms_root_check::check_blob.eq(former))
                    .set(kms_root_check::check_blob.eq(&check.blob))
                    .execute(self)
                    .await?
            }
        };
        Ok(stored > 0)
    }
}
