//! The tables as Go kms sees them: what it writes is read here, and what is written here is what it reads.
//! (The Go system itself is held against them in `interop/`.)
#![cfg(all(feature = "postgres", feature = "sqlite"))]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use data_encoding::HEXLOWER_PERMISSIVE as HEX;
use kms_kit::aead::fastest;
use kms_kit::core::{KeyBytes, LocalKey};
use kms_kit::prelude::*;
use kms_kit::{Binding, ErrorKind};
use support::{OIDC, World};

on_both_databases! {
    invariant_08_rows_that_go_writes_are_read_and_go_on_being_numbered_by_the_database
    invariant_08_what_is_written_beside_go_opens_as_go_opens_it
}

/// A process beside Go's.
async fn beside_go(world: &World) -> Kms {
    let builder = world.builder().binding(Binding::GoCompatible);
    builder.freshness(Freshness::Always).build().await.unwrap()
}

/// A key that is wrapped as Go wraps it: without any AAD.
struct GoKey {
    key: LocalKey,
    wrapped: String,
}

impl GoKey {
    async fn root(world: &World, id: &str) -> Self {
        let bytes = KeyBytes::generate().unwrap();
        let blob = world.root.encrypt(bytes.expose(), b"").await.unwrap();
        Self::new(&bytes, id, &blob)
    }

    fn data(wrapping: &LocalKey, id: &str) -> Self {
        let bytes = KeyBytes::generate().unwrap();
        let blob = wrapping.encrypt(bytes.expose(), b"").unwrap();
        Self::new(&bytes, id, &blob)
    }

    fn new(bytes: &KeyBytes, id: &str, blob: &Blob) -> Self {
        Self {
            key: LocalKey::new(&*fastest(), bytes, id),
            wrapped: HEX.encode(&blob.encode()),
        }
    }

    /// As a literal of the database.
    fn literal(&self, world: &World) -> String {
        if world.database.is_postgres() {
            format!("decode('{}', 'hex')", self.wrapped)
        } else {
            format!("x'{}'", self.wrapped)
        }
    }
}

/// Go's insert of a version leaves the number to the database: as null on SQLite, by silence on Postgres.
fn insert_version(world: &World, table: &str, columns: &str, values: &str) {
    let (column, value) = if world.database.is_postgres() {
        ("", "")
    } else {
        (", version", ", null")
    };
    world.database.execute(&format!(
        "insert into {table} ({columns}{column}) values ({values}{value})"
    ));
}

async fn invariant_08_rows_that_go_writes_are_read_and_go_on_being_numbered_by_the_database(
    world: &World,
) {
    let root = GoKey::root(world, "krkv_go00000001").await;
    let data = GoKey::data(&root.key, "kdkv_go00000001");
    let next = GoKey::data(&root.key, "kdkv_go00000002");
    world.database.execute(
        "insert into organization (id) values ('o_1');
         insert into kms_root_key (private_id, scope_id) values ('krk_go00000001', 'o_1');
         insert into kms_data_key (private_id, root_key_id, purpose)
           values ('kdk_go00000001', 'krk_go00000001', 'oidc')",
    );
    insert_version(
        world,
        "kms_root_key_version",
        "private_id, root_key_id, key",
        &format!(
            "'krkv_go00000001', 'krk_go00000001', {}",
            root.literal(world)
        ),
    );
    let add = |key: &GoKey| {
        insert_version(
            world,
            "kms_data_key_version",
            "private_id, data_key_id, root_key_version_id, key",
            &format!(
                "'{}', 'kdk_go00000001', 'krkv_go00000001', {}",
                key.key.id(),
                key.literal(world)
            ),
        );
    };
    add(&data);

    let scope = ScopeId::new("o_1").unwrap();
    let kms = beside_go(world).await;
    let blob = data.key.encrypt(b"of Go", b"aad").unwrap();
    let plain = kms.decrypt(&scope, &OIDC, &blob, b"aad").await.unwrap();
    assert_eq!(plain.expose(), b"of Go");

    // Ours, then Go's, then ours: Go bumps the collection version by itself.
    kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    world
        .database
        .execute("update kms_collection_version set version = version + 1");
    add(&next);
    let newest = kms.wrapper(&scope, &OIDC).await.unwrap();
    assert_eq!(newest.key_version_id().as_str(), "kdkv_go00000002");
    kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    for key in [&data, &next] {
        let blob = key.key.encrypt(b"of Go", b"").unwrap();
        kms.decrypt(&scope, &OIDC, &blob, b"").await.unwrap();
    }
    for key in kms.list_keys(&scope).await.unwrap() {
        let numbers = key.versions.iter().map(|version| version.version);
        assert!(numbers.eq(1..=key.versions.len().try_into().unwrap()));
    }
    assert_eq!(kms.validate_schema().await.unwrap(), "v0.0.2");
}

async fn invariant_08_what_is_written_beside_go_opens_as_go_opens_it(world: &World) {
    let kms = beside_go(world).await;
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    kms.create_keys(&scope, &[OIDC]).await.unwrap();
    let mut blobs = Vec::new();
    for rewrap in [Rewrap::No, Rewrap::Yes, Rewrap::No] {
        let wrapper = kms.wrapper(&scope, &OIDC).await.unwrap();
        blobs.push(wrapper.encrypt(b"of ours", b"aad").unwrap());
        kms.rotate_keys(&scope, rewrap).await.unwrap();
    }
    kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
    for blob in &blobs {
        assert_eq!(as_go(world, blob).await, b"of ours");
    }

    // In the other modes it does not: that is why all share one while Go is there.
    let bound = world.builder().binding(Binding::Migrating);
    let bound = bound.build().await.unwrap();
    bound.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
    let key = select(world, "kms_data_key_version", blobs[0].key_id());
    assert!(key.is_marked_bound());
    let wrapping = select(world, "kms_root_key_version", key.key_id());
    let error = world.root.decrypt(&wrapping, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
}

/// What Go does with a blob: the version it names, the one that wraps that, the root wrapper; no AAD for keys.
async fn as_go(world: &World, blob: &Blob) -> Vec<u8> {
    let wrapped = select(world, "kms_data_key_version", blob.key_id());
    let wrapping = select(world, "kms_root_key_version", wrapped.key_id());
    assert!(!wrapped.is_marked_bound() && !wrapping.is_marked_bound());
    let open = |bytes: &[u8], blob: &Blob, aad: &[u8]| {
        let key = KeyBytes::from_slice(bytes).unwrap();
        let key = LocalKey::new(&*fastest(), &key, "");
        key.decrypt(blob, aad).unwrap()
    };
    let root = world.root.decrypt(&wrapping, b"").await.unwrap();
    let data = open(root.expose(), &wrapped, b"");
    open(data.expose(), blob, b"aad").expose().to_vec()
}

fn select(world: &World, table: &str, id: &str) -> Blob {
    let hex = if world.database.is_postgres() {
        "encode(key, 'hex')"
    } else {
        "hex(key)"
    };
    let found = world.database.texts(&format!(
        "select {hex} as t from {table} where private_id = '{id}'"
    ));
    Blob::decode(&HEX.decode(found[0].as_bytes()).unwrap()).unwrap()
}
