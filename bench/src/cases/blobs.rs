//! Encrypting into the serialized form and back, beside the bare primitive.

use std::hint::black_box;
use std::sync::Arc;

use anyhow::Result;
use kms_kit::DataKeyWrapper;
use kms_kit::aead::{AesGcm, Ring};
use kms_kit::core::Aead;
use kms_kit::core::MemoryRepository;
use rand::RngExt as _;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use crate::measure::Run;
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
    for aead in [Arc::new(Ring) as Arc<dyn Aead>, Arc::new(AesGcm)] {
        let wrapper = wrapper(Arc::clone(&aead)).await?;
        let name = aead.name().replace('-', "_");
        for size in SIZES {
            encrypt(run, &format!("encrypt_{name}_{size}"), &wrapper, size);
            decrypt(run, &format!("decrypt_{name}_{size}"), &wrapper, size)?;
        }
    }
    for size in SIZES {
        bare_encrypt(run, size);
        bare_decrypt(run, size);
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
    run.quick(case, |count| {
        for _ in 0..count {
            black_box(
                wrapper
                    .encrypt_to_vec(black_box(&plaintext), AAD)
                    .expect("it encrypts"),
            );
        }
    });
}

fn decrypt(run: &mut Run, case: &str, wrapper: &DataKeyWrapper, size: usize) -> Result<()> {
    let stored = wrapper.encrypt_to_vec(&vec![7; size], AAD)?;
    run.quick(case, |count| {
        for _ in 0..count {
            let secret = wrapper.decrypt_encoded(black_box(&stored), AAD);
            black_box(secret.expect("it decrypts"));
        }
    });
    Ok(())
}

fn key() -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &[7; 32]).expect("32 bytes"))
}

/// The least that encrypting takes: a random nonce, a new buffer, the copy, the primitive.
fn bare_encrypt(run: &mut Run, size: usize) {
    let (key, plaintext) = (key(), vec![7; size]);
    run.quick(&format!("floor_encrypt_{size}"), |count| {
        for _ in 0..count {
            let nonce: [u8; 12] = rand::rng().random();
            let mut buffer = Vec::with_capacity(12 + size + 16);
            buffer.extend_from_slice(&nonce);
            buffer.extend_from_slice(black_box(&plaintext));
            let tag = key
                .seal_in_place_separate_tag(
                    Nonce::assume_unique_for_key(nonce),
                    Aad::from(AAD),
                    &mut buffer[12..],
                )
                .expect("it is short");
            buffer.extend_from_slice(tag.as_ref());
            black_box(buffer);
        }
    });
}

/// The least that decrypting takes: a new buffer, the copy, the primitive.
fn bare_decrypt(run: &mut Run, size: usize) {
    let key = key();
    let nonce = [7; 12];
    let mut sealed = vec![7; size];
    key.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(AAD),
        &mut sealed,
    )
    .expect("it is short");
    run.quick(&format!("floor_decrypt_{size}"), |count| {
        for _ in 0..count {
            let mut buffer = black_box(&sealed).clone();
            key.open_in_place(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(AAD),
                &mut buffer,
            )
            .expect("it is as it was sealed");
            black_box(buffer);
        }
    });
}
