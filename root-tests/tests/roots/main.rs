//! The whole engine on each root of trust, with Postgres beneath: real services, real processes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../../../kms-kit/tests/support/mod.rs"]
mod support;

mod matrix;
mod operations;
mod process;
mod root;
