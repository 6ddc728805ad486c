//! Queries in Postgres' own words.

use diesel::dsl::{exists, not, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::result::Error as QueryError;
use diesel::sql_types::{Array, Binary, Bool, Double, Nullable, Text};
use kms_core::{
    Changes, CollectionVersion, DataKeyVersionId, KeyVersionId, MissingKeys, OnDelete, Purpose,
    Referencer, RootKeyVersionId, ScopeFilter, ScopeId, Snapshot,
};

use super::changes::ChangesSince;
use super::schema::{
    kms_extension_version, kms_root_key, kms_root_key_version, kms_schema_version,
};
use super::snapshot::{SnapshotOf, SnapshotOfOne};
use super::{ACCEPTS_WRITES, Conn, RunQueryDsl};
use crate::changes_row::{Asked, ChangesRow, Mark};
use crate::dialect::{Reading, SchemaVersions};
use crate::records::{missing_keys, seconds};
use crate::snapshot_row::SnapshotRow;

const MISSING: &str = "\
select r.scope_id::text as scope, p.purpose
  from kms_root_key r cross join unnest($1) as p (purpose)
 where ($2 is null or r.scope_id = any ($2))
   and not exists (
     select from kms_data_key k where k.root_key_id = r.private_id and k.purpose = p.purpose)
union all
select s.scope, null
  from unnest($2) as s (scope)
 where not exists (select from kms_root_key r where r.scope_id = s.scope)";

const COPIES: &str = "\
select v.private_id::text as id, true as root
  from kms_root_key_version v join kms_root_key r on r.private_id = v.root_key_id
 where r.scope_id <> $1
   and exists (select from unnest($2) as c (part) where position(c.part in v.key) > 0)
union all
select v.private_id::text, false
  from kms_data_key_version v
  join kms_data_key k on k.private_id = v.data_key_id
  join kms_root_key r on r.private_id = k.root_key_id
 where r.scope_id <> $1
   and exists (select from unnest($2) as c (part) where position(c.part in v.key) > 0)";

/// Partitions repeat the foreign key of their parent table, which stands for them.
const REFERENCERS: &str = "\
select n.nspname::text as schema, t.relname::text as \"table\", a.attname::text as \"column\",
       c.confdeltype::text as on_delete
  from pg_constraint c
  join pg_class t on t.oid = c.conrelid
  join pg_namespace n on n.oid = t.relnamespace
  join pg_attribute a on a.attrelid = c.conrelid and a.attnum = c.conkey[1]
 where c.contype = 'f' and c.conparentid = 0
   and c.confrelid = 'kms_data_key_version'::regclass
 order by 1, 2, 3";

#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
struct MissingRow {
    #[diesel(sql_type = Text)]
    scope: String,
    #[diesel(sql_type = Nullable<Text>)]
    purpose: Option<String>,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
struct CopyRow {
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Bool)]
    root: bool,
}

#[derive(QueryableByName)]
#[diesel(check_for_backend(Pg))]
struct ReferencerRow {
    #[diesel(sql_type = Text)]
    schema: String,
    #[diesel(sql_type = Text)]
    table: String,
    #[diesel(sql_type = Text)]
    column: String,
    #[diesel(sql_type = Text)]
    on_delete: String,
}

impl Reading for Conn {
    async fn accepts_writes(&mut self) -> QueryResult<bool> {
        diesel::select(sql::<Bool>(ACCEPTS_WRITES))
            .get_result(self)
            .await
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
        .get_result(self)
        .await;
        match both {
            Ok((shared, extension)) => Ok(SchemaVersions { shared, extension }),
            Err(QueryError::DatabaseError(..)) => versions_of_tables_that_exist(self).await,
            Err(error) => Err(error),
        }
    }

    async fn changes(&mut self, since: Option<CollectionVersion>) -> QueryResult<Changes> {
        let rows = ChangesSince(Asked::about(since)).load(self).await?;
        ChangesRow::gather(rows, since, Mark::ThisStep)
    }

    async fn snapshot(&mut self, scopes: &[&str]) -> QueryResult<Snapshot> {
        let rows: Vec<SnapshotRow> = match scopes {
            [scope] => SnapshotOfOne(scope).load(self).await?,
            _ => SnapshotOf(scopes).load(self).await?,
        };
        SnapshotRow::gather(rows)
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
        query.load(self).await
    }

    async fn count_scopes(&mut self, filter: &ScopeFilter) -> QueryResult<i64> {
        filtered(filter)
            .select(diesel::dsl::count_star())
            .first(self)
            .await
    }

    async fn missing(
        &mut self,
        purposes: &[Purpose],
        scopes: Option<&[ScopeId]>,
    ) -> QueryResult<Vec<MissingKeys>> {
        let purposes: Vec<_> = purposes.iter().map(Purpose::as_str).collect();
        let scopes: Option<Vec<_>> =
            scopes.map(|scopes| scopes.iter().map(ScopeId::as_str).collect());
        let rows: Vec<MissingRow> = diesel::sql_query(MISSING)
            .bind::<Array<Text>, _>(purposes)
            .bind::<Nullable<Array<Text>>, _>(scopes)
            .load(self)
            .await?;
        Ok(missing_keys(
            rows.into_iter().map(|row| (row.scope, row.purpose)),
        ))
    }

    async fn copies(
        &mut self,
        scope: &ScopeId,
        ciphertexts: &[Vec<u8>],
    ) -> QueryResult<Vec<KeyVersionId>> {
        let rows: Vec<CopyRow> = diesel::sql_query(COPIES)
            .bind::<Text, _>(scope.as_str())
            .bind::<Array<Binary>, _>(ciphertexts)
            .load(self)
            .await?;
        Ok(rows
            .into_iter()
            .map(|row| {
                if row.root {
                    RootKeyVersionId::from_stored(&row.id).into()
                } else {
                    DataKeyVersionId::from_stored(&row.id).into()
                }
            })
            .collect())
    }

    async fn referencers(&mut self) -> QueryResult<Vec<Referencer>> {
        let rows: Vec<ReferencerRow> = diesel::sql_query(REFERENCERS).load(self).await?;
        Ok(rows
            .into_iter()
            .map(|row| Referencer {
                schema: Some(row.schema),
                table: row.table,
                column: row.column,
                on_delete: match row.on_delete.as_str() {
                    "r" => OnDelete::Restrict,
                    "c" => OnDelete::Cascade,
                    "n" => OnDelete::SetNull,
                    "d" => OnDelete::SetDefault,
                    _ => OnDelete::NoAction,
                },
            })
            .collect())
    }
}

/// The root keys of the scopes that a filter lets through.
fn filtered(filter: &ScopeFilter) -> kms_root_key::BoxedQuery<'_, Pg> {
    let mut query = kms_root_key::table.into_boxed();
    if let Some(scopes) = &filter.scopes {
        let scopes: Vec<_> = scopes.iter().map(ScopeId::as_str).collect();
        query = query.filter(kms_root_key::scope_id.eq_any(scopes));
    }
    if let Some(age) = filter.older_than {
        let versions = kms_root_key_version::table
            .filter(kms_root_key_version::root_key_id.eq(kms_root_key::private_id));
        let younger = versions.filter(
            sql::<Bool>(
                "kms_root_key_version.create_time > clock_timestamp() - make_interval(secs => ",
            )
            .bind::<Double, _>(seconds(age))
            .sql(")"),
        );
        query = query.filter(exists(versions)).filter(not(exists(younger)));
    }
    query
}

/// Where one is missing, which fails the one statement.
async fn versions_of_tables_that_exist(connection: &mut Conn) -> QueryResult<SchemaVersions> {
    let (shared, extension): (bool, bool) = diesel::select((
        sql::<Bool>("to_regclass('kms_schema_version') is not null"),
        sql::<Bool>("to_regclass('kms_extension_version') is not null"),
    ))
    .get_result(connection)
    .await?;
    let mut versions = SchemaVersions::default();
    if shared {
        versions.shared = kms_schema_version::table
            .select(kms_schema_version::version)
            .first(connection)
            .await
            .optional()?;
    }
    if extension {
        versions.extension = kms_extension_version::table
            .select(kms_extension_version::version)
            .first(connection)
            .await
            .optional()?;
    }
    Ok(versions)
}
