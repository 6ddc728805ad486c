//! One wrapper on several runtimes.

use std::sync::Arc;

use kms_core::Wrapper as _;
use kms_testkit::wrapper::{on_current_thread, on_many_threads};
use kms_wrapper_gcp::{CloudKmsMode, CloudKmsWrapper};
use tokio::runtime::Runtime;

use crate::support::{Own, assert_works, builder, patient};

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
}

/// With one attempt, so that a call over a connection of another runtime fails, and not just takes long.
fn start() -> (Own, Arc<CloudKmsWrapper>) {
    let own = runtime().block_on(Own::start(CloudKmsMode::Envelope));
    let limits = patient().with_attempts(1);
    let wrapper = builder(own.fake.url(), &own.key).limits(limits).build();
    (own, Arc::new(wrapper.unwrap()))
}

#[test]
fn a_wrapper_outlives_the_runtimes_that_use_it_one_after_another() {
    let (_own, wrapper) = start();
    let mut blobs = Vec::new();
    for round in 0..12 {
        let use_it = async {
            blobs.push(wrapper.encrypt(b"plaintext", b"").await.unwrap());
            for blob in &blobs {
                let back = wrapper.decrypt(blob, b"").await.unwrap();
                assert_eq!(back.expose(), b"plaintext");
            }
        };
        if round % 2 == 0 {
            on_current_thread(use_it);
        } else {
            on_many_threads(use_it);
        }
    }
}

#[test]
fn a_connection_of_a_runtime_that_is_not_running_is_left_alone() {
    let (_own, wrapper) = start();
    let (first, second) = (runtime(), runtime());
    for _ in 0..3 {
        // Both are there, and only one at a time is running.
        for runtime in [&first, &second] {
            runtime.block_on(assert_works(&*wrapper));
        }
    }
}

#[test]
fn a_wrapper_serves_several_runtimes_at_once() {
    let (_own, wrapper) = start();
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let wrapper = Arc::clone(&wrapper);
            std::thread::spawn(move || {
                on_current_thread(async {
                    for _ in 0..8 {
                        assert_works(&*wrapper).await;
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
