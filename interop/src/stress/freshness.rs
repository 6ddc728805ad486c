//! Watches the promise: what was committed is seen at most the freshness later, whoever committed it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use kms_kit::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::block_in_place;

use super::{FRESHNESS, OF_GO_ALONE, Shared};
use crate::engine::PURPOSES;

/// What is counted when the engine encrypted with the version that was to be seen, or a newer one.
pub(crate) const WATCHED: &str = "freshness watched";
/// What is counted when that version was Go's, and came after the one that the engine had handed out.
pub(crate) const SAW_GO_ROTATE: &str = "a rotation by Go seen";

/// A version of a data key, as it is in the database.
#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    data_key_id: String,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

const NEWEST: &str = "
    select v.data_key_id::text, v.private_id::text as id, v.version::bigint from kms_data_key_version v
      join kms_data_key d on d.private_id = v.data_key_id
      join kms_root_key r on r.private_id = d.root_key_id
     where r.scope_id = $1 and d.purpose = $2 order by v.version desc limit 1";

const BY_ID: &str = "
    select data_key_id::text, private_id::text as id, version::bigint
      from kms_data_key_version where private_id = $1";

const OF_KEY: &str = "
    select data_key_id::text, private_id::text as id, version::bigint
      from kms_data_key_version where data_key_id = $1 limit 1";

/// Looks in turn at the scope that Go alone changes, and at any.
pub(crate) async fn watch(shared: Arc<Shared>, seed: u64) -> Result<()> {
    let mut watch = Watch {
        connection: PgConnection::establish(&shared.plan.address)?,
        shared,
    };
    let mut random = StdRng::seed_from_u64(seed);
    while watch.shared.goes_on() {
        let purpose = &PURPOSES[random.random_range(0..PURPOSES.len())];
        watch.a_rotation_by_go(purpose).await?;
        let number = random.random_range(0..watch.shared.plan.stable + watch.shared.plan.volatile);
        let name = match number.checked_sub(watch.shared.plan.stable) {
            None => format!("stable_{number}"),
            Some(number) => format!("volatile_{number}"),
        };
        let scope = ScopeId::new(&name)?;
        // In the cache, so that there is something that can be out of date.
        let _ = watch.shared.kms.wrapper(&scope, purpose).await;
        let Some(seen) = watch.newest(&name, purpose)? else {
            continue;
        };
        watch
            .is_seen_in_time(&scope, purpose, &seen, Instant::now())
            .await?;
    }
    Ok(())
}

struct Watch {
    shared: Arc<Shared>,
    connection: PgConnection,
}

impl Watch {
    /// Has the engine hand a wrapper out, waits until Go has committed a newer version, and holds the engine to it.
    async fn a_rotation_by_go(&mut self, purpose: &Purpose) -> Result<()> {
        let scope = ScopeId::new(OF_GO_ALONE)?;
        let handed_out = match self.shared.kms.wrapper(&scope, purpose).await {
            Ok(wrapper) => wrapper.key_version_id().to_string(),
            Err(error) => {
                self.shared.failed("encrypt", OF_GO_ALONE, error);
                return Ok(());
            }
        };
        let Some(old) = self.find(BY_ID, &handed_out)? else {
            self.shared
                .stale(OF_GO_ALONE, format!("{handed_out} is not there"));
            return Ok(());
        };
        while self.shared.goes_on() {
            if let Some(seen) = self.newest(OF_GO_ALONE, purpose)?
                && seen.version > old.version
            {
                let in_time = self
                    .is_seen_in_time(&scope, purpose, &seen, Instant::now())
                    .await?;
                if in_time {
                    self.shared.did(SAW_GO_ROTATE);
                }
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        Ok(())
    }

    /// Whether the engine, asked when the freshness is over since this version was seen committed, encrypts with it
    /// or a newer one.
    async fn is_seen_in_time(
        &mut self,
        scope: &ScopeId,
        purpose: &Purpose,
        seen: &Version,
        committed_by: Instant,
    ) -> Result<bool> {
        tokio::time::sleep_until((committed_by + FRESHNESS).into()).await;
        let wrapper = match self.shared.kms.wrapper(scope, purpose).await {
            Ok(wrapper) => wrapper,
            // That the scope went is for the worker to judge.
            Err(_) if scope.as_str().starts_with("volatile") => return Ok(false),
            Err(error) => {
                self.shared.failed("encrypt", scope.as_str(), error);
                return Ok(false);
            }
        };
        let id = wrapper.key_version_id().to_string();
        let stale = match self.find(BY_ID, &id)? {
            // A version of a scope that went, although the one that came after it was there all the time.
            None => self.find(OF_KEY, &seen.data_key_id)?.is_some(),
            Some(used) => used.data_key_id == seen.data_key_id && used.version < seen.version,
        };
        if stale {
            let why = format!("{id} is older than {}, number {}", seen.id, seen.version);
            self.shared.stale(scope.as_str(), why);
        } else {
            self.shared.did(WATCHED);
        }
        Ok(!stale)
    }

    fn newest(&mut self, scope: &str, purpose: &Purpose) -> Result<Option<Version>> {
        let query = diesel::sql_query(NEWEST)
            .bind::<Text, _>(scope)
            .bind::<Text, _>(purpose.as_str());
        Ok(block_in_place(|| {
            query.get_result(&mut self.connection).optional()
        })?)
    }

    fn find(&mut self, query: &str, id: &str) -> Result<Option<Version>> {
        let query = diesel::sql_query(query).bind::<Text, _>(id);
        Ok(block_in_place(|| {
            query.get_result(&mut self.connection).optional()
        })?)
    }
}
