//! A tenant, its keys and an encrypted row in one transaction of sqlx.
//!
//! ```sh
//! export APP_ROOT_KEY=$(openssl rand -hex 32) DATABASE_URL=postgres://app@localhost/app
//! cargo run --manifest-path examples/sqlx/Cargo.toml
//! ```
//!
//! The engine loads keys over a pool of its own. What changes them is one statement of the application's transaction.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use diesel::{Connection as _, PgConnection};
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, PostgresRepository, migrations};
use sqlx::postgres::PgPool;

const OIDC: Purpose = Purpose::from_static("oidc");

const TABLES: &str = "
create table if not exists organization (id text primary key);
create table if not exists oidc_client (
  id text primary key,
  organization_id text not null references organization (id),
  secret bytea not null,
  -- So that a key version can be revoked only when nothing needs it.
  key_version_id text not null references kms_data_key_version (private_id)
)";

#[tokio::main]
async fn main() -> Result<()> {
    let url = std::env::var("DATABASE_URL").context("DATABASE_URL")?;
    migrations::postgres::run(&mut PgConnection::establish(&url)?)?;
    let pool = PgPool::connect(&url).await?;
    sqlx::raw_sql(TABLES).execute(&pool).await?;

    let root = AeadWrapper::builder("local-2027")
        .key_from_env("APP_ROOT_KEY")
        .build()?;
    let kms = kms_kit::builder(Arc::new(PostgresRepository::builder(&url).build()?))
        .root_wrapper(Arc::new(root))
        .purposes([OIDC])
        .build()
        .await?;

    let organization = ScopeId::new("acme")?;
    register(&kms, &pool, &organization, "correct horse").await?;
    let secret = secret_of(&kms, &pool, &organization).await?;
    println!("the secret of acme is {:?}", String::from_utf8_lossy(&secret));
    Ok(())
}

/// Makes the organization, its keys, and a client with an encrypted secret: all of it, or nothing.
async fn register(kms: &Kms, pool: &PgPool, organization: &ScopeId, secret: &str) -> Result<()> {
    // The root wrapper is called here, while no transaction is open.
    let prepared = kms.prepare_create_keys(organization, &[OIDC]).await?;
    let key = prepared.wrapper(&OIDC)?;
    let client = format!("{organization}-client");
    let blob = key.encrypt_to_vec(secret.as_bytes(), client.as_bytes())?;

    let mut transaction = pool.begin().await?;
    sqlx::query("insert into organization (id) values ($1)")
        .bind(organization.as_str())
        .execute(&mut *transaction)
        .await?;
    sqlx::query("select kms_apply_creation($1::jsonb)")
        .bind(prepared.change_set().to_json())
        .execute(&mut *transaction)
        .await?;
    sqlx::query(
        "insert into oidc_client (id, organization_id, secret, key_version_id) values ($1, $2, $3, $4)",
    )
    .bind(&client)
    .bind(organization.as_str())
    .bind(blob)
    .bind(key.key_version_id().as_str())
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(())
}

async fn secret_of(kms: &Kms, pool: &PgPool, organization: &ScopeId) -> Result<Vec<u8>> {
    let (client, blob): (String, Vec<u8>) =
        sqlx::query_as("select id, secret from oidc_client where organization_id = $1")
            .bind(organization.as_str())
            .fetch_one(pool)
            .await?;
    let keys = kms.wrapper(organization, &OIDC).await?;
    Ok(keys.decrypt_encoded(&blob, client.as_bytes())?.expose().to_vec())
}
