//! The repository suite on SQLite and Postgres, and what is particular to this store.

#![allow(clippy::unwrap_used)]

mod application;
mod changes;
mod keys;
mod postgres;
mod sqlite;
mod starting;
mod statements;
