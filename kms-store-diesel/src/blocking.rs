//! Blocking connections, as connections whose futures are always ready: so that what is done with a connection is
//! written once, for those of diesel and for those of diesel-async.

use std::future::{Ready, ready};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use diesel::QueryResult;
use diesel::connection::{AnsiTransactionManager, TransactionManager, TransactionManagerStatus};
use diesel::query_dsl::methods::{ExecuteDsl, LimitDsl, LoadQuery};
use diesel::r2d2::R2D2Connection;

use crate::calls::Pooled;
use crate::connections::Connections;
use crate::dialect::Dialect;
use crate::transaction::Transactions;

/// A blocking connection to one of the databases.
pub(crate) trait Blocking: Dialect + R2D2Connection {}

impl<C: Dialect + R2D2Connection> Blocking for C {}

/// The result of work on a blocking connection.
///
/// # Panics
///
/// If the work waits for anything else: it must not.
pub(crate) fn now<T>(work: impl Future<Output = T>) -> T {
    match pin!(work).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => panic!("work on a blocking connection waited for something else"),
    }
}

/// What diesel's connections have in common. Not for all of a trait at once: there may be one of diesel-async's among them.
macro_rules! blocking_connection {
    ($feature:literal, $connection:ty) => {
        #[cfg(feature = $feature)]
        impl Pooled for $connection {
            type Calls = Connections<Self>;

            fn with_call_limit(calls: Connections<Self>, limit: Duration) -> Connections<Self> {
                calls.with_call_limit(limit)
            }
        }

        #[cfg(feature = $feature)]
        impl Transactions for $connection {
            async fn begin(&mut self) -> QueryResult<()> {
                AnsiTransactionManager::begin_transaction(self)
            }

            async fn commit(&mut self) -> QueryResult<()> {
                AnsiTransactionManager::commit_transaction(self)
            }

            async fn roll_back(&mut self) -> QueryResult<()> {
                AnsiTransactionManager::rollback_transaction(self)
            }

            fn status(&mut self) -> &mut TransactionManagerStatus {
                AnsiTransactionManager::transaction_manager_status_mut(self)
            }

            async fn pause(pause: Duration) {
                std::thread::sleep(pause);
            }
        }
    };
}

blocking_connection!("postgres", diesel::PgConnection);
blocking_connection!("sqlite", diesel::SqliteConnection);

/// The methods of diesel's trait, as those of diesel-async's.
pub(crate) trait RunQueryDsl<C>: diesel::RunQueryDsl<C> {
    fn execute(self, connection: &mut C) -> Ready<QueryResult<usize>>
    where
        C: diesel::Connection,
        Self: ExecuteDsl<C>,
    {
        ready(diesel::RunQueryDsl::execute(self, connection))
    }

    fn load<'query, U>(self, connection: &mut C) -> Ready<QueryResult<Vec<U>>>
    where
        Self: LoadQuery<'query, C, U>,
    {
        ready(diesel::RunQueryDsl::load(self, connection))
    }

    #[cfg(feature = "postgres")]
    fn get_result<'query, U>(self, connection: &mut C) -> Ready<QueryResult<U>>
    where
        Self: LoadQuery<'query, C, U>,
    {
        ready(diesel::RunQueryDsl::get_result(self, connection))
    }

    fn first<'query, U>(self, connection: &mut C) -> Ready<QueryResult<U>>
    where
        Self: LimitDsl,
        diesel::dsl::Limit<Self>: LoadQuery<'query, C, U>,
    {
        ready(diesel::RunQueryDsl::first(self, connection))
    }
}

impl<C, Q: diesel::RunQueryDsl<C>> RunQueryDsl<C> for Q {}
