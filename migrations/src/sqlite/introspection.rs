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
        catalogue.insert(object.name, &normalised(&object.definition));
    }
    for object in diesel::sql_query(TABLES).load::<Object>(conn)? {
        let statement = normalised(&object.definition);
        catalogue.insert(object.name, &checks(&statement).join(" and "));
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

/// The expressions of the `check` constraints of a normalised `create table`.
fn checks(statement: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = statement;
    while let Some(at) = rest.find("check(") {
        let expression = &rest[at + "check".len()..];
        let end = closing(expression).unwrap_or(expression.len());
        found.push(&expression[..end]);
        rest = &expression[end..];
    }
    found
}

/// Where the parenthesis that opens the text is closed.
fn closing(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    let mut in_string = false;
    for (at, character) in text.char_indices() {
        match character {
            '\'' => in_string = !in_string,
            '(' if !in_string => depth += 1,
            ')' if !in_string => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// A statement without what makes no difference: comments, case, spacing.
/// SQLite keeps statements as they were written.
fn normalised(statement: &str) -> String {
    let mut kept = String::with_capacity(statement.len());
    let mut rest = statement;
    while let Some(character) = rest.chars().next() {
        let length = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if character == '\'' {
            let end = rest[1..].find('\'').map_or(rest.len(), |end| end + 2);
            kept.push_str(&rest[..end]);
            end
        } else if character.is_whitespace() {
            if !kept.ends_with([' ', '(', ',', ';']) {
                kept.push(' ');
            }
            character.len_utf8()
        } else {
            if matches!(character, '(' | ')' | ',' | ';') && kept.ends_with(' ') {
                kept.pop();
            }
            kept.push(character.to_ascii_lowercase());
            character.len_utf8()
        };
        rest = &rest[length..];
    }
    kept.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacing_case_and_comments_make_no_difference_and_literals_do() {
        assert_eq!(
            normalised("CREATE INDEX a -- because\n ON t( (b  is\n not NULL) , c /* no */ )"),
            normalised("create index a on t ((b is not null), c)"),
        );
        assert_ne!(normalised("select 'A  b'"), normalised("select 'a b'"));
    }

    #[test]
    fn checks_are_read_whole_and_without_comments() {
        let statement = "create table t ( -- check (no)\n a text CHECK (a <> ')'\n and b), \
                         constraint c check(length(trim(a)) > 0))";
        assert_eq!(
            checks(&normalised(statement)),
            ["(a <> ')' and b)", "(length(trim(a)) > 0)"]
        );
    }
}
