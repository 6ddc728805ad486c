//! The statements of campaigns, which read the same for both databases. Compiled once per database, as a child of its
//! module, like `key_tables.rs`; `super::lease_end` and `super::LEASE_IS_OVER` are that database's words.

use std::collections::HashSet;

use diesel::dsl::{SqlTypeOf, sql};
use diesel::prelude::*;
use diesel::sql_types::Bool;
use kms_core::{
    CampaignFailure, CampaignState, CampaignSummary, Hold, Lease, NewCampaign, ScopeId,
};

use super::schema::{kms_campaign, kms_campaign_failure};
use super::{Conn, LEASE_IS_OVER, RunQueryDsl, lease_end};
use crate::dialect::CampaignTables;
use crate::stored_time::StoredTime;

/// Rows per statement, well below the 65,535 (Postgres) and 32,766 (SQLite) parameters of one.
const CHUNK: usize = 5_000;

#[derive(Queryable)]
struct CampaignRecord {
    kind: String,
    parameters: String,
    cursor: Option<String>,
    done: i64,
    unchanged: i64,
    total: i64,
    finish_time: Option<StoredTime>,
    holder: Option<String>,
}

#[derive(Queryable)]
struct SummaryRecord {
    id: String,
    kind: String,
    parameters: String,
    done: i64,
    unchanged: i64,
    total: i64,
    create_time: StoredTime,
    update_time: StoredTime,
    finish_time: Option<StoredTime>,
}

impl CampaignTables for Conn {
    async fn insert_campaign(&mut self, new: &NewCampaign, lease: &Lease) -> QueryResult<()> {
        diesel::insert_into(kms_campaign::table)
            .values((
                kms_campaign::id.eq(&new.id),
                kms_campaign::kind.eq(new.kind),
                kms_campaign::parameters.eq(&new.parameters),
                kms_campaign::total_count.eq(to_stored(new.total)),
                kms_campaign::holder.eq(&lease.holder),
                kms_campaign::lease_end.eq(lease_end(lease.length)),
            ))
            .on_conflict_do_nothing()
            .execute(self)
            .await
            .map(drop)
    }

    async fn campaign(&mut self, id: &str) -> QueryResult<Option<CampaignState>> {
        let found: Option<CampaignRecord> = kms_campaign::table
            .find(id)
            .select((
                kms_campaign::kind,
                kms_campaign::parameters,
                kms_campaign::cursor,
                kms_campaign::done_count,
                kms_campaign::unchanged_count,
                kms_campaign::total_count,
                kms_campaign::finish_time,
                kms_campaign::holder,
            ))
            .first(self)
            .await
            .optional()?;
        let Some(record) = found else {
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
            .load(self)
            .await?;
        Ok(Some(CampaignState {
            kind: record.kind,
            parameters: record.parameters,
            cursor: record.cursor.as_deref().map(ScopeId::from_stored),
            done: from_stored(record.done),
            unchanged: from_stored(record.unchanged),
            total: from_stored(record.total),
            finish_time: record
                .finish_time
                .map(|time| StoredTime::or_epoch(Some(time))),
            holder: record.holder,
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

    async fn campaigns(&mut self) -> QueryResult<Vec<CampaignSummary>> {
        let failed: Vec<(String, i64)> = kms_campaign_failure::table
            .group_by(kms_campaign_failure::campaign_id)
            .select((kms_campaign_failure::campaign_id, diesel::dsl::count_star()))
            .load(self)
            .await?;
        let records: Vec<SummaryRecord> = kms_campaign::table
            .order((kms_campaign::create_time, kms_campaign::id))
            .select((
                kms_campaign::id,
                kms_campaign::kind,
                kms_campaign::parameters,
                kms_campaign::done_count,
                kms_campaign::unchanged_count,
                kms_campaign::total_count,
                kms_campaign::create_time,
                kms_campaign::update_time,
                kms_campaign::finish_time,
            ))
            .load(self)
            .await?;
        let summary = |record: SummaryRecord| {
            let failed = failed.iter().find(|(id, _)| *id == record.id);
            let mut summary = CampaignSummary::new(
                record.id,
                record.kind,
                record.parameters,
                from_stored(record.total),
            );
            summary.done = from_stored(record.done);
            summary.unchanged = from_stored(record.unchanged);
            summary.failed = failed.map_or(0, |(_, count)| from_stored(*count));
            summary.create_time = StoredTime::or_epoch(Some(record.create_time));
            summary.update_time = StoredTime::or_epoch(Some(record.update_time));
            summary.finish_time = record
                .finish_time
                .map(|time| StoredTime::or_epoch(Some(time)));
            summary
        };
        Ok(records.into_iter().map(summary).collect())
    }

    async fn hold_campaign(&mut self, id: &str, lease: &Lease, hold: Hold) -> QueryResult<bool> {
        let held = (
            kms_campaign::holder.eq(Some(&lease.holder)),
            kms_campaign::lease_end.eq(lease_end(lease.length)),
        );
        let campaign = kms_campaign::table.find(id);
        let ours = kms_campaign::holder.eq(&lease.holder);
        let free = kms_campaign::holder
            .is_null()
            .or(sql::<Bool>(LEASE_IS_OVER));
        let rows = match hold {
            Hold::Keep => {
                diesel::update(campaign.filter(ours))
                    .set(held)
                    .execute(self)
                    .await?
            }
            Hold::Take => {
                diesel::update(campaign.filter(ours.or(free)))
                    .set(held)
                    .execute(self)
                    .await?
            }
        };
        Ok(rows == 1)
    }

    async fn release_campaign(&mut self, id: &str, holder: &str) -> QueryResult<()> {
        diesel::update(
            kms_campaign::table
                .find(id)
                .filter(kms_campaign::holder.eq(holder)),
        )
        .set(kms_campaign::holder.eq(None::<&str>))
        .execute(self)
        .await
        .map(drop)
    }

    async fn move_cursor(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
        to: &ScopeId,
    ) -> QueryResult<bool> {
        let unfinished = kms_campaign::table
            .find(campaign)
            .filter(kms_campaign::finish_time.is_null());
        let update = diesel::update(unfinished)
            .set(kms_campaign::cursor.eq(to.as_str()))
            .into_boxed();
        let update = match from {
            Some(from) => update.filter(kms_campaign::cursor.eq(from.as_str())),
            None => update.filter(kms_campaign::cursor.is_null()),
        };
        update.execute(self).await.map(|rows| rows == 1)
    }

    async fn finish_campaign(
        &mut self,
        campaign: &str,
        from: Option<&ScopeId>,
    ) -> QueryResult<bool> {
        let unfinished = kms_campaign::table
            .find(campaign)
            .filter(kms_campaign::finish_time.is_null());
        let now = sql::<SqlTypeOf<kms_campaign::finish_time>>("current_timestamp");
        let update = diesel::update(unfinished)
            .set((
                kms_campaign::finish_time.eq(now),
                kms_campaign::holder.eq(None::<&str>),
            ))
            .into_boxed();
        let update = match from {
            Some(from) => update.filter(kms_campaign::cursor.eq(from.as_str())),
            None => update.filter(kms_campaign::cursor.is_null()),
        };
        update.execute(self).await.map(|rows| rows == 1)
    }

    async fn failed_scopes(&mut self, campaign: &str) -> QueryResult<HashSet<String>> {
        let scopes: Vec<String> = kms_campaign_failure::table
            .filter(kms_campaign_failure::campaign_id.eq(campaign))
            .select(kms_campaign_failure::scope_id)
            .load(self)
            .await?;
        Ok(scopes.into_iter().collect())
    }

    async fn remove_failures(&mut self, campaign: &str, scopes: &[&str]) -> QueryResult<()> {
        for scopes in scopes.chunks(CHUNK) {
            diesel::delete(
                kms_campaign_failure::table
                    .filter(kms_campaign_failure::campaign_id.eq(campaign))
                    .filter(kms_campaign_failure::scope_id.eq_any(scopes)),
            )
            .execute(self)
            .await?;
        }
        Ok(())
    }

    async fn insert_failures(
        &mut self,
        campaign: &str,
        failures: &[CampaignFailure],
    ) -> QueryResult<()> {
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
                .execute(self)
                .await?;
        }
        Ok(())
    }

    async fn add_counts(&mut self, campaign: &str, done: u64, unchanged: u64) -> QueryResult<()> {
        diesel::update(kms_campaign::table.find(campaign))
            .set((
                kms_campaign::done_count.eq(kms_campaign::done_count + to_stored(done)),
                kms_campaign::unchanged_count
                    .eq(kms_campaign::unchanged_count + to_stored(unchanged)),
            ))
            .execute(self)
            .await
            .map(drop)
    }
}

fn to_stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn from_stored(count: i64) -> u64 {
    u64::try_from(count).unwrap_or_default()
}
