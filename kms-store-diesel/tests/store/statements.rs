//! Seeing, and acting on, every statement that a connection sends.

use std::sync::Arc;

use diesel::connection::{Instrumentation, InstrumentationEvent};
use diesel::r2d2::{CustomizeConnection, Error, R2D2Connection};

/// What is told before each statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A query, or one of the statements that begin, end and roll back.
    Any,
    /// The commit of a whole transaction, told before the statement itself.
    Commit,
}

type Hook = dyn Fn(Statement) + Send + Sync;

/// Tells the hook of each statement of each connection of a pool.
pub(crate) struct Watched(Arc<Hook>);

impl Watched {
    pub(crate) fn new(hook: impl Fn(Statement) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hook))
    }

    pub(crate) fn instrumentation(&self) -> impl Instrumentation + use<> {
        let hook = Arc::clone(&self.0);
        move |event: InstrumentationEvent<'_>| match event {
            InstrumentationEvent::StartQuery { .. } => hook(Statement::Any),
            InstrumentationEvent::CommitTransaction { depth, .. } if depth.get() == 1 => {
                hook(Statement::Commit);
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Watched")
    }
}

impl<C: R2D2Connection + 'static> CustomizeConnection<C, Error> for Watched {
    fn on_acquire(&self, connection: &mut C) -> Result<(), Error> {
        connection.set_instrumentation(self.instrumentation());
        Ok(())
    }
}
