//! One worker: chooses an operation, does it, and knows which failures are none.

use std::sync::Arc;

use anyhow::Result;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error as QueryError};
use diesel::sql_types::{BigInt, Binary, Text};
use kms_kit::prelude::*;
use kms_kit::{ErrorKind, RewrapKeys};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::block_in_place;

use super::{OF_GO_ALONE, Shared};
use crate::engine::PURPOSES;

/// How often an operation that lost against others is tried.
const ATTEMPTS: u32 = 10;

pub(crate) struct Worker {
    shared: Arc<Shared>,
    connection: PgConnection,
    random: StdRng,
}

/// A scope, and whether it stays.
struct Target {
    name: String,
    id: ScopeId,
    stable: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    purpose: String,
    #[diesel(sql_type = Binary)]
    aad: Vec<u8>,
    #[diesel(sql_type = Binary)]
    plaintext: Vec<u8>,
    #[diesel(sql_type = Binary)]
    blob: Vec<u8>,
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

impl Worker {
    pub(crate) fn new(shared: Arc<Shared>, seed: u64) -> Result<Self> {
        Ok(Self {
            connection: PgConnection::establish(&shared.plan.address)?,
            random: StdRng::seed_from_u64(seed),
            shared,
        })
    }

    pub(crate) async fn run(mut self) -> Result<()> {
        while self.shared.goes_on() {
            self.step().await?;
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<()> {
        let plan = &self.shared.plan;
        let number = self.random.random_range(0..plan.stable + plan.volatile);
        let stable = number < plan.stable;
        let name = if stable {
            format!("stable_{number}")
        } else {
            format!("volatile_{}", number - plan.stable)
        };
        let target = Target {
            id: ScopeId::new(&name)?,
            name,
            stable,
        };
        match self.random.random_range(0..100) {
            0..35 => self.encrypt(&target).await,
            35..75 => self.decrypt(&target).await,
            _ if target.name == OF_GO_ALONE => Ok(()),
            75..82 => self.rotate(&target, Rewrap::No).await,
            82..88 => self.rotate(&target, Rewrap::Yes).await,
            88..94 => self.rewrap(&target).await,
            _ if stable => Ok(()),
            94..97 => self.create(&target).await,
            _ => self.delete(&target),
        }
    }

    /// Writes a row as an application does.
    async fn encrypt(&mut self, target: &Target) -> Result<()> {
        let purpose = &PURPOSES[self.random.random_range(0..PURPOSES.len())];
        let mut plaintext = vec![0; self.random.random_range(1..2048)];
        self.random.fill(&mut plaintext);
        let aad = if self.random.random() {
            target.name.as_bytes()
        } else {
            b""
        };
        let wrapper = match self.shared.kms.wrapper(&target.id, purpose).await {
            Ok(wrapper) => wrapper,
            Err(error) => return self.excuse("encrypt", target, &error),
        };
        let blob = wrapper.encrypt(&plaintext, aad)?;
        let insert = diesel::sql_query(
            "insert into interop_record (organization_id, purpose, key_version_id, aad, plaintext, blob)
             values ($1, $2, $3, $4, $5, $6)",
        )
        .bind::<Text, _>(&target.name)
        .bind::<Text, _>(purpose.as_str())
        .bind::<Text, _>(wrapper.key_version_id().as_str())
        .bind::<Binary, _>(aad)
        .bind::<Binary, _>(&plaintext)
        .bind::<Binary, _>(blob.encode());
        match block_in_place(|| insert.execute(&mut self.connection)) {
            Ok(_) => self.shared.did("encrypt"),
            // Within the freshness the key of a scope that another process has deleted may still be used; the
            // foreign key sees to it that nothing comes of it.
            Err(QueryError::DatabaseError(DatabaseErrorKind::ForeignKeyViolation, _))
                if !target.stable =>
            {
                self.shared.did("encrypt of a scope that went");
            }
            Err(error) => self.shared.failed("encrypt", &target.name, error),
        }
        Ok(())
    }

    /// Reads a row. It may fail only if the row is gone, with its scope.
    async fn decrypt(&mut self, target: &Target) -> Result<()> {
        let offset = self.random.random_range(0..25);
        let query = diesel::sql_query(
            "select id, purpose, aad, plaintext, blob from interop_record
             where organization_id = $1 order by id desc limit 1 offset $2",
        )
        .bind::<Text, _>(&target.name)
        .bind::<BigInt, _>(offset);
        let found: Option<Row> =
            block_in_place(|| query.get_result(&mut self.connection).optional())?;
        let Some(row) = found else { return Ok(()) };
        let purpose = Purpose::new(&row.purpose)?;
        let blob = Blob::decode(&row.blob)?;
        let why = match self
            .shared
            .kms
            .decrypt(&target.id, &purpose, &blob, &row.aad)
            .await
        {
            Ok(plaintext) if plaintext.expose() == row.plaintext => {
                self.shared.did("decrypt");
                return Ok(());
            }
            Ok(_) => "it decrypts to something else".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.count(
            "select count(*) as n from interop_record where id::text = $1",
            &row.id.to_string(),
        )? > 0
        {
            self.shared.failed("decrypt", &target.name, why);
        } else {
            self.shared.did("decrypt of a row that went");
        }
        Ok(())
    }

    async fn rotate(&mut self, target: &Target, rewrap: Rewrap) -> Result<()> {
        let name = match rewrap {
            Rewrap::Yes => "rotate and rewrap",
            Rewrap::No => "rotate",
        };
        for attempt in 1.. {
            match self.shared.kms.rotate_keys(&target.id, rewrap).await {
                Ok(()) => {
                    self.shared.did(name);
                    self.shared.rotated(&target.name);
                }
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    self.shared.retried();
                    continue;
                }
                Err(error) => self.excuse(name, target, &error)?,
            }
            break;
        }
        Ok(())
    }

    async fn rewrap(&mut self, target: &Target) -> Result<()> {
        for attempt in 1.. {
            match self
                .shared
                .kms
                .rewrap_keys(&target.id, RewrapKeys::All)
                .await
            {
                Ok(()) => self.shared.did("rewrap"),
                Err(error) if error.kind() == ErrorKind::Conflict && attempt < ATTEMPTS => {
                    self.shared.retried();
                    continue;
                }
                Err(error) => self.excuse("rewrap", target, &error)?,
            }
            break;
        }
        Ok(())
    }

    /// Makes a scope's row and its keys in one transaction, the row first.
    async fn create(&mut self, target: &Target) -> Result<()> {
        if self.count(
            "select count(*) as n from organization where id = $1",
            &target.name,
        )? > 0
        {
            return Ok(());
        }
        let prepared = match self
            .shared
            .kms
            .prepare_create_keys(&target.id, &PURPOSES)
            .await
        {
            Ok(prepared) => prepared,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.shared.did("create of a scope that came");
                return Ok(());
            }
            Err(error) => return self.excuse("create", target, &error),
        };
        let made = block_in_place(|| {
            self.connection
                .transaction::<_, anyhow::Error, _>(|connection| {
                    diesel::sql_query("insert into organization (id) values ($1)")
                        .bind::<Text, _>(&target.name)
                        .execute(connection)?;
                    Ok(connection.apply_changes(&[prepared.change_set()])?)
                })
        });
        match made {
            Ok(receipts) => {
                self.shared.kms.accept(&receipts);
                self.shared.did("create");
            }
            Err(error) if exists_already(&error) => self.shared.did("create of a scope that came"),
            Err(error) => self
                .shared
                .failed("create", &target.name, format!("{error:#}")),
        }
        Ok(())
    }

    /// Deletes the application's row; the keys go by cascade.
    fn delete(&mut self, target: &Target) -> Result<()> {
        let delete = diesel::sql_query("delete from organization where id = $1")
            .bind::<Text, _>(&target.name);
        match block_in_place(|| delete.execute(&mut self.connection)) {
            Ok(0) => {}
            Ok(_) => self.shared.did("delete"),
            Err(error) => self.shared.failed("delete", &target.name, error),
        }
        Ok(())
    }

    /// A failure is none if the scope is one that comes and goes, and that is what the error says.
    fn excuse(&self, operation: &str, target: &Target, error: &kms_kit::Error) -> Result<()> {
        if !target.stable && error.kind() == ErrorKind::UnknownScope {
            self.shared
                .did(&format!("{operation} of a scope that went"));
        } else {
            self.shared.failed(operation, &target.name, error);
        }
        Ok(())
    }

    fn count(&mut self, query: &str, argument: &str) -> Result<i64> {
        let query = diesel::sql_query(query).bind::<Text, _>(argument);
        let counted: Counted = block_in_place(|| query.get_result(&mut self.connection))?;
        Ok(counted.n)
    }
}

fn exists_already(error: &anyhow::Error) -> bool {
    if let Some(QueryError::DatabaseError(kind, _)) = error.downcast_ref() {
        return matches!(kind, DatabaseErrorKind::UniqueViolation);
    }
    let kind = error
        .downcast_ref::<kms_kit::Error>()
        .map(kms_kit::Error::kind);
    kind == Some(ErrorKind::AlreadyExists)
}
