//! Databases of our own to measure on, made for one run and dropped after it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};
use diesel::connection::SimpleConnection as _;
use diesel::{Connection as _, PgConnection, SqliteConnection};
use kms_kit::{PostgresRepository, Repository, SqliteRepository};

/// Connections at most, as many as the Go program has.
pub const CONNECTIONS: u32 = 4;

/// A migrated database.
#[derive(Debug)]
pub enum Database {
    /// On the server of this run.
    Postgres {
        /// Where it is.
        url: String,
        /// The server's own database, from which it is dropped, and its name.
        server: String,
        /// Its name.
        name: String,
    },
    /// In a folder of its own.
    Sqlite {
        /// The file.
        path: String,
        /// Removed with the database.
        _folder: tempfile::TempDir,
    },
}

impl Database {
    /// A new one on this Postgres server.
    ///
    /// # Errors
    ///
    /// If the server is not there or refuses.
    pub fn postgres(server: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms_bench_{}_{number}", std::process::id());
        PgConnection::establish(server)
            .context("no Postgres server there")?
            .batch_execute(&format!("create database {name}"))?;
        let url = with_database(server, &name)?;
        kms_kit::migrations::postgres::run(&mut PgConnection::establish(&url)?)?;
        Ok(Self::Postgres {
            url,
            server: server.to_owned(),
            name,
        })
    }

    /// A new one in a temporary folder.
    ///
    /// # Errors
    ///
    /// If the folder can't be written to.
    pub fn sqlite() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("keys.sqlite3");
        let path = path.to_str().context("the path is text")?.to_owned();
        kms_kit::migrations::sqlite::run(&mut SqliteConnection::establish(&path)?)?;
        Ok(Self::Sqlite {
            path,
            _folder: folder,
        })
    }

    /// `postgres` or `sqlite`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Postgres { .. } => "postgres",
            Self::Sqlite { .. } => "sqlite",
        }
    }

    /// A repository on it.
    ///
    /// # Errors
    ///
    /// None that is known.
    pub fn repository(&self) -> Result<Arc<dyn Repository>> {
        Ok(match self {
            Self::Postgres { url, .. } => Arc::new(
                PostgresRepository::builder(url)
                    .pool_size(CONNECTIONS)
                    .build()?,
            ),
            Self::Sqlite { path, .. } => Arc::new(
                SqliteRepository::builder(path)
                    .pool_size(CONNECTIONS)
                    .build()?,
            ),
        })
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        if let Self::Postgres { server, name, .. } = self
            && let Ok(mut connection) = PgConnection::establish(server)
        {
            let _ = connection.batch_execute(&format!("drop database {name} with (force)"));
        }
    }
}

/// The URL of another database on the same server.
fn with_database(url: &str, name: &str) -> Result<String> {
    let (scheme, rest) = url.split_once("://").context("the URL has a scheme")?;
    let (before_query, query) = match rest.split_once('?') {
        Some((before, query)) => (before, format!("?{query}")),
        None => (rest, String::new()),
    };
    let authority = before_query.split('/').next().unwrap_or_default();
    Ok(format!("{scheme}://{authority}/{name}{query}"))
}
