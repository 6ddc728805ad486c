//! Rows that today's constraints would refuse, as adopted data may hold them.

use crate::error::Result;
use crate::report::Oddity;

/// A rule, as the condition that odd rows fulfil.
pub(crate) struct Rule {
    table: &'static str,
    rule: &'static str,
    condition: String,
}

impl Rule {
    /// Counts the odd rows.
    pub(crate) fn count(&self) -> String {
        let Self {
            table, condition, ..
        } = self;
        format!("select count(*) as rows from {table} t where {condition}")
    }

    /// The ids of the first few.
    pub(crate) fn ids(&self) -> String {
        let Self {
            table, condition, ..
        } = self;
        format!(
            "select private_id as text from {table} t where {condition} order by private_id limit 5"
        )
    }

    pub(crate) fn oddity(&self, rows: i64, ids: Vec<String>) -> Oddity {
        Oddity {
            table: self.table.to_owned(),
            rule: self.rule.to_owned(),
            rows,
            ids,
        }
    }
}

/// All rules. `trimmed` writes an expression without white space at its ends,
/// in the dialect of the database.
pub(crate) fn rules(trimmed: impl Fn(&str) -> String) -> Vec<Rule> {
    let rule = |table, rule, condition: String| Rule {
        table,
        rule,
        condition,
    };
    let blank = |column: &str| format!("{} = ''", trimmed(column));
    let mut rules =
        vec![
        rule("kms_root_key", "have a blank id", blank("private_id")),
        rule("kms_root_key", "have a blank scope id", blank("scope_id")),
        rule("kms_root_key_version", "have a blank id", blank("private_id")),
        rule("kms_data_key", "have a blank id", blank("private_id")),
        rule("kms_data_key_version", "have a blank id", blank("private_id")),
        rule("kms_data_key", "have an empty purpose", "purpose = ''".to_owned()),
        rule(
            "kms_data_key",
            "have white space at an end of the purpose",
            format!("{} <> purpose", trimmed("purpose")),
        ),
        rule(
            "kms_root_key",
            "have no version",
            "not exists (select 1 from kms_root_key_version v where v.root_key_id = t.private_id)"
                .to_owned(),
        ),
        rule(
            "kms_data_key",
            "have no version",
            "not exists (select 1 from kms_data_key_version v where v.data_key_id = t.private_id)"
                .to_owned(),
        ),
        rule(
            "kms_data_key_version",
            "are wrapped by a root key version of another scope",
            "exists (select 1 from kms_data_key d, kms_root_key_version v \
             where d.private_id = t.data_key_id and v.private_id = t.root_key_version_id \
             and d.root_key_id <> v.root_key_id)"
                .to_owned(),
        ),
    ];
    for (table, column, parent) in [
        ("kms_root_key_version", "root_key_id", "kms_root_key"),
        ("kms_data_key", "root_key_id", "kms_root_key"),
        ("kms_data_key_version", "data_key_id", "kms_data_key"),
        (
            "kms_data_key_version",
            "root_key_version_id",
            "kms_root_key_version",
        ),
    ] {
        rules.push(rule(
            table,
            match column {
                "root_key_id" => "are orphans: their root key is gone",
                "data_key_id" => "are orphans: their data key is gone",
                _ => "are orphans: their root key version is gone",
            },
            format!("not exists (select 1 from {parent} p where p.private_id = t.{column})"),
        ));
    }
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        rules.push(rule(
            table,
            "have no number, or one below 1",
            "version is null or version < 1".to_owned(),
        ));
    }
    rules
}

/// Versions that came in one transaction with others of their key, for several keys: an import of
/// `Kms::import_scopes` does so, and a copy whose rows get the time of the copy. Where times are fine enough to tell: not
/// on SQLite.
#[cfg(feature = "postgres")]
pub(crate) fn copied() -> [Rule; 2] {
    [
        ("kms_root_key_version", "root_key_id"),
        ("kms_data_key_version", "data_key_id"),
    ]
    .map(|(table, key)| Rule {
        table,
        rule: "came in one transaction with others of their key: by an import, or by a copy, which may have numbered \
               them anew; Kms::prove_numbers tells",
        condition: format!(
            "create_time in (\
               select create_time from (\
                 select {key}, create_time from {table} group by {key}, create_time having count(*) > 1) c \
                group by create_time having count(*) > 1) \
             and exists (\
               select 1 from {table} o where o.{key} = t.{key} and o.create_time = t.create_time \
                  and o.private_id <> t.private_id)"
        ),
    })
}

/// Scope ids that `ScopeId::new` refuses, read page by page: `page` returns those after an id, in the database's order.
/// Blank ones have a rule of their own.
pub(crate) fn refused_scope_ids(
    mut page: impl FnMut(&str) -> Result<Vec<String>>,
) -> Result<Option<Oddity>> {
    let mut odd = Oddity {
        table: "kms_root_key".to_owned(),
        rule: "have a scope id that ScopeId::new refuses".to_owned(),
        rows: 0,
        ids: Vec::new(),
    };
    let mut after = String::new();
    loop {
        let ids = page(&after)?;
        let Some(last) = ids.last() else {
            return Ok((odd.rows > 0).then_some(odd));
        };
        after.clone_from(last);
        for id in ids.into_iter().filter(|id| is_refused(id)) {
            odd.rows += 1;
            if odd.ids.len() < 5 {
                odd.ids.push(id);
            }
        }
    }
}

/// The rules of `kms_core::ScopeId`, of which this crate knows nothing else.
fn is_refused(id: &str) -> bool {
    let trimmed = id.trim();
    !trimmed.is_empty() && (trimmed != id || id.len() > 255 || id.contains('\0'))
}

/// The ids after one.
pub(crate) const SCOPE_IDS: &str = "\
select cast(scope_id as text) as text from kms_root_key where scope_id > $1 order by scope_id limit 10000";
