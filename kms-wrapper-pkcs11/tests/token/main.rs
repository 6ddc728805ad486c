//! The wrapper on tokens of SoftHSM: its contract, its errors, and what it does while the token fails.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod softhsm;
