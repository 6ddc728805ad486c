//! A process that is killed leaves all of a change or none of it.

mod support;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kms_kit::core::KeyBytes;
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, ErrorKind, KeyKind};
use support::{DATABASE, Database, OIDC, World};

/// Where the child finds the database; its presence makes the child's test do the work.
const CHILD: &str = "KMS_TEST_CRASHING_CHILD";

/// Known to parent and child.
const ROOT_KEY: [u8; 32] = [42; 32];

on_both_databases! {
    invariant_03_a_killed_process_leaves_all_of_a_rotation_or_none
    invariant_03_a_killed_process_leaves_all_of_a_creation_or_none
}

async fn world_of_the_child(world: &World) -> Kms {
    builder(&world.database).build().await.unwrap()
}

fn builder(database: &Database) -> kms_kit::KmsBuilder {
    let root = AeadWrapper::builder("root").key(KeyBytes::from_slice(&ROOT_KEY).unwrap());
    kms_kit::builder(database.repository())
        .root_wrapper(std::sync::Arc::new(root.build().unwrap()))
        .purposes([DATABASE, OIDC])
}

fn start(world: &World, work: &str) -> Child {
    let (kind, place) = match &world.database {
        Database::Sqlite { path, .. } => ("sqlite", path),
        Database::Postgres { url, .. } => ("postgres", url),
    };
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "the_child", "--nocapture"])
        .env(CHILD, format!("{work} {kind} {place}"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Starts children that work, kills each at another moment, and looks at what they left.
async fn kill_again_and_again(world: &World, work: &str, check: impl AsyncFn(&Kms)) {
    for round in 0..8 {
        let mut child = start(world, work);
        tokio::time::sleep(Duration::from_millis(150 + 37 * round)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        check(&world_of_the_child(world).await).await;
    }
}

async fn invariant_03_a_killed_process_leaves_all_of_a_rotation_or_none(world: &World) {
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    let kms = world_of_the_child(world).await;
    kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap();
    let blob = kms
        .wrapper(&scope, &OIDC)
        .await
        .unwrap()
        .encrypt(b"x", b"")
        .unwrap();
    kill_again_and_again(world, "rotate", async |kms| {
        let keys = kms.list_keys(&scope).await.unwrap();
        let expected: Vec<_> = (1..=i64::try_from(keys[0].versions.len()).unwrap()).collect();
        for key in &keys {
            let numbers: Vec<_> = key.versions.iter().map(|version| version.version).collect();
            assert_eq!(numbers, expected, "{} {}", key.kind, key.purpose);
        }
        let ring = kms.ensure(&scope).await.unwrap();
        assert_eq!(ring.failures().count(), 0);
        assert_eq!(
            kms.decrypt(&scope, &OIDC, &blob, b"")
                .await
                .unwrap()
                .expose(),
            b"x"
        );
    })
    .await;
    let rounds = kms.list_keys(&scope).await.unwrap()[0].versions.len();
    assert!(rounds > 8, "the children did work: {rounds} versions");
}

async fn invariant_03_a_killed_process_leaves_all_of_a_creation_or_none(world: &World) {
    kill_again_and_again(world, "create", async |kms| {
        for id in world.database.texts("select id as t from organization") {
            let scope = ScopeId::new(id).unwrap();
            match kms.list_keys(&scope).await {
                Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownScope),
                Ok(keys) => {
                    assert_eq!(keys.len(), 3);
                    assert!(keys.iter().all(|key| key.versions.len() == 1));
                    assert_eq!(keys[0].kind, KeyKind::Kek);
                    kms.wrapper(&scope, &OIDC)
                        .await
                        .unwrap()
                        .encrypt(b"x", b"")
                        .unwrap();
                }
            }
        }
    })
    .await;
    assert!(
        world
            .database
            .count("select count(*) as n from kms_root_key")
            > 8
    );
}

/// What a child does until it is killed. Without its variable it is an ordinary test that has nothing to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_child() {
    let Ok(order) = std::env::var(CHILD) else {
        return;
    };
    let mut words = order.splitn(3, ' ');
    let (work, kind, place) = (
        words.next().unwrap(),
        words.next().unwrap(),
        words.next().unwrap().to_owned(),
    );
    let database = match kind {
        "sqlite" => Database::borrowed_sqlite(place),
        _ => Database::borrowed_postgres(place),
    };
    let kms = builder(&database).build().await.unwrap();
    let scope = ScopeId::new("o_1").unwrap();
    // Should the parent die first, the child does not live on for ever.
    for round in 0..100_000 {
        if work == "rotate" {
            kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
        } else {
            let id = format!("o_{}_{round}", std::process::id());
            database.execute(&format!("insert into organization (id) values ('{id}')"));
            let scope = ScopeId::new(id).unwrap();
            kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap();
        }
    }
}
