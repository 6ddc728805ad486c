//! How a connection to Postgres is opened.

use std::sync::Arc;
use std::time::Instant;

use diesel::PgConnection;
use diesel::QueryResult;
use diesel::connection::{CacheSize, Connection as _, SimpleConnection as _};
use diesel::dsl::sql;
use diesel::prelude::*;
use diesel::sql_types::Bool;
use kms_core::{Error, ErrorKind, Result, SecretBytes};

use super::ACCEPTS_WRITES;
use super::address::Address;
use super::libpq::Refusal;
use crate::connections::Holds;
use crate::failure::query_error;

/// Gives the password of a new connection.
pub(super) type Password = Arc<dyn Fn() -> Result<SecretBytes> + Send + Sync>;

/// What all connections of a pool have in common.
pub(super) struct Opening {
    pub(super) address: Address,
    /// Settings where the address has none.
    pub(super) defaults: Vec<(&'static str, String)>,
    pub(super) password: Option<Password>,
    pub(super) session: Session,
}

impl Opening {
    /// Opens one. A server that refuses is told at once, with its reason. Whether the login is at fault is asked for
    /// until this moment.
    pub(super) fn open(&self, by: Instant) -> Result<PgConnection> {
        let password = self.password.as_deref().map(text_of).transpose()?;
        let password = password.as_deref();
        let mut settings: Vec<_> = self
            .defaults
            .iter()
            .map(|(n, v)| (*n, v.as_str()))
            .collect();
        settings.extend(password.map(|password| ("password", password)));
        let url = self.address.with_defaults(&settings)?;
        let mut connection = PgConnection::establish(&url).map_err(|error| {
            let reason = self.address.redact(error.to_string().trim(), password);
            refused(&url, by).with_detail(reason)
        })?;
        match self.session.prepare(&mut connection) {
            Ok(()) => Ok(connection),
            Err(error) => Err(Error::new(ErrorKind::DatabaseUnreachable)
                .with_detail(query_error(error).to_string())),
        }
    }

    /// Whether a connection is to such a server as the address asks for, if it asks for one that writes.
    pub(super) fn demand(&self) -> Option<Holds<PgConnection>> {
        let expression = match self.address.target()?.as_str() {
            "read-write" => ACCEPTS_WRITES,
            "primary" => "not pg_is_in_recovery()",
            _ => return None,
        };
        Some(Box::new(move |connection| holds(connection, expression)))
    }
}

fn holds(connection: &mut PgConnection, expression: &'static str) -> QueryResult<bool> {
    diesel::select(sql::<Bool>(expression)).get_result(connection)
}

/// The error of a connection that could not be opened. Only a login that was refused is one that no later try mends.
fn refused(url: &str, by: Instant) -> Error {
    let refusal = (Instant::now() < by).then(|| Refusal::of(url)).flatten();
    let kind = match &refusal {
        Some(refusal) if refusal.is_of_login() => ErrorKind::DatabaseLogin,
        _ => ErrorKind::DatabaseUnreachable,
    };
    let error = Error::new(kind);
    match refusal.as_ref().and_then(|refusal| refusal.codes.first()) {
        Some(code) => error.with_context("sqlstate", code),
        None => error,
    }
}

fn text_of(password: &(dyn Fn() -> Result<SecretBytes> + Send + Sync)) -> Result<String> {
    let password = password()?;
    let text = std::str::from_utf8(password.expose());
    // The cause would tell how much of it is text.
    text.map(str::to_owned).map_err(|_| {
        Error::new(ErrorKind::DatabaseLogin)
            .with_detail("the password for a new connection is not UTF-8")
    })
}

/// Whose the server's sessions are.
#[derive(Debug)]
pub(super) enum Session {
    /// A connection's, with these settings.
    Own(String),
    /// A pooler's: nothing that is kept in them is found again.
    Foreign,
}

impl Session {
    fn prepare(&self, connection: &mut PgConnection) -> QueryResult<()> {
        match self {
            Self::Own(settings) => connection.batch_execute(settings),
            Self::Foreign => {
                connection.set_prepared_statement_cache_size(CacheSize::Disabled);
                Ok(())
            }
        }
    }
}
