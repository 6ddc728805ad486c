//! What all programs here have in common: the tenants, the row, and how it is timed.

#[path = "../../src/measure.rs"]
pub mod measure;

use std::hint::black_box;
use std::ops::Deref;
use std::time::Duration;

use anyhow::{Result, ensure};
use clap::Parser;
use measure::Run;
use tokio::runtime::Runtime;

/// As many as in the other cases, one after the other.
pub const TENANTS: usize = 200;
/// Bytes of a row.
pub const ROW: usize = 1024;
/// What a row is bound to.
pub const AAD: &[u8] = b"client:7";

/// Something that keeps rows encrypted.
pub trait Peer {
    /// How it hands a decrypted row out.
    type Plaintext: Deref<Target = [u8]>;

    /// What an application does to write a row of this tenant.
    fn encrypt(&self, tenant: usize, row: &[u8]) -> impl Future<Output = Result<Vec<u8>>>;

    /// What an application does to read it.
    fn decrypt(
        &self,
        tenant: usize,
        stored: &[u8],
    ) -> impl Future<Output = Result<Self::Plaintext>>;
}

/// The id of a tenant.
#[must_use]
pub fn tenant(number: usize) -> String {
    format!("o_{number:010}")
}

#[derive(Debug, Parser)]
struct Arguments {
    /// Milliseconds for each case
    #[arg(long, default_value_t = 300)]
    budget: u64,
    /// Milliseconds that one measurement takes
    #[arg(long, default_value_t = 50)]
    batch: u64,
}

/// Measures encrypting and decrypting, and prints a line of JSON for each.
///
/// The wall's clock times all peers, since some work on other threads or wait for a server.
///
/// # Errors
///
/// If a row does not come back as it was.
///
/// # Panics
///
/// If a row that was encrypted and decrypted before isn't again.
pub fn measure<P: Peer>(name: &str, runtime: &Runtime, peer: &P) -> Result<()> {
    let arguments = Arguments::parse();
    let mut run = Run {
        budget: Duration::from_millis(arguments.budget),
        batch: Duration::from_millis(arguments.batch),
        repetitions: 1,
        only: Vec::new(),
        measurements: Vec::new(),
    };
    let row = vec![7; ROW];
    let stored = runtime.block_on(async {
        let mut stored = Vec::new();
        for tenant in 0..TENANTS {
            let encrypted = peer.encrypt(tenant, &row).await?;
            let decrypted = peer.decrypt(tenant, &encrypted).await?;
            ensure!(*decrypted == row, "another row came back");
            stored.push(encrypted);
        }
        Ok(stored)
    })?;
    run.quick_elsewhere(&format!("{name}_encrypt_{ROW}"), |count| {
        runtime.block_on(async {
            for tenant in (0..TENANTS).cycle().zip(0..count).map(|(tenant, _)| tenant) {
                let encrypted = peer.encrypt(tenant, black_box(&row)).await;
                black_box(encrypted.expect("it did before"));
            }
        });
    });
    run.quick_elsewhere(&format!("{name}_decrypt_{ROW}"), |count| {
        runtime.block_on(async {
            for tenant in (0..TENANTS).cycle().zip(0..count).map(|(tenant, _)| tenant) {
                let decrypted = peer.decrypt(tenant, black_box(&stored[tenant])).await;
                black_box(decrypted.expect("it did before"));
            }
        });
    });
    for measurement in &run.measurements {
        println!("{}", measurement.to_json());
    }
    Ok(())
}

/// As applications have it.
///
/// # Errors
///
/// If the system has no threads to give.
pub fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?)
}
