//! Encrypting into the serialized form and back, beside the bare primitive.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use aes_gcm::aead::AeadInOut as _;
use aes_gcm::{Aes256Gcm, KeyInit as _};
use anyhow::Result;
use kms_kit::DataKeyWrapper;
use kms_kit::aead::{AesGcm, Ring};
use kms_kit::core::{Aead, MemoryRepository};
use rand::RngExt as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::allocations;
use crate::measure::{Measurement, Run};
use crate::world::{PURPOSES, builder_on, local_root, scope};

/// Sizes of plaintexts in bytes.
const SIZES: [usize; 4] = [32, 1024, 16_384, 1_048_576];
const AAD: &[u8] = b"client:7";

/// Measures with each primitive.
///
/// # Errors
///
/// Those of the engine.
pub async fn run(run: &mut Run) -> Result<()> {
    for size in SIZES {
        // What is compared runs side by side.
        let wrapper_on = async |aead: Arc<dyn Aead>| wrapper(aead).await;
        let wrapper = wrapper_on(Arc::new(Ring)).await?;
        let bare = ring_key();
        encrypt(run, &format!("encrypt_ring_{size}"), &wrapper, size);
        floor_encrypt(run, &format!("floor_encrypt_ring_{size}"), &bare, size);
        decrypt(run, &format!("decrypt_ring_{size}"), &wrapper, size)?;
        decrypt_in_place(
            run,
            &format!("decrypt_in_place_ring_{size}"),
            &wrapper,
            size,
        )?;
        floor_decrypt(run, &format!("floor_decrypt_ring_{size}"), &bare, size);
        raw_decrypt(run, &format!("raw_decrypt_ring_{size}"), &bare, size);

        let wrapper = wrapper_on(Arc::new(AesGcm)).await?;
        let bare = Aes256Gcm::new(&[7; 32].into());
        encrypt(run, &format!("encrypt_aes_gcm_{size}"), &wrapper, size);
        floor_encrypt(run, &format!("floor_encrypt_aes_gcm_{size}"), &bare, size);
        decrypt(run, &format!("decrypt_aes_gcm_{size}"), &wrapper, size)?;
        raw_decrypt(run, &format!("raw_decrypt_aes_gcm_{size}"), &bare, size);
    }
    Ok(())
}

async fn wrapper(aead: Arc<dyn Aead>) -> Result<DataKeyWrapper> {
    let root = local_root("bench-root")?;
    let kms = builder_on(aead, Arc::new(MemoryRepository::new()), &root)
        .build()
        .await?;
    kms.create_keys(&scope(0), &PURPOSES).await?;
    Ok(kms.wrapper(&scope(0), &PURPOSES[1]).await?)
}

fn encrypt(run: &mut Run, case: &str, wrapper: &DataKeyWrapper, size: usize) {
    let plaintext = vec![7; size];
    let once = || {
        wrapper
            .encrypt_to_vec(black_box(&plaintext), AAD)
            .expect("it encrypts")
    };
    run.quick(case, |count| {
        (0..count).for_each(|_| drop(black_box(once())));
    });
    run.note(case, "allocations", || allocations::of(once).into());
}

fn decrypt(run: &mut Run, case: &str, wrapper: &DataKeyWrapper, size: usize) -> Result<()> {
    let stored = wrapper.encrypt_to_vec(&vec![7; size], AAD)?;
    let once = || {
        wrapper
            .decrypt_encoded(black_box(&stored), AAD)
            .expect("it decrypts")
    };
    run.quick(case, |count| {
        (0..count).for_each(|_| drop(black_box(once())));
    });
    run.note(case, "allocations", || allocations::of(once).into());
    Ok(())
}

/// In the buffer that the caller read the blob into.
fn decrypt_in_place(
    run: &mut Run,
    case: &str,
    wrapper: &DataKeyWrapper,
    size: usize,
) -> Result<()> {
    let stored = wrapper.encrypt_to_vec(&vec![7; size], AAD)?;
    consuming(run, case, &stored, |blob| {
        let plaintext = wrapper.decrypt_in_place(blob, AAD).expect("it decrypts");
        black_box(plaintext);
    });
    let mut copies = vec![stored.clone(), stored].into_iter();
    run.note(case, "allocations", || {
        let once = || {
            let mut copy = copies.next().expect("it is done twice");
            let length = wrapper
                .decrypt_in_place(&mut copy, AAD)
                .map(|plain| plain.len());
            (copy, length)
        };
        allocations::of(once).into()
    });
    Ok(())
}

/// The bare primitive of a provider.
trait Bare {
    fn seal(&self, nonce: [u8; 12], buffer: &mut [u8]) -> [u8; 16];
    fn open(&self, nonce: [u8; 12], buffer: &mut [u8], tag: [u8; 16]);
}

fn ring_key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes"))
}

impl Bare for LessSafeKey {
    fn seal(&self, nonce: [u8; 12], buffer: &mut [u8]) -> [u8; 16] {
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self.seal_in_place_separate_tag(nonce, Aad::from(AAD), buffer);
        let tag = tag.expect("it is short");
        tag.as_ref().try_into().expect("a tag has 16 bytes")
    }

    fn open(&self, nonce: [u8; 12], buffer: &mut [u8], tag: [u8; 16]) {
        let nonce = Nonce::assume_unique_for_key(nonce);
        self.open_in_place_separate_tag(nonce, Aad::from(AAD), tag.into(), buffer, 0..)
            .expect("it is as it was sealed");
    }
}

impl Bare for Aes256Gcm {
    fn seal(&self, nonce: [u8; 12], buffer: &mut [u8]) -> [u8; 16] {
        self.encrypt_inout_detached(&nonce.into(), AAD, buffer.into())
            .expect("it is short")
            .into()
    }

    fn open(&self, nonce: [u8; 12], buffer: &mut [u8], tag: [u8; 16]) {
        self.decrypt_inout_detached(&nonce.into(), AAD, buffer.into(), &tag.into())
            .expect("it is as it was sealed");
    }
}

/// The least that encrypting takes: a random nonce, a new buffer, the copy, the primitive.
fn floor_encrypt(run: &mut Run, case: &str, key: &impl Bare, size: usize) {
    let plaintext = vec![7; size];
    run.quick(case, |count| {
        for _ in 0..count {
            let nonce: [u8; 12] = rand::rng().random();
            let mut buffer = Vec::with_capacity(12 + size + 16);
            buffer.extend_from_slice(&nonce);
            buffer.extend_from_slice(black_box(&plaintext));
            let tag = key.seal(nonce, &mut buffer[12..]);
            buffer.extend_from_slice(&tag);
            black_box(buffer);
        }
    });
}

/// The least that decrypting into a new buffer takes: that, the copy, the primitive.
fn floor_decrypt(run: &mut Run, case: &str, key: &impl Bare, size: usize) {
    let nonce = [7; 12];
    let mut sealed = vec![7; size];
    let tag = key.seal(nonce, &mut sealed);
    run.quick(case, |count| {
        for _ in 0..count {
            let mut buffer = black_box(&sealed).clone();
            key.open(nonce, &mut buffer, tag);
            black_box(buffer);
        }
    });
}

/// Nothing but the primitive.
fn raw_decrypt(run: &mut Run, case: &str, key: &impl Bare, size: usize) {
    let nonce = [7; 12];
    let mut sealed = vec![7; size];
    let tag = key.seal(nonce, &mut sealed);
    consuming(run, case, &sealed, |sealed| key.open(nonce, sealed, tag));
}

/// Times work that uses up its input. Copies are made beforehand, as many as fit the second-level cache, and the
/// clock stands still meanwhile.
fn consuming(run: &mut Run, case: &str, input: &[u8], mut work: impl FnMut(&mut [u8])) {
    const TOGETHER: usize = 256 * 1024;
    if !run.wants(case) {
        return;
    }
    let mut copies = vec![input.to_vec(); (TOGETHER / input.len()).clamp(1, 512)];
    let mut samples = Vec::new();
    let deadline = Instant::now() + run.budget;
    while samples.len() < 5 || Instant::now() < deadline {
        for copy in &mut copies {
            copy.copy_from_slice(input);
        }
        let start = Instant::now();
        for copy in &mut copies {
            work(black_box(copy));
        }
        samples.push(start.elapsed().as_secs_f64() * 1e9 / copies.len() as f64);
    }
    run.keep(Measurement::of(case, samples));
}
