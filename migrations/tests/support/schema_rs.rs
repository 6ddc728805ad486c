//! Reads what a `schema.rs` says, reads the same from a live database in the
//! words of `diesel print-schema`, and tells the two apart.

// Clippy's exception for tests ends at functions that are no tests themselves.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};

use crate::database::Connection;

/// What `schema.rs` says of the tables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Schema {
    tables: BTreeMap<String, Table>,
    /// `child -> parent (column)`.
    joinable: BTreeSet<String>,
    /// The tables that may appear in one query, in their order.
    together: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Table {
    primary_key: Vec<String>,
    /// Name and type, in the order of the columns.
    columns: Vec<(String, String)>,
}

impl Schema {
    /// Reads the macros of the file.
    pub(crate) fn of_file(text: &str) -> Self {
        let mut schema = Self::default();
        let mut lines = text.lines().map(str::trim);
        while let Some(line) = lines.next() {
            if line.starts_with("diesel::table!") {
                let (name, key) = lines
                    .next()
                    .unwrap()
                    .trim_end_matches(" {")
                    .split_once(" (")
                    .unwrap();
                let columns = lines
                    .by_ref()
                    .take_while(|line| *line != "}")
                    .map(|line| line.trim_end_matches(',').split_once(" -> ").unwrap())
                    .map(|(column, sql_type)| (column.to_owned(), sql_type.to_owned()))
                    .collect();
                let primary_key = key
                    .trim_end_matches(')')
                    .split(", ")
                    .map(str::to_owned)
                    .collect();
                schema.tables.insert(
                    name.to_owned(),
                    Table {
                        primary_key,
                        columns,
                    },
                );
            } else if let Some(join) = line.strip_prefix("diesel::joinable!(") {
                schema
                    .joinable
                    .insert(join.trim_end_matches(");").to_owned());
            } else if line.starts_with("diesel::allow_tables_to_appear_in_same_query!") {
                schema.together = lines
                    .by_ref()
                    .take_while(|line| *line != ");")
                    .map(|line| line.trim_end_matches(',').to_owned())
                    .collect();
            }
        }
        schema
    }

    /// Asks the database.
    pub(crate) fn of_database(conn: &mut Connection) -> Self {
        let (tables, columns, joins) = match conn {
            Connection::Postgres(_) => (POSTGRES_TABLES, POSTGRES_COLUMNS, POSTGRES_JOINS),
            Connection::Sqlite(_) => (SQLITE_TABLES, SQLITE_COLUMNS, SQLITE_JOINS),
        };
        let mut schema = Self {
            joinable: read(conn, joins).into_iter().collect(),
            together: read(conn, tables),
            ..Self::default()
        };
        for name in &schema.together {
            let mut table = Table::default();
            let mut key = Vec::new();
            for column in read(conn, (columns.0, &columns.1.replace("{table}", name))) {
                let [name, database_type, nullable, position] =
                    column.split('|').collect::<Vec<_>>().try_into().unwrap();
                let position: usize = position.parse().unwrap();
                if position > 0 {
                    key.push((position, name.to_owned()));
                }
                let sql_type = sql_type(conn, database_type);
                let sql_type = if nullable == "yes" {
                    format!("Nullable<{sql_type}>")
                } else {
                    sql_type.to_owned()
                };
                table.columns.push((name.to_owned(), sql_type));
            }
            if key.is_empty() {
                // SQLite's own key stands in where a table declares none.
                key.push((1, "rowid".to_owned()));
                table
                    .columns
                    .insert(0, ("rowid".to_owned(), "Integer".to_owned()));
            }
            key.sort();
            table.primary_key = key.into_iter().map(|(_, name)| name).collect();
            schema.tables.insert(name.clone(), table);
        }
        schema
    }
}

/// Every difference, by name. Empty where the two agree.
pub(crate) fn differences(written: &Schema, live: &Schema) -> Vec<String> {
    let mut found = Vec::new();
    one_sided(
        &mut found,
        "table ",
        written.tables.keys(),
        live.tables.keys(),
    );
    for (name, written) in &written.tables {
        let Some(live) = live.tables.get(name) else {
            continue;
        };
        let path = |columns: &[(String, String)]| -> BTreeSet<String> {
            columns
                .iter()
                .map(|(column, _)| format!("{name}.{column}"))
                .collect()
        };
        one_sided(
            &mut found,
            "",
            &path(&written.columns),
            &path(&live.columns),
        );
        for (column, sql_type) in &written.columns {
            if let Some((_, live_type)) = live.columns.iter().find(|(live, _)| live == column)
                && live_type != sql_type
            {
                found.push(format!(
                    "{name}.{column} is {live_type}, in schema.rs {sql_type}"
                ));
            }
        }
        if written.primary_key != live.primary_key {
            let (live, written) = (live.primary_key.join(", "), written.primary_key.join(", "));
            found.push(format!(
                "the primary key of {name} is ({live}), in schema.rs ({written})"
            ));
        }
    }
    one_sided(&mut found, "joinable ", &written.joinable, &live.joinable);
    if found.is_empty() && written != live {
        found.push(format!(
            "the order differs: {written:#?} and in the database {live:#?}"
        ));
    }
    found
}

fn one_sided<'a>(
    found: &mut Vec<String>,
    kind: &str,
    written: impl IntoIterator<Item = &'a String>,
    live: impl IntoIterator<Item = &'a String>,
) {
    let written: BTreeSet<&String> = written.into_iter().collect();
    let live: BTreeSet<&String> = live.into_iter().collect();
    for name in written.difference(&live) {
        found.push(format!("{kind}{name} is not in the database"));
    }
    for name in live.difference(&written) {
        found.push(format!("{kind}{name} is not in schema.rs"));
    }
}

/// The word of `diesel print-schema` for a type of the database.
fn sql_type(conn: &Connection, database_type: &str) -> &'static str {
    match (conn, database_type.to_lowercase().as_str()) {
        (_, "text") => "Text",
        (Connection::Sqlite(_), "int" | "integer") => "Integer",
        (Connection::Sqlite(_), "bigint") => "BigInt",
        (Connection::Sqlite(_), "blob") => "Binary",
        (_, "timestamp") => "Timestamp",
        (Connection::Postgres(_), "int4") => "Int4",
        (Connection::Postgres(_), "int8") => "Int8",
        (Connection::Postgres(_), "bytea") => "Bytea",
        (Connection::Postgres(_), "timestamptz") => "Timestamptz",
        (_, other) => panic!("no word for the type {other}"),
    }
}

/// An expression and where it is selected from.
type Query<'a> = (&'a str, &'a str);

fn read(conn: &mut Connection, (expression, from): Query<'_>) -> Vec<String> {
    let values = conn.values(expression, from);
    values.into_iter().map(Option::unwrap).collect()
}

const POSTGRES_TABLES: Query<'_> = (
    "table_name",
    r#"information_schema.tables
      where table_schema = current_schema() and table_name like 'kms\_%'
      order by table_name collate "C""#,
);

// A domain's name is in `domain_name`, the type below it in `udt_name`.
const POSTGRES_COLUMNS: Query<'_> = (
    "concat_ws('|', c.column_name, c.udt_name, lower(c.is_nullable), coalesce(k.ordinal_position, 0))",
    "information_schema.columns c
     left join information_schema.table_constraints t
       on t.table_schema = c.table_schema and t.table_name = c.table_name
      and t.constraint_type = 'PRIMARY KEY'
     left join information_schema.key_column_usage k
       on k.constraint_schema = t.constraint_schema and k.constraint_name = t.constraint_name
      and k.table_name = c.table_name and k.column_name = c.column_name
     where c.table_schema = current_schema() and c.table_name = '{table}'
     order by c.ordinal_position",
);

const POSTGRES_JOINS: Query<'_> = (
    "conrelid::regclass || ' -> ' || confrelid::regclass || ' (' || attname || ')'",
    "pg_constraint join pg_attribute on attrelid = conrelid and conkey = array[attnum]
     where contype = 'f' and connamespace = quote_ident(current_schema())::regnamespace",
);

const SQLITE_TABLES: Query<'_> = (
    "name",
    r"sqlite_schema where type = 'table' and name like 'kms\_%' escape '\' order by name",
);

const SQLITE_COLUMNS: Query<'_> = (
    r#"name || '|' || type || '|' || iif("notnull" or pk, 'no', 'yes') || '|' || pk"#,
    "pragma_table_info('{table}') order by cid",
);

const SQLITE_JOINS: Query<'_> = (
    r#"t.name || ' -> ' || f."table" || ' (' || f."from" || ')'"#,
    r"sqlite_schema t, pragma_foreign_key_list(t.name) f
      where t.type = 'table' and t.name like 'kms\_%' escape '\'",
);
