//! What kms-kit costs.
//!
//! `cargo xtask bench` runs the program of this crate and the Go program of `interop/` in alternation, on the
//! same machine and the same databases, and prints one table. This crate is the half that measures ours and the
//! floor: what the primitive or one query takes alone.

pub mod allocations;
pub mod cases;
pub mod database;
pub mod latency;
pub mod many;
pub mod measure;
pub mod statements;
pub mod world;
