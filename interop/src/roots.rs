//! Root keys in services: what Go's awskms and transit wrappers wrap opens in ours, and the reverse; what can't
//! cross says so.

mod blobs;

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use kms_kit::aws::AwsKmsMode;
use kms_kit::prelude::*;
use kms_kit::vault::{Auth, TransitWrapper};
use kms_kit::{Binding, CampaignOptions, RewrapKeys};
use kms_testkit::service::{Vault, variable};
use serde_json::json;

use crate::database::{Database, Dialect};
use crate::engine::{self, PURPOSES};
use crate::go::Go;
use crate::record::SMALL;
use crate::side::Side;
use crate::table::Table;
use crate::world::World;

const AWS: &str = "awskms";
const TRANSIT: &str = "transit";

/// One root key for both sides.
struct Root {
    /// As the Go program takes it.
    go: String,
    wrapper: Arc<dyn Wrapper>,
}

pub(crate) async fn run(table: &mut Table, dialect: Dialect, program: &Path) {
    if let Some(endpoint) = variable("aws", "KMS_TEST_AWS_ENDPOINT") {
        match aws_roots(&endpoint).await {
            Ok((root, other, direct)) => {
                in_the_database(table, AWS, dialect, program, &root).await;
                // The rest has nothing to do with the database.
                if dialect == Dialect::Sqlite {
                    blobs::aws(table, program, &root, &other, &direct).await;
                }
            }
            Err(error) => table.enter(AWS, dialect, "a key in LocalStack", Err(error)),
        }
    }
    if let Some(vault) = Vault::shared() {
        for prefix in ["", "prefix-"] {
            let name = if prefix.is_empty() {
                TRANSIT
            } else {
                "transit, with a prefix"
            };
            match vault_root(&vault, prefix).await {
                Ok((root, key)) => {
                    in_the_database(table, name, dialect, program, &root).await;
                    if dialect == Dialect::Sqlite {
                        blobs::transit(table, name, program, &root).await;
                        let path = format!("{key}/rotate");
                        let rotate = vault.write(&path, json!({}));
                        blobs::after_a_rotation(table, name, program, &root, rotate).await;
                    }
                }
                Err(error) => table.enter(name, dialect, "a key in Vault", Err(error)),
            }
        }
    }
}

/// The keys of a database under this root: both make, both change, both read, until they are bound.
async fn in_the_database(
    table: &mut Table,
    name: &str,
    dialect: Dialect,
    program: &Path,
    root: &Root,
) {
    for side in [Side::Go, Side::Rust] {
        let direction = format!("{name}: {side} → {} → {side}", side.other());
        table
            .check(
                &direction,
                dialect,
                "root keys: create, rotate, rewrap, bind, unbind",
                root_keys(dialect, program, root, side),
            )
            .await;
    }
}

async fn root_keys(dialect: Dialect, program: &Path, root: &Root, side: Side) -> Result<()> {
    let database = Database::new(dialect)?;
    let go = Go::start(program, &database, &root.go)?;
    match side {
        Side::Go => {
            go.migrate()?;
            database.adopt()?;
        }
        Side::Rust => database.run()?,
    }
    let mut world = World::with(database, go, Arc::clone(&root.wrapper)).await?;
    side.create(&world, "o_1", &PURPOSES).await?;
    world.write(side, "o_1", SMALL).await?;
    world.both_read().await?;
    for changer in [side.other(), side] {
        changer.rotate(&world, "o_1", true).await?;
        world.write(changer, "o_1", SMALL).await?;
        changer.rewrap(&world, "o_1").await?;
        changer.rotate(&world, "o_1", false).await?;
        world.write(changer, "o_1", SMALL).await?;
        world.both_read().await?;
    }
    let census = world.kms.census().await?;
    ensure!(
        census.not_current == 0 || root.wrapper.kind() == "transit",
        "{census:?}"
    );
    ensure!(
        census.by_root_key.len() == 1,
        "the sides name the root key differently: {census:?}"
    );

    for (mode, unbound) in [(Binding::Migrating, false), (Binding::GoCompatible, true)] {
        let kms = engine::engine(
            world.database.repository()?,
            Arc::clone(&root.wrapper),
            mode,
        )
        .await?;
        let options = CampaignOptions::new(format!("{mode:?}"));
        let outcome = kms.rewrap_all(&options, RewrapKeys::All, |_| {}).await?;
        let outcome = outcome.report().context("it was finished before")?;
        ensure!(outcome.failures.is_empty(), "{outcome:?}");
        let census = kms.census().await?;
        ensure!((census.unbound > 0) == unbound, "{mode:?}: {census:?}");
        let fresh = Go::start(program, &world.database, &root.go)?;
        let read = fresh.ask(&json!({"op": "check", "records": world.records}));
        ensure!(read.is_ok() == unbound, "{mode:?}: Go reads: {read:?}");
        Side::Rust.read(&world, &world.records).await?;
    }
    Ok(())
}

/// Two keys, and the first once more in direct mode.
async fn aws_roots(endpoint: &str) -> Result<(Root, Root, Root)> {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"));
    let client = aws_sdk_kms::Client::from_conf(config.build());
    let mut keys = Vec::new();
    for _ in 0..2 {
        let made = client.create_key().send().await?;
        keys.push(
            made.key_metadata
                .and_then(|key| key.arn)
                .context("an ARN")?,
        );
    }
    let root = |key: &str, mode: AwsKmsMode| -> Result<Root> {
        let builder = kms_kit::aws::builder(key)
            .credentials("test", "test")
            .endpoint(endpoint)
            .mode(mode);
        Ok(Root {
            go: format!("awskms:{key}"),
            wrapper: Arc::new(builder.build()?),
        })
    };
    Ok((
        root(&keys[0], AwsKmsMode::Envelope)?,
        root(&keys[1], AwsKmsMode::Envelope)?,
        root(&keys[0], AwsKmsMode::Direct)?,
    ))
}

/// And the path of its key.
async fn vault_root(vault: &Vault, prefix: &str) -> Result<(Root, String)> {
    let mount = vault.transit().await;
    vault.create_key(&mount, "root").await;
    let builder = TransitWrapper::builder()
        .address(vault.url())
        .auth(Auth::token(vault.token()))
        .mount_path(&mount)
        .key_name("root")
        .key_id_prefix(prefix);
    let root = Root {
        go: format!("transit:{mount}/root,{prefix}"),
        wrapper: Arc::new(builder.build()?),
    };
    Ok((root, format!("{mount}/keys/root")))
}
