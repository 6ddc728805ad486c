//! One wrapper on several runtimes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_core::Wrapper as _;
use kms_testkit::wrapper::{on_current_thread, on_many_threads};
use kms_wrapper_aws::AwsKmsWrapper;

use super::support::Service;

/// Made on a runtime of its own, as the key is.
fn wrapper() -> Option<Arc<AwsKmsWrapper>> {
    let mut wrapper = None;
    on_current_thread(async {
        if let Some(service) = Service::shared() {
            wrapper = Some(Arc::new(service.wrapper(&service.key().await)));
        }
    });
    wrapper
}

#[test]
fn a_wrapper_outlives_the_runtimes_that_use_it_one_after_another() {
    let Some(wrapper) = wrapper() else {
        return;
    };
    let mut blobs = Vec::new();
    for round in 0..6 {
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
    let runtime = || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap()
    };
    let Some(wrapper) = wrapper() else {
        return;
    };
    let (first, second) = (runtime(), runtime());
    let mut blob = first.block_on(wrapper.encrypt(b"0", b"")).unwrap();
    // Both are there, and only one at a time is running.
    for _ in 0..3 {
        for runtime in [&second, &first] {
            let start = Instant::now();
            runtime.block_on(wrapper.decrypt(&blob, b"")).unwrap();
            blob = runtime.block_on(wrapper.encrypt(b"1", b"")).unwrap();
            // An attempt whose connection is dead takes 40 s.
            assert!(start.elapsed() < Duration::from_secs(35));
        }
    }
}

#[test]
fn a_wrapper_serves_several_runtimes_at_once() {
    let Some(wrapper) = wrapper() else {
        return;
    };
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let wrapper = Arc::clone(&wrapper);
            std::thread::spawn(move || {
                on_current_thread(async {
                    for round in 0..8 {
                        let plaintext = format!("{round} of {number}");
                        let blob = wrapper.encrypt(plaintext.as_bytes(), b"").await.unwrap();
                        let back = wrapper.decrypt(&blob, b"").await.unwrap();
                        assert_eq!(back.expose(), plaintext.as_bytes());
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}
