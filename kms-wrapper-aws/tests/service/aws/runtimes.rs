//! One wrapper on several runtimes.

use std::sync::Arc;

use kms_core::Wrapper as _;
use kms_testkit::wrapper::{assert_hidden, on_current_thread, on_many_threads};
use kms_testkit::{FaultyProxy, Gate, NetworkFault};
use kms_wrapper_aws::AwsKmsWrapper;
use tokio::runtime::Runtime;

use super::support::{ACCESS_KEY, REGION, Service, config, patient};

/// One attempt each, so that a call over a connection of another runtime fails, and not just takes long.
fn wrapper() -> Option<Arc<AwsKmsWrapper>> {
    let mut wrapper = None;
    on_current_thread(async {
        if let Some(service) = Service::shared() {
            let builder = service.builder(&service.key().await);
            let limits = patient().with_attempts(1);
            wrapper = Some(Arc::new(builder.limits(limits).build().unwrap()));
        }
    });
    wrapper
}

fn runtime() -> Runtime {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap()
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
    let Some(wrapper) = wrapper() else {
        return;
    };
    let (first, second) = (runtime(), runtime());
    let mut blob = first.block_on(wrapper.encrypt(b"0", b"")).unwrap();
    // Both are there, and only one at a time is running.
    for _ in 0..3 {
        for runtime in [&second, &first] {
            runtime.block_on(wrapper.decrypt(&blob, b"")).unwrap();
            blob = runtime.block_on(wrapper.encrypt(b"1", b"")).unwrap();
        }
    }
}

/// As may happen to a client that the caller made: its connections are every runtime's.
#[test]
fn a_call_whose_connection_ends_with_another_runtime_is_repeated() {
    let owner = runtime();
    let Some((key, endpoint)) = owner.block_on(async {
        let service = Service::shared()?;
        Some((service.key().await, service.endpoint))
    }) else {
        return;
    };
    let proxy = FaultyProxy::start(&endpoint);
    let client = aws_sdk_kms::Client::from_conf(config(&proxy.url(), REGION).build());
    let wrapper = AwsKmsWrapper::builder(key)
        .client(client)
        .limits(patient())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .build()
        .unwrap();
    let blob = owner.block_on(wrapper.encrypt(b"x", b"")).unwrap();
    let gate = Gate::new();
    proxy.fail_next(1, NetworkFault::Pause(gate.clone()));
    std::thread::scope(|scope| {
        let call = scope.spawn(|| runtime().block_on(wrapper.decrypt(&blob, b"")));
        owner.block_on(gate.reached());
        drop(owner);
        assert_eq!(call.join().unwrap().unwrap().expose(), b"x");
    });
    assert_eq!(proxy.connections(), 2);
    assert_hidden(ACCESS_KEY.as_bytes(), &format!("{wrapper:?}"));
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
