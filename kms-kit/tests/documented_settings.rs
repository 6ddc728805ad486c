//! The tables of settings in docs/root-wrappers.md name what the code reads.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A wrapper, its section in the page, what its variables begin with, and variables that only a library under it reads.
struct Documented {
    name: &'static str,
    section: &'static str,
    variables: &'static [&'static str],
    by_libraries: &'static [&'static str],
}

const NETWORK: [&str; 4] = ["HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_"];

const ALL: [Documented; 4] = [
    Documented {
        name: "aws",
        section: "AWS KMS",
        variables: &["AWS_", "AWSKMS_", "VAULT_AWSKMS_"],
        by_libraries: &["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_KMS"],
    },
    Documented {
        name: "gcp",
        section: "Google Cloud KMS",
        variables: &["GOOGLE_", "GCPCKMS_", "VAULT_GCPCKMS_"],
        by_libraries: &[
            "GOOGLE_APPLICATION_CREDENTIALS",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "NO_PROXY",
            "SSL_CERT_FILE",
            "SSL_CERT_DIR",
        ],
    },
    Documented {
        name: "vault",
        section: "HashiCorp Vault and OpenBao",
        variables: &["VAULT_", "TRANSIT_"],
        by_libraries: &["SSL_CERT_FILE", "SSL_CERT_DIR"],
    },
    Documented {
        name: "pkcs11",
        section: "A PKCS#11 token",
        variables: &["PKCS11_", "VAULT_HSM_"],
        by_libraries: &[],
    },
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// The sources of a folder without their unit tests, which come last in a file.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    let mut left: Vec<PathBuf> = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(
                fs::read_dir(path)
                    .unwrap()
                    .map(|entry| entry.unwrap().path()),
            );
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(path).unwrap();
            text += source.split("#[cfg(test)]\nmod ").next().unwrap();
        }
    }
    assert!(!text.is_empty(), "{} has no sources", folder.display());
    text
}

/// What stands in the tables of a section.
fn tables(page: &str, section: &str) -> String {
    let (_, rest) = page.split_once(&format!("\n## {section}\n")).unwrap();
    let rows = rest.split("\n## ").next().unwrap().lines();
    rows.filter(|line| line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect()
}

/// What stands between two of these marks and is the name of such a variable.
fn variables(text: &str, mark: char, of: &Documented) -> BTreeSet<String> {
    let begins = |word: &str| {
        let mut beginnings = of.variables.iter().chain(&NETWORK);
        beginnings.any(|beginning| word.starts_with(beginning))
    };
    let is_name = |word: &&str| {
        let mut letters = word.chars();
        letters
            .all(|letter| letter.is_ascii_uppercase() || letter.is_ascii_digit() || letter == '_')
    };
    let words = text.split(mark).filter(is_name).filter(|word| begins(word));
    words.map(str::to_owned).collect()
}

#[test]
fn every_variable_that_a_wrapper_reads_stands_in_its_table_and_no_other() {
    let page = fs::read_to_string(root().join("docs/root-wrappers.md")).unwrap();
    for wrapper in &ALL {
        let folder = root().join(format!("kms-wrapper-{}/src", wrapper.name));
        let mut read = variables(&sources(&folder), '"', wrapper);
        assert!(read.len() > 3, "{}: {read:?}", wrapper.name);
        read.extend(wrapper.by_libraries.iter().map(|&name| name.to_owned()));
        let told = variables(&tables(&page, wrapper.section), '`', wrapper);
        assert_eq!(read, told, "{}", wrapper.name);
    }
}

#[test]
fn every_parameter_of_a_url_stands_in_the_table_of_its_wrapper() {
    let page = fs::read_to_string(root().join("docs/root-wrappers.md")).unwrap();
    let limits = tables(&page, "When the service fails");
    for wrapper in &ALL {
        let path = format!("kms-kit/src/root_wrapper/services/{}.rs", wrapper.name);
        let source = fs::read_to_string(root().join(path)).unwrap();
        let taken: Vec<_> = ["take(\"", "take_word(\"", "take_number(\""]
            .iter()
            .flat_map(|take| source.split(take).skip(1))
            .map(|rest| rest.split('"').next().unwrap())
            .collect();
        assert!(taken.len() > 3, "{}: {taken:?}", wrapper.name);
        let tables = tables(&page, wrapper.section);
        for name in taken {
            let told = [format!("`{name}`"), format!("`{name}=")];
            let is_told = told.iter().any(|told| tables.contains(told));
            assert!(is_told, "{}: {name}", wrapper.name);
        }
    }
    let settings = fs::read_to_string(root().join("kms-kit/src/root_wrapper/settings.rs")).unwrap();
    for name in [
        "attempts",
        "attempt_timeout_ms",
        "connect_timeout_ms",
        "deadline_ms",
    ] {
        assert!(settings.contains(&format!("(\"{name}\")")), "{name}");
        assert!(limits.contains(&format!("`{name}`")), "{name}");
    }
}
