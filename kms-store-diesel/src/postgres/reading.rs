//! Queries in Postgres' own words.

use diesel::dsl::{exists, not, sql};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Double, Nullable, SmallInt, Text, Timestamptz,
};
use kms_core::{
    CollectionVersion, DataKeyVersionId, KeyVersionId, MissingKeys, OnDelete, Purpose, Referencer,
    RootKeyVersionId, ScopeFilter, ScopeId, Snapshot,
};

use super::schema::{
    kms_collection_version, kms_extension_version, kms_root_key, kms_root_key_version,
    kms_schema_version,
};
use crate::dialect::{Reading, SchemaVersions};
use crate::records::{
    CollectionRecord, DataKeyRecord, DataKeyVersionRecord, KeyRecords, RootKeyRecord,
    RootKeyVersionRecord, missing_keys,
};
use crate::stored_time::StoredTime;

/// Everything of some scopes in one statement, and so in one snapshot and one round trip. The column
/// `tag` tells what a row is.
const SNAPSHOT: &str = "\
with selected as materialized (
  select private_id, scope_id, create_time from kms_root_key where scope_id = any ($1)
)
select 0::int2 as tag, ''::text as id, null::text as parent, null::text as wrapper,
       null::text as label, version::int8 as version, null::bytea as key,
       (update_time at time zone 'UTC')::timestamptz as time
  from kms_collection_version
union all
select 1::int2, private_id::text, null, null, scope_id::text, null, null, create_time::timestamptz
  from selected
union all
select 2::int2, v.private_id::text, v.root_key_id::text, null, null, v.version::int8, v.key,
       v.create_time::timestamptz
  from selected s join kms_root_key_version v on v.root_key_id = s.private_id
union all
select 3::int2, k.private_id::text, k.root_key_id::text, null, k.purpose, null, null,
       k.create_time::timestamptz
  from selected s join kms_data_key k on k.root_key_id = s.private_id
union all
select 4::int2, v.private_id::text, v.data_key_id::text, v.root_key_version_id::text, null,
       v.version::int8, v.key, v.create_time::timestamptz
  from selected s
  join kms_data_key k on k.root_key_id = s.private_id
  join kms_data_key_version v on v.data_key_id = k.private_id";

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
struct SnapshotRow {
    #[diesel(sql_type = SmallInt)]
    tag: i16,
    #[diesel(sql_type = Text)]
    id: String,
    #[diesel(sql_type = Nullable<Text>)]
    parent: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    wrapper: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    label: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    version: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    key: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    time: Option<StoredTime>,
}

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

impl Reading for PgConnection {
    fn schema_versions(&mut self) -> QueryResult<SchemaVersions> {
        let (shared, extension): (bool, bool) = diesel::select((
            sql::<Bool>("to_regclass('kms_schema_version') is not null"),
            sql::<Bool>("to_regclass('kms_extension_version') is not null"),
        ))
        .get_result(self)?;
        let mut versions = SchemaVersions::default();
        if shared {
            versions.shared = kms_schema_version::table
                .select(kms_schema_version::version)
                .first(self)
                .optional()?;
        }
        if extension {
            versions.extension = kms_extension_version::table
                .select(kms_extension_version::version)
                .first(self)
                .optional()?;
        }
        Ok(versions)
    }

    fn collection(&mut self) -> QueryResult<CollectionVersion> {
        kms_collection_version::table
            .select((
                kms_collection_version::version,
                kms_collection_version::update_time.nullable(),
            ))
            .first::<CollectionRecord>(self)
            .map(Into::into)
    }

    fn snapshot(&mut self, scopes: &[&str]) -> QueryResult<Snapshot> {
        let rows: Vec<SnapshotRow> = diesel::sql_query(SNAPSHOT)
            .bind::<Array<Text>, _>(scopes)
            .load(self)?;
        let mut collection = None;
        let mut records = KeyRecords::default();
        for row in rows {
            match row.tag {
                0 => {
                    collection = Some(CollectionRecord {
                        version: row.version.unwrap_or_default(),
                        update_time: row.time,
                    });
                }
                1 => records.root_keys.push(RootKeyRecord {
                    id: row.id,
                    scope: row.label.unwrap_or_default(),
                    create_time: row.time,
                }),
                2 => records.root_key_versions.push(RootKeyVersionRecord {
                    id: row.id,
                    root_key: row.parent.unwrap_or_default(),
                    version: row.version.unwrap_or_default(),
                    key: row.key.unwrap_or_default(),
                    create_time: row.time,
                }),
                3 => records.data_keys.push(DataKeyRecord {
                    id: row.id,
                    root_key: row.parent.unwrap_or_default(),
                    purpose: row.label.unwrap_or_default(),
                    create_time: row.time,
                }),
                _ => records.data_key_versions.push(DataKeyVersionRecord {
                    id: row.id,
                    data_key: row.parent.unwrap_or_default(),
                    root_key_version: row.wrapper.unwrap_or_default(),
                    version: row.version.unwrap_or_default(),
                    key: row.key.unwrap_or_default(),
                    create_time: row.time,
                }),
            }
        }
        Ok(Snapshot {
            collection: collection.ok_or(diesel::NotFound)?.into(),
            scopes: records.into_scopes(),
        })
    }

    fn scopes(
        &mut self,
        filter: &ScopeFilter,
        after: Option<&ScopeId>,
        limit: i64,
    ) -> QueryResult<Vec<String>> {
        let mut query = kms_root_key::table
            .select(kms_root_key::scope_id)
            .order(kms_root_key::scope_id)
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            query = query.filter(kms_root_key::scope_id.gt(after.as_str()));
        }
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
                .bind::<Double, _>(age.as_secs_f64())
                .sql(")"),
            );
            query = query.filter(exists(versions)).filter(not(exists(younger)));
        }
        query.load(self)
    }

    fn missing(
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
            .load(self)?;
        Ok(missing_keys(
            rows.into_iter().map(|row| (row.scope, row.purpose)),
        ))
    }

    fn copies(
        &mut self,
        scope: &ScopeId,
        ciphertexts: &[Vec<u8>],
    ) -> QueryResult<Vec<KeyVersionId>> {
        let rows: Vec<CopyRow> = diesel::sql_query(COPIES)
            .bind::<Text, _>(scope.as_str())
            .bind::<Array<Binary>, _>(ciphertexts)
            .load(self)?;
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

    fn referencers(&mut self) -> QueryResult<Vec<Referencer>> {
        let rows: Vec<ReferencerRow> = diesel::sql_query(REFERENCERS).load(self)?;
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
