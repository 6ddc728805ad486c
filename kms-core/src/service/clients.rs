//! The client of the runtime that is asking.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use crate::error::{Error, ErrorKind, Result};

/// Runtimes whose clients are kept. More may use the wrapper; those that have not for longest start anew.
const MAX_RUNTIMES: usize = 8;

/// A client for each runtime.
///
/// A client's idle connections are driven by the runtime that opened them. On another one they would never answer
/// while the first stands still, as with two `block_on`.
pub struct PerRuntime<C> {
    /// In the order of their last use. No client is dropped under this lock.
    made: Mutex<Vec<(Id, Slot<C>)>>,
}

/// Filled by the first call that succeeds in it.
type Slot<C> = Arc<OnceCell<C>>;

impl<C: Clone> PerRuntime<C> {
    /// Without any client yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            made: Mutex::default(),
        }
    }

    /// The client of the runtime that this is called in. The first call makes it, while others wait for that; where
    /// making it fails, the next call tries again.
    ///
    /// # Errors
    ///
    /// Those of `make`; [`ErrorKind::Internal`] outside of a tokio runtime.
    pub async fn current<F>(&self, make: impl FnOnce() -> F) -> Result<C>
    where
        F: Future<Output = Result<C>>,
    {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Internal)
                .with_detail("a service is called outside of a tokio runtime")
                .with_source(error)
        })?;
        let slot = self.slot(runtime.id());
        slot.get_or_try_init(make).await.cloned()
    }

    fn slot(&self, runtime: Id) -> Slot<C> {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|(id, _)| *id == runtime);
        let entry = match known {
            Some(position) => made.remove(position),
            None => (runtime, Slot::default()),
        };
        let slot = Arc::clone(&entry.1);
        made.push(entry);
        let oldest = (made.len() > MAX_RUNTIMES).then(|| made.remove(0));
        drop(made);
        drop(oldest);
        slot
    }
}

impl<C: Clone> Default for PerRuntime<C> {
    fn default() -> Self {
        Self::new()
    }
}

/// Shows no client: those of others may repeat credentials.
impl<C> fmt::Debug for PerRuntime<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerRuntime").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::runtime::{Builder, Runtime};

    use super::*;

    #[test]
    fn each_of_the_last_runtimes_keeps_its_client() {
        let clients = PerRuntime::new();
        let made = Cell::new(0);
        let of = |runtime: &Runtime| {
            let make = async || {
                made.set(made.get() + 1);
                Ok(made.get())
            };
            runtime.block_on(clients.current(make)).unwrap()
        };
        let runtimes: Vec<_> = (0..=MAX_RUNTIMES)
            .map(|_| Builder::new_current_thread().build().unwrap())
            .collect();
        assert_eq!((of(&runtimes[0]), of(&runtimes[1])), (1, 2));
        assert_eq!(of(&runtimes[0]), 1);
        for runtime in &runtimes[2..] {
            of(runtime);
        }
        // The second was not used for longest.
        assert_eq!(of(&runtimes[0]), 1);
        assert_eq!(of(&runtimes[1]), MAX_RUNTIMES + 2);
    }

    #[test]
    fn a_client_that_could_not_be_made_is_made_by_the_next_call() {
        let clients = PerRuntime::new();
        let runtime = Builder::new_current_thread().build().unwrap();
        let failing = async || Err(Error::new(ErrorKind::Unreachable));
        assert!(runtime.block_on(clients.current(failing)).is_err());
        assert_eq!(
            runtime.block_on(clients.current(async || Ok(1))).unwrap(),
            1
        );
    }
}
