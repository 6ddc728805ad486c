//! A connection beside the engine and beside Go, for what the checks look up and break.

use anyhow::{Context as _, Result};
use diesel::connection::SimpleConnection as _;
use diesel::prelude::{Connection as _, *};
use diesel::sql_types::{BigInt, Text};

use crate::database::Dialect;

pub(crate) enum Connection {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

#[derive(QueryableByName)]
struct Counted {
    #[diesel(sql_type = BigInt)]
    n: i64,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Text)]
    t: String,
}

impl Connection {
    pub(crate) fn to(dialect: Dialect, address: &str) -> Result<Self> {
        Ok(match dialect {
            Dialect::Postgres => Self::Postgres(PgConnection::establish(address)?),
            Dialect::Sqlite => {
                let mut connection = SqliteConnection::establish(address)?;
                connection
                    .batch_execute("pragma busy_timeout = 10000; pragma foreign_keys = on")?;
                Self::Sqlite(connection)
            }
        })
    }

    pub(crate) fn execute(&mut self, sql: &str) -> Result<()> {
        match self {
            Self::Postgres(connection) => connection.batch_execute(sql),
            Self::Sqlite(connection) => connection.batch_execute(sql),
        }
        .with_context(|| sql.to_owned())
    }

    /// A number in a column named `n`.
    pub(crate) fn count(&mut self, sql: &str) -> Result<i64> {
        let query = diesel::sql_query(sql);
        let found: Counted = match self {
            Self::Postgres(connection) => query.get_result(connection),
            Self::Sqlite(connection) => query.get_result(connection),
        }
        .with_context(|| sql.to_owned())?;
        Ok(found.n)
    }

    /// Texts in a column named `t`.
    pub(crate) fn texts(&mut self, sql: &str) -> Result<Vec<String>> {
        let query = diesel::sql_query(sql);
        let found: Vec<Named> = match self {
            Self::Postgres(connection) => query.get_results(connection),
            Self::Sqlite(connection) => query.get_results(connection),
        }
        .with_context(|| sql.to_owned())?;
        Ok(found.into_iter().map(|row| row.t).collect())
    }
}
