//! Statements that read the same for both databases. Compiled once per database, as a child of its
//! module: `super::schema` and `super::Conn` are that database's.

use std::collections::HashSet;

use diesel::dsl::{SqlTypeOf, sql};
use diesel::prelude::*;
use kms_core::{
    CampaignFailure, CampaignState, DeletionTarget, KeyVersionId, NewCampaign, RootKeyId, ScopeId,
};

use super::Conn;
use super::schema::{
    kms_campaign, kms_campaign_failure, kms_data_key, kms_data_key_version, kms_root_key,
    kms_root_key_version,
};
use crate::dialect::KeyTables;

/// Rows per statement, well below the 65,535 (Postgres) and 32,766 (SQLite) parameters of one.
const CHUNK: usize = 5_000;

impl KeyTables for Conn {
    fn owner(&mut self, id: &KeyVersionId) -> QueryResult<Option<String>> {
        match id {
            KeyVersionId::Root(id) => kms_root_key_version::table
                .inner_join(kms_root_key::table)
                .filter(kms_root_key_version::private_id.eq(id.as_str()))
                .select(kms_root_key::scope_id)
                .first(self),
            KeyVersionId::Data(id) => kms_data_key_version::table
                .inner_join(kms_data_key::table.inner_join(kms_root_key::table))
                .filter(kms_data_key_version::private_id.eq(id.as_str()))
                .select(kms_root_key::scope_id)
                .first(self),
        }
        .optional()
    }

    fn delete_target(
        &mut self,
        root_key: &RootKeyId,
        target: &DeletionTarget,
    ) -> QueryResult<usize> {
        match target {
            DeletionTarget::Scope => {
                diesel::delete(kms_root_key::table.find(root_key.as_str())).execute(self)
            }
            DeletionTarget::Version(KeyVersionId::Root(id)) => {
                diesel::delete(kms_root_key_version::table.find(id.as_str())).execute(self)
            }
            DeletionTarget::Version(KeyVersionId::Data(id)) => {
                diesel::delete(kms_data_key_version::table.find(id.as_str())).execute(self)
            }
        }
    }

    fn insert_campaign(&mut self, new: &NewCampaign) -> QueryResult<()> {
        diesel::insert_into(kms_campaign::table)
            .values((
                kms_campaign::id.eq(&new.id),
                kms_campaign::kind.eq(new.kind),
                kms_campaign::parameters.eq(&new.parameters),
            ))
            .on_conflict_do_nothing()
            .execute(self)
            .map(drop)
    }

    fn campaign(&mut self, id: &str) -> QueryResult<Option<CampaignState>> {
        let found: Option<(String, String, Option<String>, i64, bool)> = kms_campaign::table
            .find(id)
            .select((
                kms_campaign::kind,
                kms_campaign::parameters,
                kms_campaign::cursor,
                kms_campaign::done_count,
                kms_campaign::finish_time.is_not_null(),
            ))
            .first(self)
            .optional()?;
        let Some((kind, parameters, cursor, done, finished)) = found else {
            return Ok(None);
        };
        let failures: Vec<(String, String, String)> = kms_campaign_failure::table
            .filter(kms_campaign_failure::campaign_id.eq(id))
            .order(kms_campaign_failure::scope_id)
            .select((
                kms_campaign_failure::scope_id,
                kms_campaign_failure::kind,
                kms_campaign_failure::message,
            ))
            .load(self)?;
        Ok(Some(CampaignState {
            kind,
            parameters,
            cursor: cursor.as_deref().map(ScopeId::from_stored),
            done: u64::try_from(done).unwrap_or_default(),
            finished,
            failures: failures
                .into_iter()
                .map(|(scope, kind, message)| CampaignFailure {
                    scope: ScopeId::from_stored(&scope),
                    kind,
                    message,
                })
                .collect(),
        }))
    }

    fn move_cursor(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
        to: &ScopeId,
    ) -> QueryResult<bool> {
        let unfinished = kms_campaign::table
            .find(campaign)
            .filter(kms_campaign::finish_time.is_null());
        let moved = kms_campaign::cursor.eq(to.as_str());
        let rows = match from {
            Some(from) => diesel::update(unfinished.filter(kms_campaign::cursor.eq(from.as_str())))
                .set(moved)
                .execute(self)?,
            None => diesel::update(unfinished.filter(kms_campaign::cursor.is_null()))
                .set(moved)
                .execute(self)?,
        };
        Ok(rows == 1)
    }

    fn finish_campaign(&mut self, campaign: &str, from: Option<&ScopeId>) -> QueryResult<bool> {
        let unfinished = kms_campaign::table
            .find(campaign)
            .filter(kms_campaign::finish_time.is_null());
        let finished = kms_campaign::finish_time.eq(sql::<SqlTypeOf<kms_campaign::finish_time>>(
            "current_timestamp",
        ));
        let rows = match from {
            Some(from) => diesel::update(unfinished.filter(kms_campaign::cursor.eq(from.as_str())))
                .set(finished)
                .execute(self)?,
            None => diesel::update(unfinished.filter(kms_campaign::cursor.is_null()))
                .set(finished)
                .execute(self)?,
        };
        Ok(rows == 1)
    }

    fn lock_campaign(&mut self, campaign: &str) -> QueryResult<bool> {
        diesel::update(kms_campaign::table.find(campaign))
            .set(kms_campaign::done_count.eq(kms_campaign::done_count))
            .execute(self)
            .map(|rows| rows == 1)
    }

    fn failed_scopes(&mut self, campaign: &str) -> QueryResult<HashSet<String>> {
        let scopes: Vec<String> = kms_campaign_failure::table
            .filter(kms_campaign_failure::campaign_id.eq(campaign))
            .select(kms_campaign_failure::scope_id)
            .load(self)?;
        Ok(scopes.into_iter().collect())
    }

    fn remove_failures(&mut self, campaign: &str, scopes: &[&str]) -> QueryResult<()> {
        for scopes in scopes.chunks(CHUNK) {
            diesel::delete(
                kms_campaign_failure::table
                    .filter(kms_campaign_failure::campaign_id.eq(campaign))
                    .filter(kms_campaign_failure::scope_id.eq_any(scopes)),
            )
            .execute(self)?;
        }
        Ok(())
    }

    fn insert_failures(&mut self, campaign: &str, failures: &[CampaignFailure]) -> QueryResult<()> {
        for failures in failures.chunks(CHUNK) {
            let values: Vec<_> = failures
                .iter()
                .map(|failure| {
                    (
                        kms_campaign_failure::campaign_id.eq(campaign),
                        kms_campaign_failure::scope_id.eq(failure.scope.as_str()),
                        kms_campaign_failure::kind.eq(&failure.kind),
                        kms_campaign_failure::message.eq(&failure.message),
                    )
                })
                .collect();
            diesel::insert_into(kms_campaign_failure::table)
                .values(&values)
                .execute(self)?;
        }
        Ok(())
    }

    fn add_done(&mut self, campaign: &str, count: i64) -> QueryResult<()> {
        diesel::update(kms_campaign::table.find(campaign))
            .set(kms_campaign::done_count.eq(kms_campaign::done_count + count))
            .execute(self)
            .map(drop)
    }
}
