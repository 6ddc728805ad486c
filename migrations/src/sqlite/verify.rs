//! Holds a database against what the migrations make.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::SqliteConnection;

use super::{TextRow, catalogue, number, shared_tables, table_exists, texts};
use crate::bookkeeping::SHARED_TABLES;
use crate::catalogue::{Catalogue, Difference};
use crate::error::{ErrorKind, Result};
use crate::oddities;
use crate::report::{Oddity, Report};

/// What the migrations make, as [`catalogue`](super::catalogue()) sees it. A
/// test holds it against a database that was just migrated.
const EXPECTED: &str = include_str!("expected.txt");

/// Holds the database against what our migrations make. Only reads.
///
/// The tables of an adopted database keep Go's looser checks, and its cascading
/// foreign key: SQLite could replace them only by rebuilding the tables. Where
/// the triggers that stand in for them are there, they count as tolerated.
///
/// # Errors
///
/// [`ErrorKind::NotMigrated`] where there is no kms table at all,
/// [`ErrorKind::Database`].
pub fn verify(conn: &mut SqliteConnection) -> Result<Report> {
    let tables = shared_tables(conn)?;
    if tables.is_empty() {
        return Err(ErrorKind::NotMigrated.into());
    }
    let expected = expected();
    let found = catalogue(conn)?;
    let comparison = expected.compare(&found);
    let (tolerated, differing) = comparison
        .differing
        .into_iter()
        .partition(|difference| is_tolerated(difference, &expected, &found));
    let mut report = Report {
        missing: comparison.missing,
        differing,
        tolerated,
        beyond: comparison.beyond,
        ..Report::default()
    };
    for table in [
        "kms_schema_version",
        "kms_collection_version",
        "kms_extension_version",
    ] {
        if table_exists(conn, table)?
            && number(conn, &format!("select count(*) as rows from {table}"))? == 0
        {
            report.missing.push(format!("row in {table}"));
        }
    }
    if tables.len() == SHARED_TABLES.len() {
        let trimmed = |column: &str| format!("trim({column}, ' ' || char(9, 10, 11, 12, 13))");
        for rule in oddities::rules(trimmed) {
            let rows = number(conn, &rule.count())?;
            if rows > 0 {
                let ids = texts(conn, &rule.ids())?;
                report.oddities.push(rule.oddity(rows, ids));
            }
        }
        report.oddities.extend(oddities::refused_scope_ids(|after| {
            let ids = diesel::sql_query(oddities::SCOPE_IDS).bind::<Text, _>(after);
            let rows = ids.load::<TextRow>(conn)?;
            Ok(rows.into_iter().map(|row| row.text).collect())
        })?);
    }
    if table_exists(conn, "kms_restoring")? {
        let reasons = texts(conn, "select reason as text from kms_restoring")?;
        if !reasons.is_empty() {
            report.oddities.push(Oddity {
                table: "kms_restoring".to_owned(),
                rule: "say that a restore is under way: delete them after it".to_owned(),
                rows: i64::try_from(reasons.len()).unwrap_or(i64::MAX),
                ids: reasons,
            });
        }
    }
    Ok(report)
}

pub(super) fn expected() -> Catalogue {
    Catalogue::parse(EXPECTED)
}

fn is_tolerated(difference: &Difference, expected: &Catalogue, found: &Catalogue) -> bool {
    let as_expected = |object: &str| found.definition(object) == expected.definition(object);
    let object = difference.object.as_str();
    match object {
        // Only versions below 1, which no statement of Go's or ours writes.
        "checks kms_collection_version" => true,
        _ if object.starts_with("checks ") => {
            let table = object.trim_start_matches("checks ");
            as_expected(&format!("trigger {table}.kms_not_blank_{table}"))
        }
        // Only a declaration: SQLite keeps a blob as a blob in either.
        "column kms_root_key_version.key" | "column kms_data_key_version.key" => {
            difference.found == difference.expected.replacen("blob", "bytea", 1)
        }
        "foreign key kms_data_key_version.root_key_version_id->kms_root_key_version" => {
            difference.found.contains("on delete cascade")
                && as_expected("trigger kms_root_key_version.kms_restrict_root_key_version")
        }
        _ => false,
    }
}
