//! One HTTP client for each runtime, made anew when certificates are renewed.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kms_core::{Error, ErrorKind, Result};
use tokio::runtime::{Handle, Id};

use crate::transport::pem::Stamp;
use crate::transport::tls::{Connector, Material};

/// Runtimes in use at once; tests and `block_on` make one after another.
const KEPT: usize = 4;

/// The HTTP clients of a wrapper.
///
/// A pooled connection is driven by the runtime that opened it. Used from another one while the first stands
/// still, as with two `block_on`, it would never answer; so each runtime gets a pool of its own.
///
/// Certificates and keys are read again when a file has changed since it was read, and when a
/// [handshake failed](Self::renew). Files that can't be used, because one of two is not written yet, say, leave the
/// clients as they are until they change again.
pub(crate) struct Clients {
    connector: Arc<Connector>,
    made: Mutex<Made>,
}

struct Made {
    material: Material,
    /// Counts what was read.
    edition: u64,
    /// The files when they were read last; `None` if they have to be read again in any case.
    stamp: Option<Stamp>,
    /// Made to find out whether the settings work, for the first runtime that asks.
    spare: Option<reqwest::Client>,
    by_runtime: Vec<(Id, reqwest::Client)>,
}

impl Clients {
    /// # Errors
    ///
    /// `InvalidConfiguration` where no client can be made of these settings.
    pub(crate) fn new(connector: Connector) -> Result<Self> {
        let stamp = connector.stamp();
        let material = connector.read()?;
        let spare = connector.client(&material)?;
        Ok(Self {
            connector: Arc::new(connector),
            made: Mutex::new(Made {
                material,
                edition: 0,
                stamp: Some(stamp),
                spare: Some(spare),
                by_runtime: Vec::new(),
            }),
        })
    }

    /// The client of the runtime that this is called in, and the edition of the certificates in it.
    ///
    /// # Errors
    ///
    /// `Internal` outside of a runtime.
    pub(crate) async fn client(&self) -> Result<(reqwest::Client, u64)> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::Internal)
                .with_detail("Vault is called outside of a tokio runtime")
                .with_source(error)
        })?;
        let stamp = if self.connector.has_files() {
            let connector = Arc::clone(&self.connector);
            // A task that was cancelled, because the runtime ends, saw nothing.
            let looking = runtime.spawn_blocking(move || connector.stamp());
            looking.await.ok()
        } else {
            Some(self.connector.stamp())
        };
        let mut made = self.made();
        if let Some(stamp) = stamp
            && made.stamp.as_ref() != Some(&stamp)
        {
            self.read_again(&mut made, stamp);
        }
        let edition = made.edition;
        let runtime = runtime.id();
        if let Some((_, client)) = made.by_runtime.iter().find(|(id, _)| *id == runtime) {
            return Ok((client.clone(), edition));
        }
        let client = match made.spare.take() {
            Some(client) => client,
            None => self.connector.client(&made.material)?,
        };
        if made.by_runtime.len() == KEPT {
            made.by_runtime.remove(0);
        }
        made.by_runtime.push((runtime, client.clone()));
        Ok((client, edition))
    }

    /// A handshake failed with certificates of this edition: has them read again, where that can change anything.
    /// Whether the call is worth repeating.
    pub(crate) fn renew(&self, edition: u64) -> bool {
        let mut made = self.made();
        if made.edition == edition && self.connector.is_renewable() {
            made.stamp = None;
        }
        self.connector.is_renewable()
    }

    /// The file of the client's certificate.
    pub(crate) fn client_certificate(&self) -> Option<&Path> {
        self.connector.client_certificate()
    }

    fn read_again(&self, made: &mut Made, stamp: Stamp) {
        made.stamp = Some(stamp);
        let read = self.connector.read().and_then(|material| {
            let client = self.connector.client(&material)?;
            Ok((material, client))
        });
        match read {
            Ok((material, client)) => {
                made.material = material;
                made.edition += 1;
                made.spare = Some(client);
                made.by_runtime.clear();
            }
            Err(error) => {
                tracing::warn!(%error, "certificates or key changed and can't be used; those from before stay");
            }
        }
    }

    fn made(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Clients {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clients").field(&self.connector).finish()
    }
}
