//! Everything that a database holds, as text: what a refusal must leave as it was.

use anyhow::{Result, bail};

use crate::connection::Connection;
use crate::database::Database;

/// Definitions and rows, one a line. Not only those of the kms tables: the bookkeeping of other programs too.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Dump(Vec<String>);

impl Dump {
    pub(crate) fn of(database: &Database) -> Result<Self> {
        let mut connection = database.connect()?;
        let mut lines = Vec::new();
        let definitions: &[&str] = match connection {
            Connection::Postgres(_) => &POSTGRES,
            Connection::Sqlite(_) => &SQLITE,
        };
        for query in definitions {
            lines.extend(connection.texts(query)?);
        }
        let tables = connection.texts(match connection {
            Connection::Postgres(_) => POSTGRES_TABLES,
            Connection::Sqlite(_) => SQLITE_TABLES,
        })?;
        for table in tables {
            let query = match connection {
                Connection::Postgres(_) => {
                    format!("select t::text as t from {table} as t order by 1")
                }
                Connection::Sqlite(_) => {
                    let columns = connection.texts(&format!(
                        "select group_concat('coalesce(quote(\"' || name || '\"), '''')', ' || '','' || ') as t
                         from pragma_table_info('{table}')"
                    ))?;
                    format!(
                        "select {} as t from \"{table}\" order by 1",
                        columns.concat()
                    )
                }
            };
            let rows = connection.texts(&query)?;
            lines.extend(rows.into_iter().map(|row| format!("{table}: {row}")));
        }
        Ok(Self(lines))
    }

    /// The rows of the tables whose names end in this, with this text in them.
    pub(crate) fn rows(&self, table: &str, text: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|line| line.contains(&format!("{table}: ")) && line.contains(text))
            .map(String::as_str)
            .collect()
    }

    /// Fails with what is different, if anything is.
    pub(crate) fn same_as(&self, before: &Self) -> Result<()> {
        let lacks = before.0.iter().find(|line| !self.0.contains(line));
        let has = self.0.iter().find(|line| !before.0.contains(line));
        match (lacks, has) {
            (None, None) if self == before => Ok(()),
            _ => bail!("a refusal changed something: from {lacks:?} to {has:?}"),
        }
    }
}

/// What users made, in whatever schema.
const POSTGRES_TABLES: &str = "
    select format('%I.%I', nspname, relname) as t
      from pg_class join pg_namespace on pg_namespace.oid = relnamespace
     where relkind = 'r' and nspname not like 'pg\\_%' and nspname <> 'information_schema' order by 1";

const POSTGRES: [&str; 8] = [
    "select 'schema ' || nspname || coalesce(nspacl::text, '') as t from pg_namespace
      where nspname not like 'pg\\_%' and nspname <> 'information_schema' order by 1",
    "select concat_ws(' ', 'relation', oid::regclass, relkind, relowner::regrole, relacl::text) as t from pg_class
      where relnamespace::regnamespace::text not in ('pg_catalog', 'pg_toast', 'information_schema') order by 1",
    "select concat_ws(' ', 'column', attrelid::regclass, attnum, attname, format_type(atttypid, atttypmod),
                      attnotnull, pg_get_expr(adbin, adrelid)) as t
       from pg_attribute join pg_class on pg_class.oid = attrelid
       left join pg_attrdef on adrelid = attrelid and adnum = attnum
      where attnum > 0 and relkind = 'r'
        and relnamespace::regnamespace::text not in ('pg_catalog', 'information_schema') order by 1",
    "select concat_ws(' ', 'constraint', connamespace::regnamespace, conrelid::regclass, contypid::regtype, conname,
                      pg_get_constraintdef(oid)) as t
       from pg_constraint
      where connamespace::regnamespace::text not in ('pg_catalog', 'information_schema') order by 1",
    "select concat_ws(' ', 'index', pg_get_indexdef(indexrelid), indisvalid) as t
       from pg_index join pg_class on pg_class.oid = indrelid
      where relnamespace::regnamespace::text not in ('pg_catalog', 'pg_toast', 'information_schema') order by 1",
    "select concat_ws(' ', 'trigger', pg_get_triggerdef(oid), tgenabled) as t
       from pg_trigger where not tgisinternal order by 1",
    "select concat_ws(' ', 'function', pg_get_functiondef(oid), proowner::regrole, proacl::text) as t from pg_proc
      where pronamespace::regnamespace::text not in ('pg_catalog', 'information_schema') and prokind = 'f' order by 1",
    "select concat_ws(' ', 'type', oid::regtype, typtype, typbasetype::regtype, typnotnull, typdefault) as t from pg_type
      where typnamespace::regnamespace::text not in ('pg_catalog', 'pg_toast', 'information_schema') order by 1",
];

const SQLITE_TABLES: &str = "select name as t from sqlite_master where type = 'table' order by 1";

/// `schema_version` counts every definition that was ever made or dropped.
const SQLITE: [&str; 3] = [
    "select type || ' ' || name || ' on ' || tbl_name || ': ' || coalesce(sql, '') as t from sqlite_master order by 1",
    "select 'changed ' || schema_version || ' times' as t from pragma_schema_version",
    "select 'journal mode ' || journal_mode as t from pragma_journal_mode",
];
