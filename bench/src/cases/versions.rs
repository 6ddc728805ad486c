//! How times grow with the number of versions of one scope's keys, in memory.

use std::hint::black_box;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use kms_kit::core::MemoryRepository;
use kms_kit::{Kms, Rewrap, ScopeId};

use crate::measure::{Measurement, Run};
use crate::world::{PURPOSES, builder, local_root, scope};

/// From and to which number of versions rotating is timed.
const ROTATED: [Range<usize>; 2] = [300..320, 2_700..2_720];
/// Versions of the keys among which the oldest and the newest decrypt.
const VERSIONS: usize = 3_000;
const AAD: &[u8] = b"client:7";

/// Measures rotating among few versions and among many, and decrypting with the oldest and with the newest of all.
///
/// # Errors
///
/// Those of the engine.
///
/// # Panics
///
/// If a row does not decrypt.
pub async fn run(run: &mut Run) -> Result<()> {
    let rotating = ROTATED.map(|range| (format!("rotate_keys_at_{}_versions", range.start), range));
    let newest = format!("decrypt_newest_of_{VERSIONS}");
    let oldest = format!("decrypt_oldest_of_{VERSIONS}");
    let mut cases: Vec<_> = rotating.iter().map(|(case, _)| case).collect();
    cases.extend([&newest, &oldest]);
    if !cases.iter().any(|case| run.wants(case)) {
        return Ok(());
    }
    let root = local_root("bench-root")?;
    let kms = builder(Arc::new(MemoryRepository::new()), &root)
        .build()
        .await?;
    let (scope, purpose) = (scope(0), &PURPOSES[1]);
    kms.create_keys(&scope, std::slice::from_ref(purpose))
        .await?;
    let row = vec![7; 1024];
    let first = kms.wrapper(&scope, purpose).await?;
    let stored_first = first.encrypt_to_vec(&row, AAD)?;
    let mut versions = 1;
    for (case, range) in rotating {
        rotate(&kms, &scope, versions..range.start).await?;
        let samples = rotate(&kms, &scope, range.clone()).await?;
        if run.wants(&case) {
            run.keep(Measurement::of(case, samples));
        }
        versions = range.end;
    }
    if !run.wants(&newest) && !run.wants(&oldest) {
        return Ok(());
    }
    rotate(&kms, &scope, versions..VERSIONS).await?;
    let wrapper = kms.wrapper(&scope, purpose).await?;
    let stored_last = wrapper.encrypt_to_vec(&row, AAD)?;
    for (case, stored) in [(newest, stored_last), (oldest, stored_first)] {
        run.quick(&case, |count| {
            for _ in 0..count {
                let decrypted = wrapper.decrypt_encoded(black_box(&stored), AAD);
                drop(black_box(decrypted.expect("its version is there")));
            }
        });
    }
    Ok(())
}

/// Rotates as often as it takes from so many versions to so many. Gives the time of each rotation in nanoseconds.
async fn rotate(kms: &Kms, scope: &ScopeId, versions: Range<usize>) -> Result<Vec<f64>> {
    let mut samples = Vec::new();
    for _ in versions {
        let start = Instant::now();
        kms.rotate_keys(scope, Rewrap::No).await?;
        samples.push(start.elapsed().as_secs_f64() * 1e9);
    }
    Ok(samples)
}
