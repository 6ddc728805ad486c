//! What a database has, as text by name, so that two can be compared.

use std::collections::BTreeMap;
use std::fmt;

/// The kms objects of a database: each by kind and name, with its definition.
///
/// A name is a kind and a path, `column kms_root_key.scope_id` or `trigger
/// kms_root_key.kms_immutable_columns`. Definitions have no line breaks and
/// name no schema, so that catalogues of different schemas are equal when
/// their tables are. `Display` prints one object per line.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalogue {
    objects: BTreeMap<String, String>,
}

impl Catalogue {
    /// The objects in the order of their names, each with its definition.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.objects
            .iter()
            .map(|(name, definition)| (name.as_str(), definition.as_str()))
    }

    /// The definition of an object, or nothing where there is none.
    #[must_use]
    pub fn definition(&self, name: &str) -> Option<&str> {
        self.objects.get(name).map(String::as_str)
    }

    /// Whether there is no kms object at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    pub(crate) fn insert(&mut self, name: String, definition: &str) {
        self.objects.insert(name, escaped(definition));
    }

    /// Reads what `Display` printed.
    pub(crate) fn parse(text: &str) -> Self {
        let objects = text
            .lines()
            .filter_map(|line| line.split_once(SEPARATOR))
            .map(|(name, definition)| (name.to_owned(), definition.to_owned()))
            .collect();
        Self { objects }
    }

    /// What of `self`, the expected, `found` lacks, has differently, and has
    /// beyond it.
    pub(crate) fn compare(&self, found: &Self) -> Comparison {
        let mut comparison = Comparison::default();
        for (name, expected) in self.iter() {
            match found.definition(name) {
                None => comparison.missing.push(name.to_owned()),
                Some(definition) if definition != expected => {
                    comparison.differing.push(Difference {
                        object: name.to_owned(),
                        expected: expected.to_owned(),
                        found: definition.to_owned(),
                    });
                }
                Some(_) => {}
            }
        }
        comparison.beyond = found
            .objects
            .keys()
            .filter(|name| !self.objects.contains_key(*name))
            .cloned()
            .collect();
        comparison
    }
}

impl Catalogue {
    /// The triggers and indexes of `self`, the expected, that `found` lacks or has differently, and that a statement
    /// makes anew. A definition that can't be run, that of a constraint's index, is not among them.
    pub(crate) fn lost_statements<'a>(&'a self, found: &'a Self) -> impl Iterator<Item = Lost<'a>> {
        self.iter().filter_map(|(object, statement)| {
            let (kind, path) = object.split_once(' ')?;
            let (table, name) = path.split_once('.')?;
            let is_lost = found.definition(object) != Some(statement);
            (is_lost && ["trigger", "index"].contains(&kind)).then_some(Lost {
                object,
                kind,
                table,
                name,
                statement,
            })
        })
    }
}

/// An object that is to be made anew.
pub(crate) struct Lost<'a> {
    pub(crate) object: &'a str,
    pub(crate) kind: &'a str,
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            dead_code,
            reason = "names of SQLite's triggers are unique in the database"
        )
    )]
    pub(crate) table: &'a str,
    pub(crate) name: &'a str,
    pub(crate) statement: &'a str,
}

impl fmt::Display for Catalogue {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, definition) in self.iter() {
            writeln!(formatter, "{name}{SEPARATOR}{definition}")?;
        }
        Ok(())
    }
}

/// An object that is there and is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Difference {
    /// The kind and name of the object.
    pub object: String,
    /// The definition that our migrations give it.
    pub expected: String,
    /// The definition that the database has.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            object,
            expected,
            found,
        } = self;
        write!(formatter, "{object}: expected {expected}, found {found}")
    }
}

#[derive(Debug, Default)]
pub(crate) struct Comparison {
    pub(crate) missing: Vec<String>,
    pub(crate) differing: Vec<Difference>,
    pub(crate) beyond: Vec<String>,
}

const SEPARATOR: &str = " = ";

/// Without line breaks, and with every control character to be seen: a tab in
/// a literal is no space.
fn escaped(definition: &str) -> String {
    let mut line = String::with_capacity(definition.len());
    for character in definition.chars() {
        if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalogue(objects: &[(&str, &str)]) -> Catalogue {
        let mut catalogue = Catalogue::default();
        for (name, definition) in objects {
            catalogue.insert((*name).to_owned(), definition);
        }
        catalogue
    }

    #[test]
    fn what_is_printed_reads_back_the_same() {
        let written = catalogue(&[("check a", "x = 1\n  and y = 2"), ("column b.c", "text")]);
        assert_eq!(Catalogue::parse(&written.to_string()), written);
    }

    #[test]
    fn a_tab_in_a_definition_is_no_space() {
        assert_ne!(
            catalogue(&[("check a", "btrim(a, '\t')")]),
            catalogue(&[("check a", "btrim(a, ' ')")])
        );
    }

    #[test]
    fn a_comparison_names_what_is_missing_different_and_beyond() {
        let expected = catalogue(&[("column a", "text"), ("column b", "text")]);
        let found = catalogue(&[("column b", "bytea"), ("column c", "text")]);
        let comparison = expected.compare(&found);
        assert_eq!(comparison.missing, ["column a"]);
        assert_eq!(
            comparison.differing[0].to_string(),
            "column b: expected text, found bytea"
        );
        assert_eq!(comparison.beyond, ["column c"]);
    }
}
