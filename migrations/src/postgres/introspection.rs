//! Reads the kms objects of a schema from Postgres' own catalogue.

use diesel::pg::PgConnection;
use diesel::prelude::*;
use diesel::sql_types::Text;

use crate::catalogue::Catalogue;
use crate::error::Result;

/// The kms objects of the current schema: domains, tables, constraints,
/// indexes, triggers, functions.
///
/// # Errors
///
/// [`Database`](crate::ErrorKind::Database).
pub fn catalogue(conn: &mut PgConnection) -> Result<Catalogue> {
    let mut catalogue = Catalogue::default();
    for query in QUERIES {
        for object in diesel::sql_query(query).load::<Object>(conn)? {
            catalogue.insert(object.name, &object.definition);
        }
    }
    for object in diesel::sql_query(FUNCTIONS).load::<Object>(conn)? {
        // How a function's body is spaced out makes no difference.
        let words: Vec<&str> = object.definition.split_whitespace().collect();
        catalogue.insert(object.name, &words.join(" "));
    }
    Ok(catalogue)
}

#[derive(QueryableByName)]
struct Object {
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    definition: String,
}

const QUERIES: [&str; 6] = [
    DOMAINS,
    COLUMNS,
    DOMAIN_CONSTRAINTS,
    TABLE_CONSTRAINTS,
    INDEXES,
    TRIGGERS,
];

const DOMAINS: &str = r"
select 'domain ' || typname as name,
       format_type(typbasetype, typtypmod)
         || case when typnotnull then ' not null' else '' end
         || coalesce(' default ' || typdefault, '') as definition
from pg_type
where typnamespace = quote_ident(current_schema())::regnamespace and typtype = 'd' and typname like 'kms\_%'";

const COLUMNS: &str = r"
select 'column ' || c.relname || '.' || a.attname as name,
       format_type(a.atttypid, a.atttypmod)
         || case when a.attnotnull then ' not null' else '' end
         || coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '') as definition
from pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where c.relnamespace = quote_ident(current_schema())::regnamespace
  and c.relkind in ('r', 'p') and c.relname like 'kms\_%'";

// A constraint that adopted rows break is not validated, which is no
// difference: new rows are held to it. The rows are listed as odd.
const DOMAIN_CONSTRAINTS: &str = r"
select 'constraint ' || t.typname || '.' || c.conname as name,
       regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '') as definition
from pg_constraint c
join pg_type t on t.oid = c.contypid
where t.typnamespace = quote_ident(current_schema())::regnamespace and t.typname like 'kms\_%'
  and c.contype = 'c'";

// Without `n`: newer releases list what is not null as constraints too.
const TABLE_CONSTRAINTS: &str = r"
select 'constraint ' || t.relname || '.' || c.conname as name,
       regexp_replace(pg_get_constraintdef(c.oid), ' NOT VALID$', '') as definition
from pg_constraint c
join pg_class t on t.oid = c.conrelid
where t.relnamespace = quote_ident(current_schema())::regnamespace and t.relname like 'kms\_%'
  and c.contype in ('c', 'f', 'p', 'u', 'x')";

const INDEXES: &str = r"
select 'index ' || t.relname || '.' || x.relname as name,
       pg_get_indexdef(i.indexrelid, 0, true)
         || case when i.indisvalid then '' else ' (invalid)' end as definition
from pg_index i
join pg_class t on t.oid = i.indrelid
join pg_class x on x.oid = i.indexrelid
where t.relnamespace = quote_ident(current_schema())::regnamespace and t.relname like 'kms\_%'
  and not exists (select 1 from pg_constraint c where c.conindid = i.indexrelid and c.conrelid = t.oid)";

const TRIGGERS: &str = r"
select 'trigger ' || t.relname || '.' || g.tgname as name,
       pg_get_triggerdef(g.oid, true)
         || case when g.tgenabled = 'O' then '' else ' (not enabled)' end as definition
from pg_trigger g
join pg_class t on t.oid = g.tgrelid
where t.relnamespace = quote_ident(current_schema())::regnamespace and t.relname like 'kms\_%'
  and not g.tgisinternal";

// Functions that are safe from others' objects in the schema name it in their
// bodies, before each table.
const FUNCTIONS: &str = r"
select 'function ' || p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')' as name,
       'returns ' || pg_get_function_result(p.oid)
         || case when p.prosecdef then ' security definer' else '' end
         || coalesce(' set ' || replace(
              array_to_string(p.proconfig, ' set '),
              'search_path=' || quote_ident(current_schema()) || ',',
              'search_path=(schema of the tables),'), '')
         || case when has_function_privilege('public', p.oid, 'execute') then '' else ' not public' end
         || ' as ' || replace(
              p.prosrc, quote_ident(current_schema()) || '.kms_', '(schema of the tables).kms_') as definition
from pg_proc p
where p.pronamespace = quote_ident(current_schema())::regnamespace and p.proname like 'kms\_%'";
