//! The statements on connections of diesel.

#[path = "../campaign_tables.rs"]
mod campaign_tables;
#[path = "deleting.rs"]
mod deleting;
#[path = "../key_tables.rs"]
mod key_tables;
#[path = "reading.rs"]
mod reading;
#[path = "renaming.rs"]
mod renaming;
#[path = "../root_check_tables.rs"]
mod root_check_tables;
#[path = "writing.rs"]
mod writing;

use diesel::QueryResult;
use diesel::connection::AnsiTransactionManager;

use super::{
    ACCEPTS_WRITES, LEASE_IS_OVER, changes, functions, lease_end, locking, schema, snapshot,
};
use crate::blocking::RunQueryDsl;

type Conn = diesel::PgConnection;

async fn begin_transaction_sql(connection: &mut Conn, sql: &str) -> QueryResult<()> {
    AnsiTransactionManager::begin_transaction_sql(connection, sql)
}

async fn batch_execute(connection: &mut Conn, sql: &str) -> QueryResult<()> {
    diesel::connection::SimpleConnection::batch_execute(connection, sql)
}
