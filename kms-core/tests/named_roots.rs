//! Tenants whose root of trust is their own.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

#[path = "named_roots/assigning.rs"]
mod assigning;
#[path = "named_roots/campaigns.rs"]
mod campaigns;
#[path = "named_roots/customers.rs"]
mod customers;
#[path = "named_roots/failing.rs"]
mod failing;
#[path = "named_roots/moving.rs"]
mod moving;
#[path = "named_roots/resolving.rs"]
mod resolving;
