//! `cargo xtask bench --peers`: a row of 1 KiB encrypted and decrypted by kms-kit, and by what a user would pick
//! instead.
//!
//! Each has a program in `bench/peers`, which is no part of the workspace: it is built for this and for nothing else.
//! What can't be had on the machine is named and left out.

mod measuring;
mod show;

use std::fs;

use anyhow::{Context, Result, ensure};

use super::{Options, read, show as pages, write};
use crate::workspace::Workspace;

/// Between this line and the usual one stands the table of a page.
const BEGIN: &str = "<!-- written by `cargo xtask bench --peers --readme` -->\n";

/// What is measured, in the order of the table. The first is ours.
const ALL: &[Peer] = &[
    Peer {
        name: "kms-kit",
        case: "kms_kit",
        program: Program::Rust {
            name: "kms-kit",
            package: None,
        },
        keys: "a root key per tenant, a data key per tenant and purpose, all with versions",
        cached: "yes, the tenant's keys",
        calls: "none (one query per freshness window)",
        commitment: "no",
        place: "the application's database, SQLite here, wrapped by a key outside it",
    },
    Peer {
        name: "Tink for Rust",
        case: "tink",
        program: Program::Rust {
            name: "tink",
            package: Some("tink-aead"),
        },
        keys: "one keyset for all tenants, with versions",
        cached: "yes, the keyset",
        calls: "none",
        commitment: "no",
        place: "wherever the application puts the keyset",
    },
    Peer {
        name: "AWS Encryption SDK for Rust, raw AES keyring",
        case: "aws_esdk",
        program: AWS_ESDK,
        keys: "one wrapping key, a new data key per row, stored with the row",
        cached: "no, each row's data key is unwrapped",
        calls: "none (one to AWS KMS with its keyring)",
        commitment: "commitment, and a signature by ECDSA P-384: its default",
        place: "the wrapping key wherever the application puts it",
    },
    Peer {
        name: "… without the signature",
        case: "aws_esdk_unsigned",
        program: AWS_ESDK,
        keys: "the same",
        cached: "no",
        calls: "none (one to AWS KMS with its keyring)",
        commitment: "commitment",
        place: "the same",
    },
    Peer {
        name: "Asherah for Go",
        case: "asherah",
        program: Program::Go {
            module: "github.com/godaddy/asherah/go/appencryption",
        },
        keys: "a system key, an intermediate key per tenant, a new data key per row, stored with the row",
        cached: "yes, in locked memory, by its session cache",
        calls: "none",
        commitment: "no",
        place: "its metastore, in memory here (SQL or DynamoDB elsewhere), under a static master key",
    },
    Peer {
        name: "Vault transit, dev server on loopback",
        case: "vault",
        program: Program::Rust {
            name: "vault",
            package: None,
        },
        keys: "a key per tenant, with versions",
        cached: "no, keys never leave the server",
        calls: "one HTTP request, without TLS here, over a connection that is kept open",
        commitment: "no",
        place: "Vault's own storage, in memory here",
    },
];

const AWS_ESDK: Program = Program::Rust {
    name: "aws-esdk",
    package: Some("aws-esdk"),
};

/// Something that keeps rows encrypted, and what it does and doesn't do.
#[derive(Clone, Copy, Debug)]
struct Peer {
    /// `…` continues the one above.
    name: &'static str,
    /// What its cases begin with.
    case: &'static str,
    program: Program,
    /// Which keys there are.
    keys: &'static str,
    /// Whether keys are held in the process.
    cached: &'static str,
    /// What leaves the process for each row.
    calls: &'static str,
    /// Whether a row commits to its key, and whether it is signed.
    commitment: &'static str,
    /// Where the keys are.
    place: &'static str,
}

/// What measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    /// A program of `bench/peers`, and its feature of the same name.
    Rust {
        name: &'static str,
        /// The one that is measured, whose version is worth knowing.
        package: Option<&'static str>,
    },
    /// The one of `bench/peers/go`.
    Go { module: &'static str },
}

impl Peer {
    fn encrypt(&self) -> String {
        format!("{}_encrypt_1024", self.case)
    }

    fn decrypt(&self) -> String {
        format!("{}_decrypt_1024", self.case)
    }
}

/// Measures, prints the table, and writes what the options ask for.
pub(super) fn run(workspace: &Workspace, options: &Options) -> Result<()> {
    let is_chosen = |peer: &&Peer| {
        let mut filters = options.filters.iter();
        options.filters.is_empty()
            || filters.any(|part| peer.name.contains(part) || peer.case.contains(part))
    };
    let chosen: Vec<_> = ALL.iter().filter(is_chosen).copied().collect();
    ensure!(!chosen.is_empty(), "no peer is named so");
    let results = match &options.from {
        Some(file) => read(file)?,
        None => measuring::measure(workspace, options, &chosen)?,
    };
    print!("{}", show::table(&chosen, &results));
    println!("{}", results.circumstances);
    for missing in &results.missing {
        eprintln!("LEFT OUT: {missing}");
    }
    if let Some(file) = &options.json {
        write(file, &results, &[])?;
    }
    if options.readme {
        ensure!(options.filters.is_empty(), "pages show whole tables only");
        let tables = [
            ("README.md", show::short_markdown(&chosen, &results)),
            (
                "docs/performance.md",
                show::whole_markdown(&chosen, &results),
            ),
        ];
        for (page, table) in tables {
            let file = workspace.root.join(page);
            let text = fs::read_to_string(&file)?;
            fs::write(&file, pages::on_page(BEGIN, &text, &table).context(page)?)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::ALL;

    #[test]
    fn the_first_is_ours_and_no_two_have_the_same_cases() {
        assert_eq!(ALL[0].case, "kms_kit");
        let cases: BTreeSet<_> = ALL.iter().map(|peer| peer.case).collect();
        assert_eq!(cases.len(), ALL.len());
    }
}
