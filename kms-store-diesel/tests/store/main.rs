//! The repository suite on SQLite and Postgres, and what is particular to this store.

mod application;
mod keys;
mod postgres;
mod sqlite;
mod statements;
