//! A service that holds tenants' secrets. Its root of trust is whatever a URL says:
//!
//! ```sh
//! export APP_ROOT_KEY=$(openssl rand -hex 32) KMS_ROOT_URL=aead:env:APP_ROOT_KEY
//! cargo run -p kms-example-web
//! curl -X PUT localhost:3000/tenants/acme
//! curl -X PUT localhost:3000/tenants/acme/secrets/smtp -d 'correct horse'
//! curl localhost:3000/tenants/acme/secrets/smtp
//! curl -X POST localhost:3000/tenants/acme/rotate
//! curl localhost:3000/health
//! ```
//!
//! With `--features aws` (or `gcp`, `vault`) the URL may name a key there: `awskms:///alias/app?region=eu-west-1`.
//! To move to another root, `KMS_ROOT_DECRYPT_URLS` names those that only decrypt: see `docs/changing-the-root.md`.
//!
//! What is missing from a real service: whoever can reach it is trusted. It listens on loopback only.

mod failure;
mod health;
mod routes;
mod store;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use clap::Parser;
use kms_kit::prelude::*;
use kms_kit::{RootWrapper, SqliteRepository};

use health::Health;
use store::Store;

/// Why this application has data keys.
pub(crate) const SECRETS: Purpose = Purpose::from_static("secrets");

#[derive(Parser)]
#[command(about = "Holds tenants' secrets; KMS_ROOT_URL names the root of trust")]
struct Arguments {
    /// Where to listen.
    #[arg(long, env = "LISTEN", default_value = "127.0.0.1:3000")]
    listen: SocketAddr,
    /// The file of the database; made if it is not there.
    #[arg(long, env = "DATABASE", default_value = "web.sqlite3")]
    database: PathBuf,
}

/// What every request handler has.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) kms: Kms,
    pub(crate) store: Store,
    pub(crate) health: Arc<Health>,
}

#[tokio::main]
#[allow(
    clippy::print_stdout,
    reason = "a person, or a test, waits for the address"
)]
async fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    let arguments = Arguments::parse();
    let path = arguments
        .database
        .to_str()
        .context("the path is not UTF-8")?;

    // Bad configuration ends here, before anything was asked.
    let root: Arc<dyn Wrapper> = Arc::new(RootWrapper::from_env()?);
    let store = Store::open(path)?;
    let kms = kms_kit::builder(Arc::new(SqliteRepository::builder(path).build()?))
        .root_wrapper(Arc::clone(&root))
        .purposes([SECRETS])
        .build()
        .await?;
    let health = Arc::new(Health::new(root));
    // A root that can't be asked now may be there later: it is reported, and keeps nobody from starting.
    if let Err(error) = health.root().await {
        tracing::warn!(%error, "the root of trust is not usable yet");
    }

    let listener = tokio::net::TcpListener::bind(arguments.listen).await?;
    println!("listening on http://{}", listener.local_addr()?);
    let service = Service { kms, store, health };
    axum::serve(listener, routes::all(service))
        .with_graceful_shutdown(async {
            // Without a signal handler it is ended as any process is.
            let _ = tokio::signal::ctrl_c().await;
        })
        .await?;
    Ok(())
}
