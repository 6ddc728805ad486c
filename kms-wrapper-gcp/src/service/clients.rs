//! The client of the runtime that is asking.

use std::sync::{Arc, Mutex, PoisonError};

use kms_core::{Error, ErrorKind, Result};
use reqwest::Client;
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

/// Runtimes whose clients are kept. More may use the wrapper; those that have not for longest start anew.
const MAX_RUNTIMES: usize = 8;

/// A client for each runtime: its idle connections are driven by the runtime that made them, and are dead on
/// another one.
#[derive(Default)]
pub(crate) struct Clients {
    /// In the order of their last use.
    made: Mutex<Vec<(Id, Slot)>>,
}

/// Filled by the first call, which reads the certificates.
type Slot = Arc<OnceCell<Client>>;

impl Clients {
    /// The one of this runtime, made off the async threads if there is none.
    pub(crate) async fn current(
        &self,
        make: impl FnOnce() -> Result<Client> + Send + 'static,
    ) -> Result<Client> {
        let make = async || {
            tokio::task::spawn_blocking(make)
                .await
                .map_err(|error| Error::new(ErrorKind::Internal).with_source(error))?
        };
        self.slot(Handle::current().id())
            .get_or_try_init(make)
            .await
            .cloned()
    }

    fn slot(&self, runtime: Id) -> Slot {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let known = made.iter().position(|(id, _)| *id == runtime);
        let entry = match known {
            Some(position) => made.remove(position),
            None => (runtime, Slot::default()),
        };
        let slot = Arc::clone(&entry.1);
        made.push(entry);
        if made.len() > MAX_RUNTIMES {
            made.remove(0);
        }
        slot
    }
}
