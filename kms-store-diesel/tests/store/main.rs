//! The repository suite on SQLite and Postgres, and what is particular to this store.

mod application;
mod postgres;
mod sqlite;
