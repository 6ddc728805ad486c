//! What operations cost in requests to the service, counted on the way to it.

use std::sync::Arc;

use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, Claim, Scopes, WarmUpOptions};
use kms_testkit::FaultyProxy;

use crate::root::Root;
use crate::support::{DATABASE, Database, OIDC};

crate::on_each_service! {
    a_cold_load_costs_a_decrypt_for_each_root_key_version_that_wraps_something_and_a_warm_one_none
    a_rotation_costs_an_encrypt_and_with_rewrapping_one_more_for_each_root_key_version
    many_scopes_at_once_cost_what_they_cost_one_by_one
}

/// Requests that the service got while this was done.
async fn cost<T>(proxy: &FaultyProxy, work: impl Future<Output = T>) -> u64 {
    let before = proxy.requests();
    work.await;
    proxy.requests() - before
}

async fn engine(database: &Database, root: &Arc<dyn Wrapper>) -> Kms {
    kms_kit::builder(database.repository())
        .root_wrapper(Arc::clone(root))
        .purposes([DATABASE, OIDC])
        .build()
        .await
        .unwrap()
}

async fn a_cold_load_costs_a_decrypt_for_each_root_key_version_that_wraps_something_and_a_warm_one_none(
    database: &Database,
    root: &Root,
) {
    let scope = ScopeId::new("o_1").unwrap();
    database.execute("insert into organization (id) values ('o_1')");
    let (proxy, wrapper) = root.behind_a_proxy();
    // What a wrapper asks once in its life (a login, say) is no cost of a load.
    wrapper.preflight().await.unwrap();
    let kms = engine(database, &wrapper).await;
    let creation = cost(&proxy, kms.create_keys(&scope, &[DATABASE, OIDC])).await;
    assert_eq!(creation, 1, "a creation");

    // Three root key versions, each of which wraps data key versions.
    kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let cold = engine(database, &wrapper).await;
    let load = cost(&proxy, cold.wrapper(&scope, &OIDC)).await;
    assert_eq!(load, 3, "a cold load");
    let again = async {
        for purpose in [OIDC, DATABASE] {
            cold.wrapper(&scope, &purpose).await.unwrap();
        }
        cold.ensure(&scope).await.unwrap();
    };
    assert_eq!(cost(&proxy, again).await, 0, "a warm one");

    // Rewrapped, the newest alone wraps anything.
    kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
    let cold = engine(database, &wrapper).await;
    let load = cost(&proxy, cold.wrapper(&scope, &OIDC)).await;
    assert_eq!(load, 1, "a cold load after rewrapping");
    assert_eq!(
        cost(&proxy, engine(database, &wrapper)).await,
        1,
        "a start opens the check blob"
    );
}

async fn a_rotation_costs_an_encrypt_and_with_rewrapping_one_more_for_each_root_key_version(
    database: &Database,
    root: &Root,
) {
    let scope = ScopeId::new("o_1").unwrap();
    database.execute("insert into organization (id) values ('o_1')");
    let (proxy, wrapper) = root.behind_a_proxy();
    wrapper.preflight().await.unwrap();
    let kms = engine(database, &wrapper).await;
    kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap();
    kms.ensure(&scope).await.unwrap();
    let rotation = kms.rotate_keys(&scope, Rewrap::No);
    // Where ids can't tell whose the newest key is, it is opened first.
    let opened = u64::from(!wrapper.claims().iter().all(Claim::is_proven_by_id));
    assert_eq!(cost(&proxy, rotation).await, 1 + opened, "a rotation");

    // Rewrapping opens them anew, cached or not: the cache keeps prepared keys, and no bytes to wrap.
    kms.ensure(&scope).await.unwrap();
    let rotation = cost(&proxy, kms.rotate_keys(&scope, Rewrap::Yes)).await;
    assert_eq!(rotation, 2 + 1 + 2, "two opened, a new one, two rewrapped");
    let cold = engine(database, &wrapper).await;
    let rotation = cost(&proxy, cold.rotate_keys(&scope, Rewrap::Yes)).await;
    assert_eq!(rotation, 3 + 1 + 3, "the same without the cache");
    let rewrapping = cost(&proxy, cold.rewrap_keys(&scope, RewrapKeys::All)).await;
    assert_eq!(rewrapping, 4 + 4);
}

async fn many_scopes_at_once_cost_what_they_cost_one_by_one(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    wrapper.preflight().await.unwrap();
    let kms = engine(database, &wrapper).await;
    for id in ["o_1", "o_2", "o_3", "o_4"] {
        database.execute(&format!("insert into organization (id) values ('{id}')"));
        let scope = ScopeId::new(id).unwrap();
        kms.create_keys(&scope, &[DATABASE, OIDC]).await.unwrap();
    }
    let first = ScopeId::new("o_1").unwrap();
    kms.rotate_keys(&first, Rewrap::No).await.unwrap();

    let cold = engine(database, &wrapper).await;
    let warm_up = async {
        let options = WarmUpOptions::new().batch_size(2);
        let warm_up = cold.warm_up(Scopes::All, &options).await.unwrap();
        assert_eq!((warm_up.loaded, warm_up.failed.len()), (4, 0));
    };
    let calls = cost(&proxy, warm_up).await;
    assert_eq!(calls, 2 + 3, "two versions of one, one of each other");
    assert_eq!(cost(&proxy, cold.wrapper(&first, &OIDC)).await, 0);

    let campaign = async {
        let options = CampaignOptions::new("rotate").batch_size(2);
        let outcome = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
        let outcome = outcome.report().unwrap();
        assert_eq!((outcome.done, outcome.failures.len()), (4, 0));
    };
    let calls = cost(&proxy, campaign).await;
    let one_by_one = (2 + 1 + 2) + 3 * (1 + 1 + 1);
    assert_eq!(
        calls, one_by_one,
        "the old ones opened, a new one, the old ones rewrapped"
    );
}
