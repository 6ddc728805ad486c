//! One HTTP client for each runtime.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use kms_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Id};

use crate::transport::tls::Connector;

/// Runtimes in use at once; tests and `block_on` make one after another.
const KEPT: usize = 4;

/// The HTTP clients of a wrapper.
///
/// A pooled connection is driven by the runtime that opened it. Used from another one while the first stands
/// still, as with two `block_on`, it would never answer; so each runtime gets a pool of its own.
pub(crate) struct Clients {
    connector: Connector,
    made: Mutex<Made>,
}

struct Made {
    /// Made to find out whether the settings work, for the first runtime that asks.
    spare: Option<reqwest::Client>,
    by_runtime: Vec<(Id, reqwest::Client)>,
}

impl Clients {
    /// # Errors
    ///
    /// `InvalidConfiguration` where no client can be made of these settings.
    pub(crate) fn new(connector: Connector) -> Result<Self> {
        let spare = connector.client()?;
        Ok(Self {
            connector,
            made: Mutex::new(Made {
                spare: Some(spare),
                by_runtime: Vec::new(),
            }),
        })
    }

    /// The client of the runtime that this is called in.
    ///
    /// # Errors
    ///
    /// `Internal` outside of a runtime.
    pub(crate) fn client(&self) -> Result<reqwest::Client> {
        let runtime = Handle::try_current()
            .map_err(|error| {
                Error::new(ErrorKind::Internal)
                    .with_detail("Vault is called outside of a tokio runtime")
                    .with_source(error)
            })?
            .id();
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, client)) = made.by_runtime.iter().find(|(id, _)| *id == runtime) {
            return Ok(client.clone());
        }
        let client = match made.spare.take() {
            Some(client) => client,
            None => self.connector.client()?,
        };
        if made.by_runtime.len() == KEPT {
            made.by_runtime.remove(0);
        }
        made.by_runtime.push((runtime, client.clone()));
        Ok(client)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.connector).finish()
    }
}
