//! The kms tables for Postgres and SQLite, as diesel migrations.
//!
//! The SQL is in the crate twice over: as files under `postgres/` and
//! `sqlite/`, in diesel's layout, to be read or copied, and embedded as
//! [`postgres::MIGRATIONS`] and [`sqlite::MIGRATIONS`].
//!
//! | to | call |
//! |---|---|
//! | make or upgrade the tables | `run` |
//! | run the application's migrations and ours together | `run_with` and [`Combined`] |
//! | see how far a database is | `status` |
//! | hold a database against what it should have | `verify` |
//! | take over a database that Go kms made | `adopt` |
//! | put back rows and triggers that were lost | `repair` |
//! | give versions back the numbers that a restore took | `renumber` |
//!
//! # Two parts
//!
//! The migrations named `shared` make the tables that Go kms has too, at its
//! version [`SCHEMA_VERSION`], under its names. The migrations named `own` add
//! what is ours ([`EXTENSION_VERSION`]): a root key version in use can't be
//! deleted, deleted scopes are noticed by caches, indexes, lock functions,
//! campaigns, a record of which scopes changed with each collection version,
//! and functions that keep what a restore writes and call nothing of others'.
//! A Go service keeps working on a database with both.
//!
//! # The application's part
//!
//! Foreign keys tie the keys to the application's rows, in migrations of its
//! own. On Postgres:
//!
//! ```sql
//! -- the keys of a scope go with the scope
//! alter table kms_root_key
//!   add constraint kms_root_key_organization_fkey
//!   foreign key (scope_id) references organization (id) on delete cascade;
//!
//! -- a key version that encrypted a row can't go before the row; deferred, so
//! -- that both can go with the scope in one statement
//! create table oidc_client (
//!   id text primary key,
//!   organization_id text not null references organization (id) on delete cascade,
//!   secret bytea not null,
//!   key_version_id text not null references kms_data_key_version (private_id)
//!     on delete no action deferrable initially deferred
//! );
//! create index on oidc_client (key_version_id);
//! ```
//!
//! With a plain `restrict` there, delete the rows before the scope: whether the
//! cascade reaches them in time depends on how the tables hang together.
//!
//! SQLite can't add a constraint to a table, but it can add a column with one.
//! A generated column carries the foreign key, with no table rebuilt and no
//! trigger lost:
//!
//! ```sql
//! alter table kms_root_key add column organization_id text
//!   generated always as (scope_id) virtual
//!   references organization (id) on delete cascade;
//! create index kms_root_key_organization_id_ix on kms_root_key (organization_id);
//!
//! create table oidc_client (
//!   id text not null primary key,
//!   organization_id text not null references organization (id) on delete cascade,
//!   secret blob not null,
//!   key_version_id text not null references kms_data_key_version (private_id)
//! );
//! create index oidc_client_key_version_id_ix on oidc_client (key_version_id);
//! ```
//!
//! SQLite enforces foreign keys only where `pragma foreign_keys = on` was said
//! on the connection. And `replace into organization …` deletes the row it
//! replaces: **all keys of the scope go with it**. Use `insert … on conflict do
//! update`.
//!
//! # Rights
//!
//! On Postgres the role that migrates owns the tables. Nobody else should have
//! `create` on their schema: [`Report::creators`] names who has. The statements
//! for a reader, a writer, an operator and a migrator are in `docs/rights.md`.
//! In short, the application's role needs:
//!
//! | on | a process that reads keys | one that changes them, as well |
//! |---|---|---|
//! | `kms_schema_version`, `kms_extension_version` | `select` | |
//! | `kms_root_key`, `kms_root_key_version`, `kms_data_key`, `kms_data_key_version` | `select` | `insert`, `update`, `delete` |
//! | `kms_collection_version` | `select` | `update` |
//! | `kms_scope_root` | `select` | `insert`, `update`, `delete` |
//! | `kms_collection_history`, `kms_scope_change` | `select` | nothing: triggers write them by the owner's rights |
//! | `kms_campaign`, `kms_campaign_failure` | | `select`, `insert`, `update`, `delete` |
//! | `kms_root_check` | `select` | `insert`, `update` |
//!
//! **A migration that adds a table grants nothing.** Grant the rights on the new
//! tables before processes of the new release start, or have `alter default
//! privileges` do it. Processes of the release before go on without.
//!
//! # Several processes
//!
//! `run`, `run_with` and `adopt` can be called by every process at its start:
//! they take turns. See the modules for how.
//!
//! # Features
//!
//! `postgres` (needs libpq) and `sqlite` (bundles SQLite). None is on by
//! default.

// Without a database there is nothing to do, and most of this has no caller.
#![cfg_attr(not(any(feature = "postgres", feature = "sqlite")), allow(dead_code))]

mod bookkeeping;
mod catalogue;
mod combined;
mod error;
mod oddities;
#[cfg(feature = "postgres")]
pub mod postgres;
mod report;
#[cfg(feature = "sqlite")]
pub mod sqlite;

pub use catalogue::{Catalogue, Difference};
pub use combined::{Combined, NoMigrations};
pub use error::{Error, ErrorKind, Result};
pub use report::{Adoption, MigrationName, Oddity, Repair, Report, Status};

/// The version of the tables shared with Go kms, as `kms_schema_version` holds
/// it.
pub const SCHEMA_VERSION: &str = "v0.0.2";

/// The version of what we add to them, as `kms_extension_version` holds it: a
/// `v` and a number. A process accepts its own and any later one, so that it
/// outlives migrations that add something.
pub const EXTENSION_VERSION: &str = "v5";
