//! A tenant, its keys and an encrypted row in one transaction of the application's, on its own pool of diesel-async.
//!
//! `DATABASE_URL=postgres://… APP_ROOT_KEY=$(openssl rand -hex 32) cargo run -p kms-kit --features diesel-async,postgres --example async_transaction`
#![allow(missing_docs, reason = "of what diesel makes of the tables")]

use std::error::Error;
use std::sync::Arc;

use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel_async::pooled_connection::AsyncDieselConnectionManager;
use diesel_async::pooled_connection::deadpool::Pool;
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use kms_kit::{
    AeadWrapper, AsyncKeyConnection as _, AsyncPostgresRepository, Blob, Kms, Purpose, Receipt,
    ScopeId, migrations,
};

const OIDC: Purpose = Purpose::from_static("oidc");

diesel::table! {
    organization (id) { id -> Text, }
}

diesel::table! {
    oidc_client (id) { id -> Text, organization_id -> Text, secret -> Bytea, key_version_id -> Text, }
}

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let root = AeadWrapper::builder("local-2027")
        .key_from_env("APP_ROOT_KEY")
        .build()?;
    run(&std::env::var("DATABASE_URL")?, root).await
}

async fn run(url: &str, root: AeadWrapper) -> Result<(), Failure> {
    // When deploying, with libpq or by hand.
    set_up(&mut PgConnection::establish(url)?)?;

    // One pool for the application and for the engine.
    let manager = AsyncDieselConnectionManager::<AsyncPgConnection>::new(url);
    let pool = Pool::builder(manager).max_size(8).build()?;
    let repository = AsyncPostgresRepository::from_pool(pool.clone());
    let kms = kms_kit::builder(Arc::new(repository))
        .root_wrapper(Arc::new(root))
        .purposes([OIDC])
        .build()
        .await?;

    let tenant = ScopeId::new("o_1")?;
    create_tenant(&kms, &pool, &tenant, b"client secret").await?;

    let stored: Vec<u8> = oidc_client::table
        .select(oidc_client::secret)
        .first(&mut pool.get().await?)
        .await?;
    let blob = Blob::decode(&stored)?;
    let secret = kms.decrypt(&tenant, &OIDC, &blob, b"client:c_1").await?;
    assert_eq!(secret.expose(), b"client secret");
    Ok(())
}

async fn create_tenant(
    kms: &Kms,
    pool: &Pool<AsyncPgConnection>,
    tenant: &ScopeId,
    secret: &[u8],
) -> Result<(), Failure> {
    // The root wrapper is called here, before the transaction.
    let keys = kms.prepare_create_keys(tenant, &[OIDC]).await?;
    let wrapper = keys.wrapper(&OIDC)?;
    let encrypted = wrapper.encrypt(secret, b"client:c_1")?.encode();
    let version = wrapper.key_version_id().to_string();
    let receipts: Result<Vec<Receipt>, Failure> = pool
        .get()
        .await?
        .transaction(async |connection| {
            diesel::insert_into(organization::table)
                .values(organization::id.eq(tenant.as_str()))
                .execute(connection)
                .await?;
            let receipts = connection.apply_changes(&[keys.change_set()]).await?;
            diesel::insert_into(oidc_client::table)
                .values((
                    oidc_client::id.eq("c_1"),
                    oidc_client::organization_id.eq(tenant.as_str()),
                    oidc_client::secret.eq(&encrypted),
                    oidc_client::key_version_id.eq(&version),
                ))
                .execute(connection)
                .await?;
            Ok(receipts)
        })
        .await;
    kms.accept(&receipts?);
    Ok(())
}

fn set_up(connection: &mut PgConnection) -> Result<(), Failure> {
    migrations::postgres::run(connection)?;
    connection.batch_execute(
        "create table organization (id text primary key);
         alter table kms_root_key add foreign key (scope_id)
           references organization (id) on delete cascade;
         create table oidc_client (
           id text primary key,
           organization_id text not null references organization (id) on delete cascade,
           secret bytea not null,
           key_version_id text not null references kms_data_key_version (private_id)
             deferrable initially deferred);",
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::env;

    use super::*;

    #[tokio::test]
    async fn it_runs_on_postgres() {
        let Ok(server) = env::var("KMS_TEST_POSTGRES_URL") else {
            let required = env::var("KMS_TEST_REQUIRE").unwrap_or_default();
            assert!(!required.split(',').any(|name| name.trim() == "postgres"));
            eprintln!("skipped: postgres (KMS_TEST_POSTGRES_URL is not set)");
            return;
        };
        let name = format!("kms_async_{}", std::process::id());
        let mut connection = PgConnection::establish(&server).unwrap();
        connection
            .batch_execute(&format!("create database {name}"))
            .unwrap();
        let (address, parameters) = server.split_once('?').unwrap_or((&server, ""));
        let (authority, _) = address.rsplit_once('/').unwrap();
        let url = format!("{authority}/{name}?{parameters}");
        let root = AeadWrapper::builder("local-2027")
            .key_text(&"07".repeat(32))
            .build()
            .unwrap();
        let result = run(&url, root).await;
        connection
            .batch_execute(&format!("drop database {name} with (force)"))
            .unwrap();
        result.unwrap();
    }
}
