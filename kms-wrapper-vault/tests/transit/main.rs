//! The wrapper against a real Vault (or OpenBao): its contract, its errors, and what it does while the service fails.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod recorded;
mod vault;
