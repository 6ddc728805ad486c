//! The whole engine on each root of trust, with Postgres beneath: real services, real processes.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a child speaks to its parent by lines"
)]

#[path = "../support/mod.rs"]
mod support;

mod matrix;
mod operations;
mod process;
mod root;
