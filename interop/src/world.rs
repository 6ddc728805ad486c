//! Both sides on one database, and everything that they ever encrypted there.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use kms_kit::prelude::*;
use kms_kit::{Binding, KeyKind};
use serde_json::json;

use crate::database::Database;
use crate::engine::{self, LocalRoot};
use crate::go::Go;
use crate::record::Record;
use crate::side::Side;

pub(crate) struct World {
    pub(crate) go: Go,
    pub(crate) kms: Kms,
    /// Every blob that is still to be read.
    pub(crate) records: Vec<Record>,
    // Dropped last: it is what the others are connected to.
    pub(crate) database: Database,
}

impl World {
    /// On a database that is ready, with a local root key, in mode `GoCompatible`.
    pub(crate) async fn on(program: &Path, database: Database, root: &LocalRoot) -> Result<Self> {
        let go = Go::start(program, &database, &root.go())?;
        Self::with(database, go, root.wrapper()?).await
    }

    /// With a Go process that is there already, as one that was running while the database was adopted.
    pub(crate) async fn with(database: Database, go: Go, root: Arc<dyn Wrapper>) -> Result<Self> {
        let kms = engine::engine(database.repository()?, root, Binding::GoCompatible).await?;
        Ok(Self {
            go,
            kms,
            records: Vec::new(),
            database,
        })
    }

    /// Has one side encrypt, and keeps the blobs.
    pub(crate) async fn write(&mut self, side: Side, scope: &str, sizes: &[usize]) -> Result<()> {
        for purpose in &engine::PURPOSES[..2] {
            let records = side.encrypt(self, scope, purpose, sizes).await;
            self.records.extend(
                records.with_context(|| format!("{side} encrypts for {scope}, {purpose}"))?,
            );
        }
        Ok(())
    }

    /// Both sides read every blob but the large ones, and list the same keys.
    pub(crate) async fn both_read(&self) -> Result<()> {
        let small = |record: &&Record| record.plaintext.0.len() <= 1 << 10;
        let records: Vec<_> = self.records.iter().filter(small).cloned().collect();
        self.read_by_both(&records).await
    }

    /// Both sides read every blob that was ever written, and list the same keys.
    pub(crate) async fn both_read_all(&self) -> Result<()> {
        self.read_by_both(&self.records).await
    }

    async fn read_by_both(&self, records: &[Record]) -> Result<()> {
        for side in [Side::Go, Side::Rust] {
            side.read(self, records)
                .await
                .with_context(|| format!("{side} reads"))?;
        }
        let scopes: BTreeSet<_> = records.iter().map(|record| &*record.scope).collect();
        for scope in scopes {
            self.same_keys(scope).await?;
        }
        Ok(())
    }

    /// Both sides list the same keys, versions and numbers.
    pub(crate) async fn same_keys(&self, scope: &str) -> Result<()> {
        let mut ours = Vec::new();
        for key in self.kms.list_keys(&ScopeId::new(scope)?).await? {
            let kind = if key.kind == KeyKind::Kek {
                "kek"
            } else {
                "dek"
            };
            let key_line = format!("{} {kind} {}", key.id, key.purpose);
            for version in key.versions {
                ours.push(format!("{key_line} {} {}", version.id, version.version));
            }
        }
        let mut gos = Vec::new();
        for key in self.go.ask(&json!({"op": "list", "scope": scope}))?.keys {
            for version in key.versions {
                gos.push(format!(
                    "{} {} {} {} {}",
                    key.id, key.kind, key.key_purpose, version.id, version.version
                ));
            }
        }
        ours.sort();
        gos.sort();
        ensure!(
            ours == gos,
            "the sides list different keys:\n{ours:?}\n{gos:?}"
        );
        Ok(())
    }

    /// Forgets the blobs of a scope, or of a key version, that is gone.
    pub(crate) fn forget(&mut self, gone: impl Fn(&Record) -> bool) {
        self.records.retain(|record| !gone(record));
    }
}
