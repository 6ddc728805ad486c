//! What every request does, without a database: `cargo bench -p kms-core`.

use std::sync::Arc;
use std::time::Duration;

use divan::counter::BytesCount;
use divan::{Bencher, black_box};
use futures_util::FutureExt as _;
use kms_core::{
    Blob, DataKeyWrapper, Freshness, KeyBytes, Kms, KmsBuilder, MemoryRepository, Purpose, ScopeId,
    Wrapper,
};
use kms_wrapper_aead::{AeadWrapper, AesGcm};

fn main() {
    divan::main();
}

const OIDC: Purpose = Purpose::from_static("oidc");
const AAD: &[u8] = b"client:7";
const SIZES: [usize; 3] = [32, 1024, 16_384];

/// An engine that has so many scopes in its cache.
fn engine(scopes: usize) -> (Kms, Vec<ScopeId>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let key = KeyBytes::generate().expect("random numbers");
        let root = AeadWrapper::builder("root").key(key).build();
        let root: Arc<dyn Wrapper> = Arc::new(root.expect("a wrapper"));
        let kms = KmsBuilder::new(Arc::new(MemoryRepository::new()), Arc::new(AesGcm))
            .root_wrapper(root)
            .purposes([OIDC])
            // For as long as a bench takes, nothing is asked.
            .freshness(Freshness::Within(Duration::from_secs(3600)))
            .recheck_interval(Duration::from_secs(7200));
        let kms = kms.build().await.expect("an engine");
        let mut made = Vec::new();
        for number in 0..scopes {
            let scope = ScopeId::new(format!("o_{number:010}")).expect("a valid id");
            kms.create_keys(&scope, &[OIDC]).await.expect("new keys");
            kms.wrapper(&scope, &OIDC).await.expect("its wrapper");
            made.push(scope);
        }
        (kms, made)
    })
}

fn wrapper() -> DataKeyWrapper {
    let (kms, scopes) = engine(1);
    let found = kms.wrapper(&scopes[0], &OIDC).now_or_never();
    found.expect("it is cached").expect("it is there")
}

/// Of one scope after the other, as requests come in.
#[divan::bench(args = [1, 200, 5000], sample_size = 1000)]
fn wrapper_cached(bencher: Bencher<'_, '_>, scopes: usize) {
    let (kms, scopes) = engine(scopes);
    let mut scopes = scopes.iter().cycle();
    bencher.bench_local(|| {
        let scope = scopes.next().expect("it goes round");
        kms.wrapper(scope, &OIDC)
            .now_or_never()
            .expect("it is cached")
    });
}

#[divan::bench(args = SIZES)]
fn encrypt_to_vec(bencher: Bencher<'_, '_>, size: usize) {
    let (wrapper, plaintext) = (wrapper(), vec![7; size]);
    let bencher = bencher.counter(BytesCount::new(size));
    bencher.bench_local(|| wrapper.encrypt_to_vec(black_box(&plaintext), AAD));
}

#[divan::bench(args = SIZES)]
fn decrypt_encoded(bencher: Bencher<'_, '_>, size: usize) {
    let wrapper = wrapper();
    let stored = wrapper.encrypt_to_vec(&vec![7; size], AAD);
    let stored = stored.expect("it encrypts");
    let bencher = bencher.counter(BytesCount::new(size));
    bencher.bench_local(|| wrapper.decrypt_encoded(black_box(&stored), AAD));
}

/// The format alone, without the primitive.
#[divan::bench(args = SIZES)]
fn blob_encode(bencher: Bencher<'_, '_>, size: usize) {
    let blob = wrapper().encrypt(&vec![7; size], AAD).expect("it encrypts");
    let bencher = bencher.counter(BytesCount::new(size));
    bencher.bench_local(|| black_box(&blob).encode());
}

#[divan::bench(args = SIZES)]
fn blob_decode(bencher: Bencher<'_, '_>, size: usize) {
    let stored = wrapper().encrypt_to_vec(&vec![7; size], AAD);
    let stored = stored.expect("it encrypts");
    let bencher = bencher.counter(BytesCount::new(size));
    bencher.bench_local(|| Blob::decode(black_box(&stored)));
}
