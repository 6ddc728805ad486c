//! What a process asks before it is ready.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use diesel::r2d2::{ConnectionManager, Pool, R2D2Connection};
use kms_core::Repository;

use crate::statements::{Statement, Watched};

/// A pool of one connection, and the number of statements that it has sent.
pub(crate) fn counted_pool<C: R2D2Connection + 'static>(
    url: String,
) -> (Pool<ConnectionManager<C>>, Arc<AtomicUsize>) {
    let sent = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&sent);
    let watched = Watched::new(move |statement| {
        if statement == Statement::Any {
            counter.fetch_add(1, Ordering::SeqCst);
        }
    });
    let pool = Pool::builder()
        .max_size(1)
        .min_idle(Some(0))
        .test_on_check_out(false)
        .connection_customizer(Box::new(watched))
        .build_unchecked(ConnectionManager::new(url));
    (pool, sent)
}

/// All that building an engine asks is one statement, each time.
pub(crate) async fn takes_one_statement(repository: &dyn Repository, sent: &AtomicUsize) {
    for engines in 1..=3 {
        repository.validate_schema().await.unwrap();
        assert_eq!(sent.load(Ordering::SeqCst), engines);
    }
}
