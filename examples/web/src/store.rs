//! The application's own tables, on its own connections.

use std::time::Duration;

use anyhow::{Context as _, Result};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use kms_kit::migrations::Combined;
use kms_kit::prelude::*;
use kms_kit::{Prepared, Receipt};

use crate::failure::Failure;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

diesel::table! {
    tenant (id) {
        id -> Text,
    }
}

diesel::table! {
    secret (tenant_id, name) {
        tenant_id -> Text,
        name -> Text,
        blob -> Binary,
        key_version_id -> Text,
    }
}

/// A secret as it lies in the database.
#[derive(Insertable, AsChangeset)]
#[diesel(table_name = secret)]
pub(crate) struct SecretRow {
    pub(crate) tenant_id: String,
    pub(crate) name: String,
    pub(crate) blob: Vec<u8>,
    pub(crate) key_version_id: String,
}

/// The database, for the application's part in it.
#[derive(Clone)]
pub(crate) struct Store(Pool<ConnectionManager<SqliteConnection>>);

impl Store {
    /// Opens the file and runs the migrations, the application's and ours, as one sequence.
    pub(crate) fn open(path: &str) -> Result<Self> {
        let pool = Pool::builder()
            .max_size(4)
            .connection_timeout(Duration::from_secs(5))
            .connection_customizer(Box::new(Pragmas))
            .build(ConnectionManager::new(path))
            .context("can't open the database")?;
        let mut connection = pool.get()?;
        kms_kit::migrations::sqlite::run_with(&mut connection, &Combined::new(MIGRATIONS))?;
        drop(connection);
        Ok(Self(pool))
    }

    /// One transaction: a tenant and its keys.
    pub(crate) async fn found(
        &self,
        scope: &ScopeId,
        keys: Prepared,
    ) -> Result<Vec<Receipt>, Failure> {
        let id = scope.to_string();
        self.run(move |connection| {
            connection.immediate_transaction(|connection| {
                diesel::insert_into(tenant::table)
                    .values(tenant::id.eq(id))
                    .execute(connection)?;
                Ok(connection.apply_changes(&[keys.change_set()])?)
            })
        })
        .await
    }

    /// A tenant with all its keys and secrets; `false` if there is none.
    pub(crate) async fn delete(&self, scope: &ScopeId) -> Result<bool, Failure> {
        let id = scope.to_string();
        self.run(move |connection| {
            Ok(diesel::delete(tenant::table.find(id)).execute(connection)? > 0)
        })
        .await
    }

    pub(crate) async fn put(&self, row: SecretRow) -> Result<(), Failure> {
        self.run(move |connection| {
            diesel::insert_into(secret::table)
                .values(&row)
                .on_conflict((secret::tenant_id, secret::name))
                .do_update()
                .set(&row)
                .execute(connection)?;
            Ok(())
        })
        .await
    }

    pub(crate) async fn get(
        &self,
        scope: &ScopeId,
        name: String,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let id = scope.to_string();
        self.run(move |connection| {
            let row = secret::table.find((id, name)).select(secret::blob);
            Ok(row.first(connection).optional()?)
        })
        .await
    }

    /// Diesel blocks: its work runs where that is allowed.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Failure> {
        let pool = self.0.clone();
        tokio::task::spawn_blocking(move || {
            let mut connection = pool
                .get()
                .map_err(|error| Failure::Internal(error.into()))?;
            work(&mut connection)
        })
        .await
        .unwrap_or_else(|error| Err(Failure::Internal(error.into())))
    }
}

/// SQLite enforces foreign keys only where this was said.
#[derive(Debug)]
struct Pragmas;

impl CustomizeConnection<SqliteConnection, diesel::r2d2::Error> for Pragmas {
    fn on_acquire(&self, connection: &mut SqliteConnection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute(
                "pragma busy_timeout = 5000; pragma journal_mode = wal; pragma foreign_keys = on;",
            )
            .map_err(diesel::r2d2::Error::QueryError)
    }
}
