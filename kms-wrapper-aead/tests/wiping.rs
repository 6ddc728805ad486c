//! Invariant 1 for prepared keys: the whole memory of the process is searched for the key.
//!
//! With the AES instructions of the processor, the first two round keys of AES-256 are the two halves of the
//! key itself. So a prepared key is found in one place while it lives, and nowhere after it was dropped:
//! neither where it was nor in a copy that building it left on the stack.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::sync::{Mutex, PoisonError};

use kms_core::{Aead, KeyBytes, NONCE_LEN};
use zeroize::Zeroizing;

/// One search at a time: the buffer of another would hold copies of what it looks at.
static SEARCHING: Mutex<()> = Mutex::new(());

#[test]
fn defect_14_and_invariant_01_aes_gcm_leaves_no_copy_of_a_key() {
    assert_leaves_nothing(&kms_wrapper_aead::AesGcm);
}

#[cfg(feature = "ring")]
#[test]
fn defect_14_and_invariant_01_ring_leaves_no_copy_of_a_key() {
    assert_leaves_nothing(&kms_wrapper_aead::Ring);
}

#[cfg(feature = "aws-lc-rs")]
#[test]
fn defect_14_and_invariant_01_aws_lc_rs_leaves_no_copy_of_a_key() {
    assert_leaves_nothing(&kms_wrapper_aead::AwsLcRs);
}

#[test]
fn invariant_01_a_check_value_leaves_no_copy_of_a_key() {
    let _one_at_a_time = SEARCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let key = KeyBytes::generate().unwrap();
    let sought = Sought::new(&key);
    let wrapper = kms_wrapper_aead::AeadWrapper::named("root")
        .key(key)
        .build();
    drop(wrapper.unwrap());
    let found = sought.addresses();
    assert!(found.is_empty(), "copies of a dropped key: {found:x?}");
}

fn assert_leaves_nothing(provider: &dyn Aead) {
    let _one_at_a_time = SEARCHING.lock().unwrap_or_else(PoisonError::into_inner);
    let key = KeyBytes::generate().unwrap();
    let sought = Sought::new(&key);
    let prepared = provider.prepare(&key);
    drop(key);

    let found = sought.addresses();
    if has_aes_instructions() {
        // All words, and in aes-gcm the first ones again at the end of the schedule for decrypting.
        assert!(found.len() >= 4, "{found:x?}");
    }
    let (first, last) = (found.first(), found.last());
    assert!(
        first
            .zip(last)
            .is_none_or(|(first, last)| last - first < 1024),
        "a key in use is in more than one place: {found:x?}"
    );
    for length in [0, 1, 32, 1000, 20_000] {
        let mut buffer = vec![7; length];
        let tag = prepared
            .seal_in_place(&[1; NONCE_LEN], b"aad", &mut buffer)
            .unwrap();
        prepared
            .open_in_place(&[1; NONCE_LEN], b"aad", &mut buffer, &tag)
            .unwrap();
    }
    drop(prepared);

    let found = sought.addresses();
    assert!(found.is_empty(), "copies of a dropped key: {found:x?}");
}

fn has_aes_instructions() -> bool {
    #[cfg(target_arch = "x86_64")]
    return std::arch::is_x86_feature_detected!("aes");
    #[cfg(not(target_arch = "x86_64"))]
    return false;
}

const WORD: usize = size_of::<u64>();

/// The words of a key, disguised, so that this is no copy to be found.
struct Sought([u64; KeyBytes::LEN / WORD]);

const DISGUISE: u64 = 0x5a5a_5a5a_5a5a_5a5a;

impl Sought {
    fn new(key: &KeyBytes) -> Self {
        let (words, _) = key.expose().as_chunks();
        Self(std::array::from_fn(|at| {
            u64::from_ne_bytes(words[at]) ^ DISGUISE
        }))
    }

    /// Where words of the key are found in the memory that this process can write to, ascending.
    fn addresses(&self) -> Vec<u64> {
        const CHUNK: usize = 1 << 20;
        let memory = File::open("/proc/self/mem").unwrap();
        let mut chunk = Zeroizing::new(vec![0; CHUNK]);
        let own = chunk.as_ptr_range();
        let own = own.start.addr() as u64..own.end.addr() as u64;
        let mut found = Vec::new();
        for (start, end) in writable_regions() {
            for from in (start..end).step_by(CHUNK) {
                let length = CHUNK.min(usize::try_from(end - from).unwrap());
                // A region can go away while this runs.
                if memory.read_exact_at(&mut chunk[..length], from).is_ok() {
                    let (words, _) = chunk[..length].as_chunks();
                    let addresses = (from..).step_by(WORD).zip(words);
                    found.extend(addresses.filter_map(|(address, word)| {
                        let word = u64::from_ne_bytes(*word) ^ DISGUISE;
                        self.0.contains(&word).then_some(address)
                    }));
                }
                chunk.fill(0);
            }
        }
        // What was read of the key is found in here again.
        found.retain(|address| !own.contains(address));
        found
    }
}

fn writable_regions() -> Vec<(u64, u64)> {
    let number = |hex| u64::from_str_radix(hex, 16).unwrap();
    fs::read_to_string("/proc/self/maps")
        .unwrap()
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (range, rights) = (words.next()?, words.next()?);
            let (start, end) = range.split_once('-')?;
            (rights.starts_with("rw") && !line.ends_with("[vvar]"))
                .then(|| (number(start), number(end)))
        })
        .collect()
}
