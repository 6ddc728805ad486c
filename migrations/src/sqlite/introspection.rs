//! Reads the kms objects of a SQLite database.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::SqliteConnection;

use crate::catalogue::Catalogue;
use crate::error::Result;

/// The kms objects of the database: tables, columns, foreign keys, checks,
/// indexes, triggers.
///
/// # Errors
///
/// [`Database`](crate::ErrorKind::Database).
pub fn catalogue(conn: &mut SqliteConnection) -> Result<Catalogue> {
    let mut catalogue = Catalogue::default();
    for query in [COLUMNS, FOREIGN_KEYS, UNIQUE] {
        for object in diesel::sql_query(query).load::<Object>(conn)? {
            catalogue.insert(object.name, &object.definition);
        }
    }
    for object in diesel::sql_query(STATEMENTS).load::<Object>(conn)? {
        catalogue.insert_source(object.name, &without_comments(&object.definition));
    }
    for object in diesel::sql_query(TABLES).load::<Object>(conn)? {
        let checks = checks(&without_comments(&object.definition)).join(" and ");
        catalogue.insert(object.name, &checks);
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

const COLUMNS: &str = r#"
select 'column ' || t.name || '.' || c.name as name,
       lower(c.type)
         || case when c."notnull" then ' not null' else '' end
         || case when c.pk > 0 then ' primary key ' || c.pk else '' end
         || coalesce(' default ' || lower(c.dflt_value), '') as definition
from sqlite_schema t, pragma_table_xinfo(t.name) c
where t.type = 'table' and t.name like 'kms\_%' escape '\'"#;

const FOREIGN_KEYS: &str = r#"
select 'foreign key ' || t.name || '.' || f."from" || '->' || f."table" as name,
       coalesce(f."to", '') || ' on delete ' || lower(f.on_delete)
         || ' on update ' || lower(f.on_update) as definition
from sqlite_schema t, pragma_foreign_key_list(t.name) f
where t.type = 'table' and t.name like 'kms\_%' escape '\'"#;

// By its columns: SQLite names the index of a constraint by its position.
const UNIQUE: &str = r#"
select 'unique ' || t.name || '('
         || (select group_concat(name, ', ') from (select name from pragma_index_info(i.name) order by seqno))
         || ')' as name,
       '' as definition
from sqlite_schema t, pragma_index_list(t.name) i
where t.type = 'table' and t.name like 'kms\_%' escape '\' and i.origin = 'u'"#;

const STATEMENTS: &str = r#"
select type || ' ' || tbl_name || '.' || name as name, sql as definition
from sqlite_schema
where type in ('trigger', 'index') and tbl_name like 'kms\_%' escape '\' and sql is not null"#;

const TABLES: &str = r#"
select 'checks ' || name as name, sql as definition
from sqlite_schema
where type = 'table' and name like 'kms\_%' escape '\'"#;

/// The expressions of the `check` constraints of a `create table`.
fn checks(statement: &str) -> Vec<String> {
    let lower = statement.to_ascii_lowercase();
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = lower[from..].find("check").map(|at| at + from) {
        from = at + "check".len();
        let after = statement[from..].trim_start();
        if after.starts_with('(')
            && let Some(expression) = parenthesised(after)
        {
            found.push(expression.split_whitespace().collect::<Vec<_>>().join(" "));
        }
    }
    found
}

/// The text from its opening parenthesis to the one that closes it.
fn parenthesised(text: &str) -> Option<&str> {
    let mut depth = 0_usize;
    let mut in_string = false;
    for (at, character) in text.char_indices() {
        match character {
            '\'' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(&text[..=at]);
                }
            }
            _ => {}
        }
    }
    None
}

/// SQLite keeps statements as they were written.
fn without_comments(statement: &str) -> String {
    let mut kept = String::with_capacity(statement.len());
    let mut rest = statement;
    let mut in_string = false;
    while let Some(character) = rest.chars().next() {
        if !in_string && rest.starts_with("--") {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
            continue;
        }
        if !in_string && rest.starts_with("/*") {
            rest = rest.find("*/").map_or("", |end| &rest[end + 2..]);
            continue;
        }
        if character == '\'' {
            in_string = !in_string;
        }
        kept.push(character);
        rest = &rest[character.len_utf8()..];
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_whole_and_without_comments() {
        let statement = "create table t ( -- check (no)\n a text check (a <> ')'\n and b), \
                         constraint c check(length(trim(a)) > 0))";
        assert_eq!(
            checks(&without_comments(statement)),
            ["(a <> ')' and b)", "(length(trim(a)) > 0)"]
        );
    }
}
