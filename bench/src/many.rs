//! Databases of very many scopes, in minutes rather than hours.
//!
//! The keys are made by the engine, on a repository in memory: they are bound to their rows and open as any other.
//! Only their way into the database is shorter than the engine's: the rows are copied as they are, with triggers
//! and foreign keys looking away.

use std::sync::Arc;

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection as _;
use diesel::sql_types::{Array, BigInt, Binary, Text};
use diesel::{Connection as _, PgConnection, RunQueryDsl as _};
use kms_kit::core::{MemoryRepository, ScopeRows};
use kms_kit::{Repository, Rewrap, ScopeId, Wrapper};
use tokio::sync::mpsc;

use crate::world::{builder, create_together};

/// Scopes that are made and copied at once.
const BATCH: usize = 250;

const ROOT_KEYS: &str = "\
insert into kms_root_key (private_id, scope_id)
select * from unnest($1::text[], $2::text[])";

const ROOT_KEY_VERSIONS: &str = "\
insert into kms_root_key_version (private_id, root_key_id, version, key)
select * from unnest($1::text[], $2::text[], $3::int8[], $4::bytea[])";

const DATA_KEYS: &str = "\
insert into kms_data_key (private_id, root_key_id, purpose)
select * from unnest($1::text[], $2::text[], $3::text[])";

const DATA_KEY_VERSIONS: &str = "\
insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, version, key)
select * from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::bytea[])";

/// Fills an empty Postgres database with scopes of the [`PURPOSES`](crate::world::PURPOSES), so many, of so many versions of each key; and
/// gathers statistics, as autovacuum would within a minute.
///
/// # Errors
///
/// Those of the database, as if the user is no superuser.
pub async fn fill(
    url: &str,
    root: &Arc<dyn Wrapper>,
    scopes: usize,
    versions: usize,
) -> Result<()> {
    let (sender, mut made) = mpsc::channel(2);
    let root = Arc::clone(root);
    let maker = tokio::spawn(async move {
        for first in (0..scopes).step_by(BATCH) {
            let last = (first + BATCH).min(scopes) - 1;
            let rows = make(&root, first..=last, versions).await?;
            if sender.send(rows).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    });
    let mut connection = PgConnection::establish(url)?;
    connection
        .batch_execute("set session_replication_role = replica")
        .context("only a superuser may pass by the triggers")?;
    while let Some(rows) = made.recv().await {
        tokio::task::block_in_place(|| copy(&mut connection, &rows))?;
    }
    maker.await??;
    for table in [
        "kms_root_key",
        "kms_root_key_version",
        "kms_data_key",
        "kms_data_key_version",
    ] {
        connection.batch_execute(&format!("vacuum (analyze) {table}"))?;
    }
    Ok(())
}

async fn make(
    root: &Arc<dyn Wrapper>,
    numbers: std::ops::RangeInclusive<usize>,
    versions: usize,
) -> Result<Vec<ScopeRows>> {
    let repository: Arc<dyn Repository> = Arc::new(MemoryRepository::new());
    let kms = builder(Arc::clone(&repository), root).build().await?;
    let scopes: Vec<ScopeId> = create_together(&kms, &repository, numbers).await?;
    for scope in &scopes {
        for _ in 1..versions {
            kms.rotate_keys(scope, Rewrap::No).await?;
        }
    }
    Ok(repository.load(&scopes).await?.scopes)
}

fn copy(connection: &mut PgConnection, scopes: &[ScopeRows]) -> Result<()> {
    let root_keys = scopes.iter().map(|scope| scope.root_key.as_str());
    diesel::sql_query(ROOT_KEYS)
        .bind::<Array<Text>, _>(root_keys.collect::<Vec<_>>())
        .bind::<Array<Text>, _>(scopes.iter().map(|s| s.scope.as_str()).collect::<Vec<_>>())
        .execute(connection)?;

    let versions: Vec<_> = scopes
        .iter()
        .flat_map(|scope| scope.root_key_versions.iter().map(move |v| (scope, v)))
        .collect();
    diesel::sql_query(ROOT_KEY_VERSIONS)
        .bind::<Array<Text>, _>(of(&versions, |(_, version)| version.id.as_str()))
        .bind::<Array<Text>, _>(of(&versions, |(scope, _)| scope.root_key.as_str()))
        .bind::<Array<BigInt>, _>(of(&versions, |(_, version)| version.version))
        .bind::<Array<Binary>, _>(of(&versions, |(_, version)| version.key.as_slice()))
        .execute(connection)?;

    let keys: Vec<_> = scopes
        .iter()
        .flat_map(|scope| scope.data_keys.iter().map(move |key| (scope, key)))
        .collect();
    diesel::sql_query(DATA_KEYS)
        .bind::<Array<Text>, _>(of(&keys, |(_, key)| key.id.as_str()))
        .bind::<Array<Text>, _>(of(&keys, |(scope, _)| scope.root_key.as_str()))
        .bind::<Array<Text>, _>(of(&keys, |(_, key)| key.purpose.as_str()))
        .execute(connection)?;

    let versions: Vec<_> = keys
        .iter()
        .flat_map(|(_, key)| key.versions.iter().map(move |version| (*key, version)))
        .collect();
    diesel::sql_query(DATA_KEY_VERSIONS)
        .bind::<Array<Text>, _>(of(&versions, |(_, version)| version.id.as_str()))
        .bind::<Array<Text>, _>(of(&versions, |(key, _)| key.id.as_str()))
        .bind::<Array<Text>, _>(of(&versions, |(_, v)| v.root_key_version.as_str()))
        .bind::<Array<BigInt>, _>(of(&versions, |(_, version)| version.version))
        .bind::<Array<Binary>, _>(of(&versions, |(_, version)| version.key.as_slice()))
        .execute(connection)?;
    Ok(())
}

/// A column of some rows.
fn of<'a, R, T>(rows: &'a [R], value: impl Fn(&'a R) -> T) -> Vec<T> {
    rows.iter().map(value).collect()
}
