//! The `schema.rs` files of kms-store-diesel describe the migrated database,
//! column by column.

#![cfg(all(feature = "postgres", feature = "sqlite"))]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

#[path = "support/database.rs"]
mod database;
#[path = "support/schema_rs.rs"]
mod schema_rs;

use database::TestDatabase;
use schema_rs::{Schema, differences};

on_both_databases! {
    schema_rs_says_what_the_database_has
    a_change_of_the_database_is_told_by_name
}

fn schema_rs_says_what_the_database_has(database: &TestDatabase) {
    let live = Schema::of_database(&mut database.migrated());
    let differences = differences(&written(database), &live);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn a_change_of_the_database_is_told_by_name(database: &TestDatabase) {
    let mut conn = database.migrated();
    conn.execute(
        "alter table kms_campaign add column note text;
         alter table kms_campaign rename column kind to sort;
         create table kms_extra (id int primary key, root_key_id text references kms_root_key (private_id));",
    );
    let live = Schema::of_database(&mut conn);
    assert_eq!(
        differences(&written(database), &live),
        [
            "table kms_extra is not in schema.rs",
            "kms_campaign.kind is not in the database",
            "kms_campaign.note is not in schema.rs",
            "kms_campaign.sort is not in schema.rs",
            "joinable kms_extra -> kms_root_key (root_key_id) is not in schema.rs",
        ]
    );
}

fn written(database: &TestDatabase) -> Schema {
    let folder = if database.is_postgres() {
        "postgres"
    } else {
        "sqlite"
    };
    let path = format!(
        "{}/../kms-store-diesel/src/{folder}/schema.rs",
        env!("CARGO_MANIFEST_DIR")
    );
    Schema::of_file(&std::fs::read_to_string(path).unwrap())
}
