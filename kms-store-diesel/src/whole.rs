//! Connections that must not be left in the middle of a change.

use crate::dialect::Dialect;

/// A connection in the middle of a change. Left there, because the change's future was dropped or panicked, it counts
/// as broken: nothing can be committed on it any more, neither what was written of the change nor the rows of the
/// caller's beside it, and pools drop it.
pub(crate) struct Whole<'c, C: Dialect>(Option<&'c mut C>);

impl<'c, C: Dialect> Whole<'c, C> {
    pub(crate) fn begun(connection: &'c mut C) -> Self {
        Self(Some(connection))
    }

    pub(crate) fn connection(&mut self) -> &mut C {
        self.0.as_mut().expect("it has one until it is done")
    }

    pub(crate) fn done(mut self) {
        self.0 = None;
    }
}

impl<C: Dialect> Drop for Whole<'_, C> {
    fn drop(&mut self) {
        if let Some(connection) = &mut self.0 {
            connection.status().set_in_error();
        }
    }
}
