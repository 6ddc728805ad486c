//! Holds a database against what the migrations make.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::{TextRow, catalogue, number, shared_tables, table_exists, texts};
use crate::bookkeeping::SHARED_TABLES;
use crate::catalogue::Catalogue;
use crate::error::{ErrorKind, Result};
use crate::oddities;
use crate::report::Report;

/// What the migrations make, as [`catalogue`](super::catalogue()) sees it. A
/// test holds it against a database that was just migrated.
const EXPECTED: &str = include_str!("expected.txt");

/// Who may create objects in the schema beside its owner and that of the tables.
const CREATORS: &str = "\
select case a.grantee when 0 then 'public' else a.grantee::regrole::text end as text
  from pg_namespace n
  join pg_class t on t.relnamespace = n.oid and t.relname = 'kms_root_key'
 cross join aclexplode(n.nspacl) a
 where n.oid = quote_ident(current_schema())::regnamespace
   and a.privilege_type = 'CREATE' and a.grantee not in (n.nspowner, t.relowner)
 order by 1";

/// Holds the current schema against what our migrations make. Only reads.
///
/// # Errors
///
/// [`ErrorKind::NotMigrated`] where there is no kms table at all,
/// [`ErrorKind::Database`].
pub fn verify(conn: &mut PgConnection) -> Result<Report> {
    let tables = shared_tables(conn)?;
    if tables.is_empty() {
        return Err(ErrorKind::NotMigrated.into());
    }
    let found = catalogue(conn)?;
    let comparison = expected().compare(&found);
    let mut report = Report {
        missing: comparison.missing,
        differing: comparison.differing,
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
        let trimmed = |column: &str| format!(r"btrim({column}, E' \t\n\x0b\f\r')");
        for rule in oddities::rules(trimmed)
            .into_iter()
            .chain(oddities::copied())
        {
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
        report.creators = texts(conn, CREATORS)?;
    }
    Ok(report)
}

pub(super) fn expected() -> Catalogue {
    Catalogue::parse(EXPECTED)
}
