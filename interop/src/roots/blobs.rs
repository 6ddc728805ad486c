//! Blobs of the wrappers themselves, without a database: what crosses, and what says that it can't.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{ErrorKind, Ownership};
use serde_json::json;

use super::{AWS, Root};
use crate::database::{Database, Dialect};
use crate::go::Go;
use crate::record::Bytes;
use crate::table::Table;

pub(super) async fn aws(
    table: &mut Table,
    program: &Path,
    root: &Root,
    other: &Root,
    direct: &Root,
) {
    let none = Dialect::Sqlite;
    let crossing = crosses(program, root, b"").await;
    table.enter(AWS, none, "envelope without aad, both ways", crossing);
    let opened = opens_with_its_aad_alone(program, root).await;
    table.enter(
        AWS,
        none,
        "envelope with aad, Go → Rust: it opens with no other",
        opened,
    );
    let refused = async {
        let (go, _database) = start(program, root)?;
        let opened = to_go(&go, root, &Bytes::random(32), b"o_1", b"o_1").await;
        said_by_go(opened, "invalid mechanism: 1001")
    };
    table.enter(
        AWS,
        none,
        "envelope with aad can't cross: Go refuses ours, whose fresh key is bound",
        refused.await,
    );
    let opened = async {
        let (go, _database) = start(program, direct)?;
        to_go(&go, direct, &Bytes::random(32), b"", b"").await
    };
    table.enter(AWS, none, "direct without aad, Rust → Go", opened.await);
    let refused = async {
        let (go, _database) = start(program, direct)?;
        let opened = to_go(&go, direct, &Bytes::random(32), b"o_1", b"o_1").await;
        said_by_go(opened, "InvalidCiphertext")
    };
    table.enter(
        AWS,
        none,
        "direct with aad can't cross: Go refuses it",
        refused.await,
    );
    let refused = async {
        let plaintext = Bytes::random(32);
        let (go, _database) = start(program, other)?;
        let blob = gos(&go, &plaintext, b"")?;
        let (go, _database) = start(program, root)?;
        let opened = go.ask(&json!({"op": "unwrap", "blob": Bytes(blob.encode())}))?;
        ensure!(opened.plaintext == plaintext);
        ensure!(root.wrapper.owns(&blob) == Ownership::No);
        let error = root.wrapper.decrypt(&blob, b"").await.err();
        let error = error.context("it opened")?;
        ensure!(error.kind() == ErrorKind::ForeignRootKey, "{error}");
        ensure!(error.to_string().contains(blob.key_id()), "{error}");
        Ok(())
    };
    table.enter(
        AWS,
        none,
        "a blob of another key is refused (by Go it is not)",
        refused.await,
    );
}

pub(super) async fn transit(table: &mut Table, name: &str, program: &Path, root: &Root) {
    let none = Dialect::Sqlite;
    let crossing = crosses(program, root, b"").await;
    table.enter(name, none, "without aad, both ways", crossing);
    let ignored = async {
        let (go, _database) = start(program, root)?;
        let plaintext = Bytes::random(32);
        let blob = gos(&go, &plaintext, b"o_1")?;
        let opened = root.wrapper.decrypt(&blob, b"").await?;
        ensure!(opened.expose() == plaintext.0);
        does_not_open(root, &blob, b"o_1").await
    };
    table.enter(
        name,
        none,
        "Go drops the aad: its blob opens without one only",
        ignored.await,
    );
    let refused = async {
        let (go, _database) = start(program, root)?;
        let opened = to_go(&go, root, &Bytes::random(32), b"o_1", b"o_1").await;
        said_by_go(opened, "message authentication failed")
    };
    table.enter(
        name,
        none,
        "with aad can't cross: Go refuses ours",
        refused.await,
    );
}

/// What was wrapped before the service rotated the key opens after it, and what is wrapped then.
pub(super) async fn after_a_rotation<T>(
    table: &mut Table,
    name: &str,
    program: &Path,
    root: &Root,
    rotate: impl Future<Output = T>,
) {
    let both = async {
        let (go, _database) = start(program, root)?;
        let plaintext = Bytes::random(32);
        let gos_old = gos(&go, &plaintext, b"")?;
        let our_old = root.wrapper.encrypt(&plaintext.0, b"").await?;
        rotate.await;
        let gos_new = gos(&go, &plaintext, b"")?;
        let our_new = root.wrapper.encrypt(&plaintext.0, b"").await?;
        ensure!(gos_new.key_id() == our_new.key_id(), "{gos_new:?}");
        ensure!(
            gos_old.key_id() != gos_new.key_id(),
            "the key was not rotated"
        );
        for blob in [gos_old, our_old, gos_new, our_new] {
            ensure!(root.wrapper.owns(&blob) != Ownership::No, "{blob:?}");
            let opened = root.wrapper.decrypt(&blob, b"").await?;
            ensure!(opened.expose() == plaintext.0);
            let opened = go.ask(&json!({"op": "unwrap", "blob": Bytes(blob.encode())}))?;
            ensure!(opened.plaintext == plaintext);
        }
        Ok(())
    };
    table.enter(
        name,
        Dialect::Sqlite,
        "before and after the service rotated the key, both ways",
        both.await,
    );
}

/// A byte, a key, and more than AWS takes without an envelope.
fn plaintexts() -> [Bytes; 3] {
    [1, 32, 100 << 10].map(Bytes::random)
}

/// One Go process. It wants a database, which it doesn't use.
fn start(program: &Path, root: &Root) -> Result<(Go, Database)> {
    let database = Database::new(Dialect::Sqlite)?;
    Ok((Go::start(program, &database, &root.go)?, database))
}

/// A blob of Go's wrapper.
fn gos(go: &Go, plaintext: &Bytes, aad: &[u8]) -> Result<Blob> {
    let request = json!({"op": "wrap", "plaintext": plaintext, "aad": Bytes::from(aad)});
    Ok(Blob::decode(&go.ask(&request)?.blob.0)?)
}

/// A blob of ours, opened by Go.
async fn to_go(
    go: &Go,
    root: &Root,
    plaintext: &Bytes,
    made_with: &[u8],
    opened_with: &[u8],
) -> Result<()> {
    let blob = root
        .wrapper
        .encrypt(&plaintext.0, made_with)
        .await?
        .encode();
    let request = json!({"op": "unwrap", "blob": Bytes(blob), "aad": Bytes::from(opened_with)});
    ensure!(go.ask(&request)?.plaintext == *plaintext);
    Ok(())
}

async fn crosses(program: &Path, root: &Root, aad: &[u8]) -> Result<()> {
    let (go, _database) = start(program, root)?;
    for plaintext in plaintexts() {
        let blob = gos(&go, &plaintext, aad)?;
        ensure!(
            root.wrapper.owns(&blob) != Ownership::No,
            "a blob of the same key is taken for another's: {}",
            blob.key_id()
        );
        let opened = root.wrapper.decrypt(&blob, aad).await?;
        ensure!(opened.expose() == plaintext.0);
        to_go(&go, root, &plaintext, aad, aad).await?;
    }
    Ok(())
}

async fn opens_with_its_aad_alone(program: &Path, root: &Root) -> Result<()> {
    let (go, _database) = start(program, root)?;
    for plaintext in plaintexts() {
        let blob = gos(&go, &plaintext, b"o_1")?;
        let opened = root.wrapper.decrypt(&blob, b"o_1").await?;
        ensure!(opened.expose() == plaintext.0);
        for aad in [&b""[..], b"o_2"] {
            does_not_open(root, &blob, aad).await?;
        }
    }
    Ok(())
}

async fn does_not_open(root: &Root, blob: &Blob, aad: &[u8]) -> Result<()> {
    let error = root.wrapper.decrypt(blob, aad).await.err();
    let error = error.context("it opens")?;
    ensure!(error.kind() == ErrorKind::AuthenticationFailed, "{error}");
    Ok(())
}

/// Go refused, for this reason.
fn said_by_go(opened: Result<()>, reason: &str) -> Result<()> {
    let error = opened.err().context("Go opens it")?;
    ensure!(format!("{error:#}").contains(reason), "{error:#}");
    Ok(())
}
