//! What a process reads again after a change by another one.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kms_core::Rewrap;
use kms_testkit::RepositoryCalls;
use support::instrumented::{Process, newest};
use support::{OIDC, World, scope};

const WINDOW: Duration = Duration::from_secs(1);

fn calls(collection_version: u64, load: u64) -> RepositoryCalls {
    RepositoryCalls {
        collection_version,
        load,
        ..RepositoryCalls::default()
    }
}

#[tokio::test]
async fn after_a_change_elsewhere_the_rows_of_the_tenants_that_changed_are_read_and_no_others() {
    let world = World::new().await;
    let ids: Vec<_> = (0..50).map(|n| scope(&format!("o_{n:02}"))).collect();
    for id in &ids {
        world.kms.create_keys(id, &[OIDC]).await.unwrap();
    }
    let process = Process::new(&world).await;
    let mut seen = Vec::new();
    for id in &ids {
        seen.push(newest(&process, id).await);
    }
    let _ = (process.queries(), process.root_calls());
    for round in 0..5 {
        let changed = [round, 20 + round, 40 + round];
        for number in changed {
            world
                .kms
                .rotate_keys(&ids[number], Rewrap::No)
                .await
                .unwrap();
        }
        process.clock.advance(WINDOW * 2);
        for (number, id) in ids.iter().enumerate() {
            let now = newest(&process, id).await;
            assert_eq!(now != seen[number], changed.contains(&number), "{id}");
            seen[number] = now;
        }
        assert_eq!(process.queries(), calls(1, 3));
    }
    // What nobody told is read, as ever.
    world.kms.announce_restore().await.unwrap();
    process.clock.advance(WINDOW * 2);
    for id in &ids {
        newest(&process, id).await;
    }
    assert_eq!(process.queries(), calls(1, 50));
}
