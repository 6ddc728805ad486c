//! The client of the runtime that is asking.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kms::Client;
use kms_core::{CallLimits, Result};
use tokio::runtime::{Handle, Id};
use tokio::sync::OnceCell;

use crate::service::connection::{Connection, Settings};

/// Runtimes whose clients are kept. More may use the wrapper; those that have not for longest start anew.
const MAX_RUNTIMES: usize = 8;

/// A client for each runtime. A client's idle connections are driven by the runtime that opened them, and are
/// dead on another one as long as that one is not running.
pub(crate) struct Clients {
    connection: Connection,
    /// In the order of their last use.
    made: Mutex<Vec<(Id, Slot)>>,
}

/// Filled by the first call, since making a client reads certificates from the disk.
type Slot = Arc<OnceCell<Client>>;

impl Clients {
    pub(crate) fn new(connection: Connection) -> Self {
        Self {
            connection,
            made: Mutex::default(),
        }
    }

    pub(crate) async fn current(&self, limits: &CallLimits) -> Result<Client> {
        match &self.connection {
            Connection::Given(client) => Ok(client.clone()),
            Connection::Own(settings) => self.own(settings, limits).await,
        }
    }

    async fn own(&self, settings: &Settings, limits: &CallLimits) -> Result<Client> {
        let slot = self.slot(Handle::current().id());
        slot.get_or_try_init(|| settings.client(limits))
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

/// Shows no client: the SDK's `Debug` repeats the access key's id.
impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clients")
            .field("connection", &self.connection)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kms::config::{Credentials, Region};

    use super::*;
    use crate::service::connection::Identity;

    #[test]
    fn each_of_the_last_runtimes_keeps_its_client() {
        let credentials = Credentials::builder()
            .provider_name("test")
            .access_key_id("id")
            .secret_access_key("secret")
            .build();
        let clients = Clients::new(Connection::Own(Settings {
            region: Some(Region::new("us-east-1")),
            endpoint: None,
            identity: Identity::Static(credentials),
        }));
        let runtimes: Vec<_> = (0..=MAX_RUNTIMES)
            .map(|_| {
                tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap()
            })
            .collect();
        let slot = |number: usize| clients.slot(runtimes[number].handle().id());
        let (first, second) = (slot(0), slot(1));
        assert!(!Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&first, &slot(0)));
        for number in 2..=MAX_RUNTIMES {
            slot(number);
        }
        // The second was not used for longest.
        assert!(Arc::ptr_eq(&first, &slot(0)));
        assert!(!Arc::ptr_eq(&second, &slot(1)));
    }
}
