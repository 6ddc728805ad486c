//! What the core itself offers as a wrapper passes the suite for wrappers.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use kms_core::PooledWrapper;
use kms_testkit::wrapper::Subject;
use support::{OIDC, World, root, scope};

mod data_key {
    kms_testkit::wrapper_suite!(super::data_key().await);
}

mod root_key {
    kms_testkit::wrapper_suite!(super::root_key().await);
}

mod pool {
    kms_testkit::wrapper_suite!(super::pool());
}

/// The data keys of one scope and purpose after a rotation; the stranger's are another scope's.
async fn data_key() -> Subject {
    let world = two_scopes().await;
    let [wrapper, stranger] = ["o_1", "o_2"].map(scope);
    Subject::new(
        Arc::new(world.wrapper(&wrapper).await),
        Arc::new(world.wrapper(&stranger).await),
    )
}

async fn root_key() -> Subject {
    let world = two_scopes().await;
    let [wrapper, stranger] = ["o_1", "o_2"].map(scope);
    Subject::new(
        Arc::new(world.kms.root_key_wrapper(&wrapper).await.unwrap()),
        Arc::new(world.kms.root_key_wrapper(&stranger).await.unwrap()),
    )
}

fn pool() -> Subject {
    let pool = PooledWrapper::new(root("new"))
        .with_decrypting(root("old"))
        .unwrap();
    Subject::new(Arc::new(pool), root("stranger"))
}

async fn two_scopes() -> World {
    let world = World::with_scope("o_1").await;
    world.kms.create_keys(&scope("o_2"), &[OIDC]).await.unwrap();
    let rotated = scope("o_1");
    let rotation = world.kms.rotate_keys(&rotated, kms_core::Rewrap::Yes);
    rotation.await.unwrap();
    world
}
