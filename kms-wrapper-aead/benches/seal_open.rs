//! Sealing and opening with each provider that is compiled in:
//! `cargo bench -p kms-wrapper-aead --all-features`.

use divan::Bencher;
use divan::counter::BytesCount;
use kms_core::{Aead, AeadKey, KeyBytes, NONCE_LEN};
use kms_wrapper_aead::AesGcm;
#[cfg(feature = "aws-lc-rs")]
use kms_wrapper_aead::AwsLcRs;
#[cfg(feature = "ring")]
use kms_wrapper_aead::Ring;

fn main() {
    divan::main();
}

const NONCE: [u8; NONCE_LEN] = [7; NONCE_LEN];
const AAD: &[u8] = b"scope o_1234567890";

const PROVIDERS: &[&str] = &[
    "aes-gcm",
    #[cfg(feature = "ring")]
    "ring",
    #[cfg(feature = "aws-lc-rs")]
    "aws-lc-rs",
];

fn provider(name: &str) -> Box<dyn Aead> {
    match name {
        #[cfg(feature = "ring")]
        "ring" => Box::new(Ring),
        #[cfg(feature = "aws-lc-rs")]
        "aws-lc-rs" => Box::new(AwsLcRs),
        _ => Box::new(AesGcm),
    }
}

fn prepared(name: &str) -> Box<dyn AeadKey> {
    provider(name).prepare(&KeyBytes::from_slice(&[7; KeyBytes::LEN]).expect("32 bytes"))
}

#[divan::bench(args = PROVIDERS, consts = [32, 1024, 16_384])]
fn seal<const LENGTH: usize>(bencher: Bencher<'_, '_>, name: &str) {
    let key = prepared(name);
    let mut buffer = vec![7; LENGTH];
    bencher
        .counter(BytesCount::new(LENGTH))
        .bench_local(|| key.seal_in_place(&NONCE, AAD, &mut buffer));
}

#[divan::bench(args = PROVIDERS, consts = [32, 1024, 16_384])]
fn open<const LENGTH: usize>(bencher: Bencher<'_, '_>, name: &str) {
    let key = prepared(name);
    let mut sealed = vec![7; LENGTH];
    let tag = key
        .seal_in_place(&NONCE, AAD, &mut sealed)
        .expect("short enough");
    let mut buffer = sealed.clone();
    bencher.counter(BytesCount::new(LENGTH)).bench_local(|| {
        // The copy is part of the figure: a buffer can be opened but once.
        buffer.copy_from_slice(&sealed);
        key.open_in_place(&NONCE, AAD, &mut buffer, &tag)
    });
}

#[divan::bench(args = PROVIDERS)]
fn prepare_and_drop(bencher: Bencher<'_, '_>, name: &str) {
    let provider = provider(name);
    let key = KeyBytes::from_slice(&[7; KeyBytes::LEN]).expect("32 bytes");
    bencher.bench_local(|| provider.prepare(&key));
}
