//! The same statements on connections of diesel-async, and what `Transactions` is there.

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

use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::TransactionManagerStatus;
use diesel_async::{AnsiTransactionManager, RunQueryDsl, TransactionManager as _};

use super::{
    ACCEPTS_WRITES, LEASE_IS_OVER, changes, functions, lease_end, locking, schema, snapshot,
};
use crate::transaction::Transactions;

type Conn = diesel_async::AsyncPgConnection;

async fn begin_transaction_sql(connection: &mut Conn, sql: &str) -> QueryResult<()> {
    AnsiTransactionManager::begin_transaction_sql(connection, sql).await
}

async fn batch_execute(connection: &mut Conn, sql: &str) -> QueryResult<()> {
    diesel_async::SimpleAsyncConnection::batch_execute(connection, sql).await
}

impl Transactions for Conn {
    async fn begin(&mut self) -> QueryResult<()> {
        AnsiTransactionManager::begin_transaction(self).await
    }

    async fn commit(&mut self) -> QueryResult<()> {
        AnsiTransactionManager::commit_transaction(self).await
    }

    async fn roll_back(&mut self) -> QueryResult<()> {
        AnsiTransactionManager::rollback_transaction(self).await
    }

    fn status(&mut self) -> &mut TransactionManagerStatus {
        AnsiTransactionManager::transaction_manager_status_mut(self)
    }

    async fn pause(pause: Duration) {
        tokio::time::sleep(pause).await;
    }
}
