//! `docs/from-go.md` names tests, and checks of the interop run. Those are there.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;

const DOCUMENT: &str = include_str!("../../docs/from-go.md");

#[test]
fn every_test_that_the_migration_guide_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut sources = String::new();
    for package in fs::read_dir(&root)
        .unwrap()
        .map(|entry| entry.unwrap().path())
    {
        for folder in ["src", "tests"] {
            read(&package.join(folder), &mut sources);
        }
    }
    let names: Vec<_> = DOCUMENT
        .split('`')
        .filter(|name| is_a_sentence(name))
        .collect();
    assert!(names.len() > 80, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !sources.contains(&format!("fn {name}(")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

#[test]
fn every_check_of_the_interop_run_that_the_migration_guide_names_exists() {
    let mut sources = String::new();
    read(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut sources,
    );
    let document = DOCUMENT.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut names = Vec::new();
    for mention in document.split("interop: \"").skip(1) {
        // Of several, each in quotes.
        let mut rest = mention;
        while let Some((name, after)) = rest.split_once('"') {
            names.push(name.to_owned());
            let Some(next) = after.strip_prefix(", \"") else {
                break;
            };
            rest = next;
        }
    }
    assert!(names.len() > 5, "{names:?}");
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !sources.contains(&format!("\"{name}\"")))
        .collect();
    assert!(missing.is_empty(), "{missing:#?}");
}

/// As the names of tests are.
fn is_a_sentence(name: &str) -> bool {
    name.matches('_').count() >= 3
        && name
            .chars()
            .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
}

fn read(folder: &Path, sources: &mut String) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            read(&path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push_str(&fs::read_to_string(path).unwrap());
        }
    }
}
