//! Watches the promise: what was committed is seen at most the freshness later, whoever committed it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use kms_kit::prelude::*;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::block_in_place;

use super::{FRESHNESS, Shared};
use crate::engine::PURPOSES;

/// A version of a data key, as it is in the database.
#[derive(QueryableByName)]
struct Version {
    #[diesel(sql_type = Text)]
    data_key_id: String,
    #[diesel(sql_type = BigInt)]
    version: i64,
}

const NEWEST: &str = "
    select v.data_key_id::text, v.version::bigint from kms_data_key_version v
      join kms_data_key d on d.private_id = v.data_key_id
      join kms_root_key r on r.private_id = d.root_key_id
     where r.scope_id = $1 and d.purpose = $2 order by v.version desc limit 1";

const BY_ID: &str = "
    select data_key_id::text, version::bigint from kms_data_key_version where private_id = $1";

const OF_KEY: &str = "
    select data_key_id::text, version::bigint from kms_data_key_version where data_key_id = $1 limit 1";

/// Reads the newest version of some key, waits the freshness, and holds what the engine encrypts with then
/// against it.
pub(crate) async fn watch(shared: Arc<Shared>, seed: u64) -> Result<()> {
    let mut connection = PgConnection::establish(&shared.plan.address)?;
    let mut random = StdRng::seed_from_u64(seed);
    while shared.goes_on() {
        let number = random.random_range(0..shared.plan.stable + shared.plan.volatile);
        let name = match number.checked_sub(shared.plan.stable) {
            None => format!("stable_{number}"),
            Some(number) => format!("volatile_{number}"),
        };
        let scope = ScopeId::new(&name)?;
        let purpose = &PURPOSES[random.random_range(0..PURPOSES.len())];
        // In the cache, so that there is something that can be out of date.
        let _ = shared.kms.wrapper(&scope, purpose).await;
        let query = diesel::sql_query(NEWEST)
            .bind::<Text, _>(&name)
            .bind::<Text, _>(purpose.as_str());
        let seen: Option<Version> =
            block_in_place(|| query.get_result(&mut connection).optional())?;
        let committed_by = Instant::now();
        let Some(seen) = seen else { continue };
        tokio::time::sleep_until((committed_by + FRESHNESS).into()).await;

        let Ok(wrapper) = shared.kms.wrapper(&scope, purpose).await else {
            // A worker would have reported it, unless the scope went.
            continue;
        };
        let mut find = |query: &str, id: &str| -> Result<Option<Version>> {
            let query = diesel::sql_query(query).bind::<Text, _>(id);
            Ok(block_in_place(|| {
                query.get_result(&mut connection).optional()
            })?)
        };
        let used = find(BY_ID, wrapper.key_version_id().as_str())?;
        let stale = match used {
            // A version of a scope that went, although the one that came after it was there all the time.
            None => find(OF_KEY, &seen.data_key_id)?.is_some(),
            Some(used) => used.data_key_id == seen.data_key_id && used.version < seen.version,
        };
        if stale {
            let id = wrapper.key_version_id();
            shared.failed(
                "freshness",
                &name,
                format!("{id} is older than version {}", seen.version),
            );
        } else {
            shared.did("freshness watched");
        }
    }
    Ok(())
}
