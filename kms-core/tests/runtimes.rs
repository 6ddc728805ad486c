//! What callers see when the runtime that a load was begun in stands still, ends, or is none.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use kms_testkit::{Fault, Gate, RepositoryCalls, When, WrapperMethod};
use support::instrumented::Process;
use support::{OIDC, World, scope};

/// An engine of the default settings, whose next load stops at the gate.
fn held_process(world: &World, gate: &Gate) -> Process {
    let process = block_on(Process::in_any_runtime(world));
    process.root.inject(
        WrapperMethod::Decrypt,
        When::Next,
        Fault::PauseBefore(gate.clone()),
    );
    process
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    current_thread().block_on(work)
}

fn current_thread() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_load_begun_in_a_runtime_that_stands_still_hangs_no_caller_of_another() {
    let world = block_on(World::with_scope("o_1"));
    let gate = Gate::new();
    let process = held_process(&world, &gate);
    let id = scope("o_1");
    let first = current_thread();
    first.block_on(async {
        let purpose = OIDC;
        let call = process.kms.wrapper(&id, &purpose);
        tokio::select! {
            biased;
            () = gate.reached() => {}
            _ = call => panic!("it was to wait"),
        }
    });
    // From here on nobody blocks on the first runtime, and it is not dropped either.
    gate.open();
    let wrapper = block_on(async {
        tokio::time::timeout(Duration::from_secs(20), process.kms.wrapper(&id, &OIDC)).await
    });
    wrapper.expect("it hangs").unwrap();
    assert_eq!(
        process.queries(),
        RepositoryCalls {
            load: 1,
            ..RepositoryCalls::default()
        }
    );
    drop(first);
}

#[test]
fn a_load_begun_in_a_runtime_that_ends_is_begun_again_by_those_who_wait_for_it() {
    let world = block_on(World::with_scope("o_1"));
    let gate = Gate::new();
    let process = Arc::new(held_process(&world, &gate));
    let id = scope("o_1");
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap()
    };
    let (first, second) = (runtime(), runtime());
    first.spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { process.kms.wrapper(&id, &OIDC).await.map(drop) }
    });
    second.block_on(gate.reached());
    let waiting = second.spawn({
        let (process, id) = (Arc::clone(&process), id.clone());
        async move { process.kms.wrapper(&id, &OIDC).await.map(drop) }
    });
    first.shutdown_timeout(Duration::from_secs(5));
    let waited =
        second.block_on(async { tokio::time::timeout(Duration::from_secs(20), waiting).await });
    waited.expect("it hangs").unwrap().unwrap();
}

#[test]
fn callers_without_any_runtime_get_keys_too() {
    let world = block_on(World::with_scope("o_1"));
    let process = block_on(Process::in_any_runtime(&world));
    let wrapper = without_runtime(process.kms.wrapper(&scope("o_1"), &OIDC));
    wrapper.unwrap().encrypt(b"x", b"").unwrap();
}

/// Blocks on a future with no runtime around it.
fn without_runtime<T>(work: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(std::thread::current())).into();
    let mut context = std::task::Context::from_waker(&waker);
    let mut work = std::pin::pin!(work);
    loop {
        if let std::task::Poll::Ready(done) = work.as_mut().poll(&mut context) {
            return done;
        }
        std::thread::park_timeout(Duration::from_secs(20));
    }
}
