//! Databases that Go kms made.

// Each test binary uses its own part of this.
#![allow(dead_code)]
// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

use crate::database::{Connection, TestDatabase};

/// Made by Go kms itself: four scopes, three purposes.
const GO_SQLITE: &[u8] = include_bytes!("../data/go.sqlite3");
/// As Go kms leaves it, in words of our own, in its steps.
pub(crate) const GO_POSTGRES: &str = include_str!("../data/go_shaped_postgres.sql");

/// A database that Go made, of either kind.
pub(crate) fn made_by_go(of_postgres: bool) -> Option<(TestDatabase, Connection)> {
    if of_postgres {
        let database = TestDatabase::postgres()?;
        let mut conn = database.connect();
        conn.execute(GO_POSTGRES);
        conn.create_scope("g");
        Some((database, conn))
    } else {
        let database = TestDatabase::sqlite_from(GO_SQLITE);
        let conn = database.connect();
        Some((database, conn))
    }
}

/// Makes a test of each function for both of them: `sqlite::name` and
/// `postgres::name`.
#[macro_export]
macro_rules! on_databases_of_go {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[test] fn $name() {
                let (database, mut conn) = $crate::go::made_by_go(false).unwrap();
                super::$name(&database, &mut conn);
            })*
        }
        mod postgres {
            $(#[test] fn $name() {
                if let Some((database, mut conn)) = $crate::go::made_by_go(true) {
                    super::$name(&database, &mut conn);
                }
            })*
        }
    };
}
