//! Queries in SQLite's own words.

use diesel::dsl::{exists, not, sql};
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{Binary, Bool, Double, Nullable, Text};
use diesel::sqlite::Sqlite;
use kms_core::{
    Changes, CollectionVersion, DataKeyVersionId, KeyVersionId, MissingKeys, OnDelete, Purpose,
    Referencer, RootKeyVersionId, ScopeFilter, ScopeId, Snapshot,
};

use super::schema::{
    kms_data_key, kms_data_key_version, kms_extension_version, kms_root_key, kms_root_key_version,
    kms_schema_version,
};
use super::{changes, snapshot};
use crate::dialect::{Reading, SchemaVersions};
use crate::records::{missing_keys, seconds};

/// A list is handed over as JSON: SQLite has no arrays, and a number of parameters would be limited.
const MISSING: &str = "\
select r.scope_id as scope, p.value as purpose
  from kms_root_key r cross join json_each(?1) p
 where (?2 is null or r.scope_id in (select value from json_each(?2)))
   and not exists (
     select 1 from kms_data_key k where k.root_key_id = r.private_id and k.purpose = p.value)
union all
select s.value, null
  from json_each(?2) s
 where not exists (select 1 from kms_root_key r where r.scope_id = s.value)";

/// The table's own spelling of its name counts in neither place; an omitted column is the primary key.
const REFERENCERS: &str = "\
select m.name as \"table\", f.\"from\" as \"column\", f.on_delete as on_delete
  from sqlite_master m, pragma_foreign_key_list(m.name) f
 where m.type = 'table' and lower(f.\"table\") = 'kms_data_key_version' and f.seq = 0
 order by 1, 2";

#[derive(QueryableByName)]
#[diesel(check_for_backend(Sqlite))]
struct MissingRow {
    #[diesel(sql_type = Text)]
    scope: String,
    #[diesel(sql_type = Nullable<Text>)]
    purpose: Option<String>,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(Sqlite))]
struct ReferencerRow {
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    column: String,
    #[diesel(sql_type = Text)]
    on_delete: String,
}

impl Reading for SqliteConnection {
    async fn accepts_writes(&mut self) -> QueryResult<bool> {
        // A file is not left for another one.
        Ok(true)
    }

    async fn schema_versions(&mut self) -> QueryResult<SchemaVersions> {
        // One statement where both tables are there, as they are at every start but a failing one.
        let both = diesel::select((
            kms_schema_version::table
                .select(kms_schema_version::version)
                .single_value(),
            kms_extension_version::table
                .select(kms_extension_version::version)
                .single_value(),
        ))
        .get_result(self);
        match both {
            Ok((shared, extension)) => Ok(SchemaVersions { shared, extension }),
            Err(QueryError::DatabaseError(..)) => versions_of_tables_that_exist(self),
            Err(error) => Err(error),
        }
    }

    async fn changes(&mut self, since: Option<CollectionVersion>) -> QueryResult<Changes> {
        changes::load(self, since)
    }

    async fn snapshot(&mut self, scopes: &[&str]) -> QueryResult<Snapshot> {
        snapshot::load(self, scopes)
    }

    async fn scopes(
        &mut self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: i64,
    ) -> QueryResult<Vec<String>> {
        let mut query = filtered(filter)
            .select(kms_root_key::scope_id)
            .order(kms_root_key::scope_id)
            .limit(limit);
        if let Some(after) = after {
            query = query.filter(kms_root_key::scope_id.gt(after.as_str()));
        }
        query.load(self)
    }

    async fn count_scopes(&mut self, filter: &ScopeFilter) -> QueryResult<i64> {
        filtered(filter)
            .select(diesel::dsl::count_star())
            .first(self)
    }

    async fn missing(
        &mut self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> QueryResult<Vec<MissingKeys>> {
        let rows: Vec<MissingRow> = diesel::sql_query(MISSING)
            .bind::<Text, _>(json(purposes.iter().map(Purpose::as_str)))
            .bind::<Nullable<Text>, _>(
                scopes.map(|scopes| json(scopes.iter().map(ScopeId::as_str))),
            )
            .load(self)?;
        Ok(missing_keys(
            rows.into_iter().map(|row| (row.scope, row.purpose)),
        ))
    }

    async fn copies(
        &mut self,
        scope: &ScopeId,
        ciphertexts: &[Vec<u8>],
    ) -> QueryResult<Vec<KeyVersionId>> {
        let mut found: Vec<KeyVersionId> = Vec::new();
        for ciphertext in ciphertexts {
            // Bytes, whatever type a hand has given the value.
            let holds = |column: &str| {
                sql::<Bool>(&format!("instr(cast({column} as blob), "))
                    .bind::<Binary, _>(ciphertext)
                    .sql(") > 0")
            };
            let root: Vec<String> = kms_root_key_version::table
                .inner_join(kms_root_key::table)
                .filter(kms_root_key::scope_id.ne(scope.as_str()))
                .filter(holds("kms_root_key_version.key"))
                .select(kms_root_key_version::private_id)
                .load(self)?;
            let data: Vec<String> = kms_data_key_version::table
                .inner_join(kms_data_key::table.inner_join(kms_root_key::table))
                .filter(kms_root_key::scope_id.ne(scope.as_str()))
                .filter(holds("kms_data_key_version.key"))
                .select(kms_data_key_version::private_id)
                .load(self)?;
            found.extend(
                root.iter()
                    .map(|id| RootKeyVersionId::from_stored(id).into()),
            );
            found.extend(
                data.iter()
                    .map(|id| DataKeyVersionId::from_stored(id).into()),
            );
        }
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    async fn referencers(&mut self) -> QueryResult<Vec<Referencer>> {
        let rows: Vec<ReferencerRow> = diesel::sql_query(REFERENCERS).load(self)?;
        Ok(rows
            .into_iter()
            .map(|row| Referencer {
                schema: None,
                table: row.table,
                column: row.column,
                on_delete: match row.on_delete.to_ascii_uppercase().as_str() {
                    "RESTRICT" => OnDelete::Restrict,
                    "CASCADE" => OnDelete::Cascade,
                    "SET NULL" => OnDelete::SetNull,
                    "SET DEFAULT" => OnDelete::SetDefault,
                    _ => OnDelete::NoAction,
                },
            })
            .collect())
    }
}

/// The root keys of the scopes that a filter lets through.
fn filtered(filter: &ScopeFilter) -> kms_root_key::BoxedQuery<'_, Sqlite> {
    let mut query = kms_root_key::table.into_boxed();
    if let Some(scopes) = &filter.scopes {
        query = query.filter(
            sql::<Bool>("kms_root_key.scope_id in (select value from json_each(")
                .bind::<Text, _>(json(scopes.iter().map(ScopeId::as_str)))
                .sql("))"),
        );
    }
    if let Some(age) = filter.older_than {
        let versions = kms_root_key_version::table
            .filter(kms_root_key_version::root_key_id.eq(kms_root_key::private_id));
        // Days as a number: Go and we keep the same moment in different formats.
        let younger = versions.filter(
            sql::<Bool>("julianday(kms_root_key_version.create_time) > julianday('now') - ")
                .bind::<Double, _>(seconds(age) / 86_400.0)
                .sql(""),
        );
        query = query.filter(exists(versions)).filter(not(exists(younger)));
    }
    query
}

/// Where one is missing, which fails the one statement.
fn versions_of_tables_that_exist(connection: &mut SqliteConnection) -> QueryResult<SchemaVersions> {
    let mut versions = SchemaVersions::default();
    if has_table(connection, "kms_schema_version")? {
        versions.shared = kms_schema_version::table
            .select(kms_schema_version::version)
            .first(connection)
            .optional()?;
    }
    if has_table(connection, "kms_extension_version")? {
        versions.extension = kms_extension_version::table
            .select(kms_extension_version::version)
            .first(connection)
            .optional()?;
    }
    Ok(versions)
}

fn has_table(connection: &mut SqliteConnection, name: &str) -> QueryResult<bool> {
    diesel::select(
        sql::<Bool>("exists (select 1 from sqlite_master where type = 'table' and name = ")
            .bind::<Text, _>(name)
            .sql(")"),
    )
    .get_result(connection)
}

/// A JSON array of these texts.
pub(super) fn json<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut array = String::from("[");
    for text in texts {
        if array.len() > 1 {
            array.push(',');
        }
        array.push('"');
        for character in text.chars() {
            match character {
                '"' => array.push_str("\\\""),
                '\\' => array.push_str("\\\\"),
                control if control < ' ' => {
                    array.push_str("\\u00");
                    array.push(char::from(b"0123456789abcdef"[(control as usize) >> 4]));
                    array.push(char::from(b"0123456789abcdef"[(control as usize) & 15]));
                }
                other => array.push(other),
            }
        }
        array.push('"');
    }
    array.push(']');
    array
}

#[cfg(test)]
mod tests {
    use diesel::connection::Connection as _;

    use super::*;

    #[test]
    fn any_text_goes_through_a_json_array_unchanged() {
        let texts = ["a", "\"", "\\", "\u{1}\u{1f}\n", "日本 ü 🦀", "", "]"];
        let mut connection = SqliteConnection::establish(":memory:").unwrap();
        let back: Vec<String> = sql::<Text>("select value from json_each(")
            .bind::<Text, _>(json(texts.into_iter()))
            .sql(")")
            .load(&mut connection)
            .unwrap();
        assert_eq!(back, texts);
    }
}
