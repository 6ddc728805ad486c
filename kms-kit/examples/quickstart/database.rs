//! The application's own tables and what it does with them, on a diesel connection of its own.

use diesel::prelude::*;
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use kms_kit::migrations::Combined;
use kms_kit::prelude::*;
use kms_kit::{KeyVersionId, Prepared, Receipt};

use super::Result;

diesel::table! {
    organization (id) {
        id -> Text,
    }
}

diesel::table! {
    oidc_client (id) {
        id -> Text,
        organization_id -> Text,
        secret -> Binary,
        key_version_id -> Text,
    }
}

/// A row with an encrypted secret. `key_version_id` references `kms_data_key_version`.
#[derive(Clone, Debug, Insertable, Queryable)]
#[diesel(table_name = oidc_client)]
pub(crate) struct Client {
    pub(crate) id: String,
    pub(crate) organization_id: String,
    pub(crate) secret: Vec<u8>,
    pub(crate) key_version_id: String,
}

pub(crate) trait Database {
    /// Runs our migrations and the application's as one sequence. Gives the names of those that ran.
    fn migrate(&mut self) -> Result<Vec<String>>;

    /// One transaction: a new organization, its keys, and a client whose secret one of these keys encrypted.
    fn found(
        &mut self,
        organization: &str,
        keys: &Prepared,
        client: &Client,
    ) -> Result<Vec<Receipt>>;

    fn insert_client(&mut self, client: &Client) -> Result<()>;

    fn client(&mut self, id: &str) -> Result<Client>;

    fn replace_secret(&mut self, client: &Client) -> Result<()>;

    /// What somebody with access to the database could do.
    fn copy_wrapped_key(&mut self, from: &KeyVersionId, to: &KeyVersionId) -> Result<()>;

    fn delete_organization(&mut self, id: &str) -> Result<()>;

    fn organizations(&mut self) -> Result<Vec<String>>;
}

/// The same code for each database; diesel checks it against both.
macro_rules! implement {
    ($connection:ty, $database:ident, $migrations:literal, $transaction:ident) => {
        impl Database for $connection {
            fn migrate(&mut self) -> Result<Vec<String>> {
                const APPLICATION: EmbeddedMigrations = embed_migrations!($migrations);
                let source = Combined::new(APPLICATION);
                let ran = kms_kit::migrations::$database::run_with(self, &source)?;
                Ok(ran.iter().map(ToString::to_string).collect())
            }

            fn found(
                &mut self,
                organization: &str,
                keys: &Prepared,
                client: &Client,
            ) -> Result<Vec<Receipt>> {
                self.$transaction(|connection| {
                    diesel::insert_into(organization::table)
                        .values(organization::id.eq(organization))
                        .execute(connection)?;
                    let receipts = connection.apply_changes(&[keys.change_set()])?;
                    connection.insert_client(client)?;
                    Ok(receipts)
                })
            }

            fn insert_client(&mut self, client: &Client) -> Result<()> {
                diesel::insert_into(oidc_client::table)
                    .values(client)
                    .execute(self)?;
                Ok(())
            }

            fn client(&mut self, id: &str) -> Result<Client> {
                Ok(oidc_client::table.find(id).first(self)?)
            }

            fn replace_secret(&mut self, client: &Client) -> Result<()> {
                diesel::update(oidc_client::table.find(&client.id))
                    .set((
                        oidc_client::secret.eq(&client.secret),
                        oidc_client::key_version_id.eq(&client.key_version_id),
                    ))
                    .execute(self)?;
                Ok(())
            }

            fn copy_wrapped_key(&mut self, from: &KeyVersionId, to: &KeyVersionId) -> Result<()> {
                diesel::sql_query(format!(
                    "update kms_data_key_version set key = \
                     (select key from kms_data_key_version where private_id = '{from}') \
                     where private_id = '{to}'"
                ))
                .execute(self)?;
                Ok(())
            }

            fn delete_organization(&mut self, id: &str) -> Result<()> {
                diesel::delete(organization::table.find(id)).execute(self)?;
                Ok(())
            }

            fn organizations(&mut self) -> Result<Vec<String>> {
                Ok(organization::table.select(organization::id).load(self)?)
            }
        }
    };
}

#[cfg(feature = "sqlite")]
implement!(
    SqliteConnection,
    sqlite,
    "examples/quickstart/migrations/sqlite",
    immediate_transaction
);
#[cfg(feature = "postgres")]
implement!(
    PgConnection,
    postgres,
    "examples/quickstart/migrations/postgres",
    transaction
);
