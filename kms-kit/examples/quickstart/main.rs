//! The life of two organizations' keys, on a real database. Every step is asserted.
//!
//! ```sh
//! cargo run -p kms-kit --example quickstart
//! cargo run -p kms-kit --features postgres --example quickstart -- --database-url postgres://localhost/mydb
//! ```
//!
//! Without a URL it works on a SQLite file under `target/quickstart`, where it also keeps its two root keys, so
//! that it can run again on the same database.

#![allow(clippy::print_stdout, reason = "it tells a story")]

pub(crate) mod database;
pub(crate) mod setup;
pub(crate) mod story;

use clap::Parser;

pub(crate) type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

#[derive(Parser)]
#[command(about = "Tells what an application does with the keys of its tenants")]
struct Arguments {
    /// A Postgres database to use instead of a SQLite file.
    #[arg(long, value_name = "URL")]
    database_url: Option<String>,
}

// The application's own diesel connection blocks; `story` uses it where that is allowed.
#[tokio::main(flavor = "multi_thread")]
async fn main() -> Result<()> {
    let folder = setup::folder()?;
    let setup = setup::prepare(&folder, Arguments::parse().database_url.as_deref())?;
    story::tell(setup).await
}
