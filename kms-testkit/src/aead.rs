//! The suite for [`Aead`]: one function for each property, all of them run by [`aead_suite!`](crate::aead_suite).
//!
//! ```
//! use kms_core::Aead;
//!
//! fn check(provider: &dyn Aead) {
//!     kms_testkit::aead::the_nist_vectors_come_out(provider);
//! }
//! ```
#![expect(
    clippy::missing_panics_doc,
    reason = "each function panics where its property does not hold"
)]

use std::thread;

use kms_core::{Aead, AeadKey, KeyBytes, NONCE_LEN, TAG_LEN};

mod nist;

/// One `#[test]` for each property of [`kms_testkit::aead`](crate::aead), for the provider that the expression
/// makes. Put it into a module of its own for each provider.
///
/// ```
/// mod my_provider {
///     kms_testkit::aead_suite!(MyProvider);
/// }
/// ```
#[macro_export]
macro_rules! aead_suite {
    ($provider:expr) => {
        $crate::aead_suite! { @tests $provider;
            the_nist_vectors_come_out
            what_was_sealed_opens_at_every_length
            sealing_is_a_function_of_its_input
            a_flipped_bit_anywhere_does_not_open
            another_nonce_or_aad_does_not_open
            another_key_does_not_open
            parts_moved_between_text_and_aad_do_not_open
            one_prepared_key_serves_many_threads
            debug_shows_no_key
        }
    };
    (@tests $provider:expr; $($property:ident)*) => {$(
        #[test]
        fn $property() {
            $crate::aead::$property(&$provider);
        }
    )*};
}

/// The AES-256 test cases that were submitted to NIST with GCM (appendix B, cases 13 to 16).
pub fn the_nist_vectors_come_out(aead: &dyn Aead) {
    for case in nist::CASES {
        let key = aead.prepare(&KeyBytes::from_slice(&case.key()).expect("32 bytes"));
        let mut buffer = case.plaintext();
        let tag = seal(&*key, &case.nonce(), &case.aad(), &mut buffer);
        assert_eq!(buffer, case.ciphertext(), "ciphertext of {}", case.name);
        assert_eq!(tag, case.tag(), "tag of {}", case.name);

        key.open_in_place(&case.nonce(), &case.aad(), &mut buffer, &tag)
            .unwrap_or_else(|_| panic!("{} does not open", case.name));
        assert_eq!(buffer, case.plaintext(), "plaintext of {}", case.name);
    }
}

/// Every length up to 300 bytes, so that each path for a remainder is taken, and some long ones.
pub fn what_was_sealed_opens_at_every_length(aead: &dyn Aead) {
    let key = aead.prepare(&fresh_key());
    let long = [1023, 1024, 1025, 4096, 65_536, 100_003];
    for length in (0..=300).chain(long) {
        let plaintext = pattern(length);
        let aad = pattern(length % 70);
        let mut buffer = plaintext.clone();
        let tag = seal(&*key, &NONCE, &aad, &mut buffer);
        assert!(
            length < 16 || buffer != plaintext,
            "{length} bytes were not encrypted"
        );
        key.open_in_place(&NONCE, &aad, &mut buffer, &tag)
            .unwrap_or_else(|_| panic!("{length} bytes do not open"));
        assert_eq!(buffer, plaintext, "{length} bytes");
    }
}

/// The same key, nonce, `aad` and text give the same bytes, also from a key that was prepared anew.
pub fn sealing_is_a_function_of_its_input(aead: &dyn Aead) {
    let key = fresh_key();
    let sealed = || {
        let mut buffer = pattern(100);
        let tag = seal(&*aead.prepare(&key), &NONCE, b"aad", &mut buffer);
        (buffer, tag)
    };
    assert_eq!(sealed(), sealed());
}

/// Any one bit of ciphertext or tag.
pub fn a_flipped_bit_anywhere_does_not_open(aead: &dyn Aead) {
    let key = aead.prepare(&fresh_key());
    let mut sealed = pattern(49);
    let tag = seal(&*key, &NONCE, b"aad", &mut sealed);
    for bit in 0..sealed.len() * 8 {
        let mut altered = sealed.clone();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_closed(&*key, &NONCE, b"aad", &altered, &tag, "ciphertext", bit);
    }
    for bit in 0..TAG_LEN * 8 {
        let mut altered = tag;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_closed(&*key, &NONCE, b"aad", &sealed, &altered, "tag", bit);
    }
}

/// Any one bit of nonce or `aad`; and an `aad` that is longer, shorter or missing.
pub fn another_nonce_or_aad_does_not_open(aead: &dyn Aead) {
    const AAD: &[u8] = b"scope o_1234567890";
    let key = aead.prepare(&fresh_key());
    let mut sealed = pattern(40);
    let tag = seal(&*key, &NONCE, AAD, &mut sealed);
    for bit in 0..NONCE_LEN * 8 {
        let mut altered = NONCE;
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_closed(&*key, &altered, AAD, &sealed, &tag, "nonce", bit);
    }
    for bit in 0..AAD.len() * 8 {
        let mut altered = AAD.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        assert_closed(&*key, &NONCE, &altered, &sealed, &tag, "aad", bit);
    }
    for altered in [
        &AAD[1..],
        &AAD[..AAD.len() - 1],
        &[AAD, b"\0"].concat(),
        b"",
    ] {
        let length = altered.len();
        assert_closed(&*key, &NONCE, altered, &sealed, &tag, "aad, length", length);
    }
}

/// A key that differs in any one bit.
pub fn another_key_does_not_open(aead: &dyn Aead) {
    let key = fresh_key();
    let mut sealed = pattern(40);
    let tag = seal(&*aead.prepare(&key), &NONCE, b"", &mut sealed);
    for bit in 0..KeyBytes::LEN * 8 {
        let mut altered = *key.expose();
        altered[bit / 8] ^= 1 << (bit % 8);
        let altered = aead.prepare(&KeyBytes::from_slice(&altered).expect("32 bytes"));
        assert_closed(&*altered, &NONCE, b"", &sealed, &tag, "key", bit);
    }
}

/// The border between `aad` and ciphertext is authenticated too.
pub fn parts_moved_between_text_and_aad_do_not_open(aead: &dyn Aead) {
    let key = aead.prepare(&fresh_key());
    let mut sealed = pattern(32);
    let tag = seal(&*key, &NONCE, b"", &mut sealed);
    for border in 1..=32 {
        let (aad, rest) = sealed.split_at(border);
        assert_closed(&*key, &NONCE, aad, rest, &tag, "border", border);
    }
}

/// Eight threads share one prepared key, and each gets what a single one would.
pub fn one_prepared_key_serves_many_threads(aead: &dyn Aead) {
    let key = aead.prepare(&fresh_key());
    let mut expected = pattern(1000);
    let expected_tag = seal(&*key, &NONCE, b"aad", &mut expected);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..50 {
                    let mut buffer = pattern(1000);
                    let tag = seal(&*key, &NONCE, b"aad", &mut buffer);
                    assert_eq!((&buffer, tag), (&expected, expected_tag));
                    key.open_in_place(&NONCE, b"aad", &mut buffer, &tag)
                        .expect("opens what this thread sealed");
                    assert_eq!(buffer, pattern(1000));
                }
            });
        }
    });
}

/// `Debug` of provider and prepared key shows nothing of the key, in any common form.
pub fn debug_shows_no_key(aead: &dyn Aead) {
    let key = KeyBytes::from_slice(b"ThisIsTheSecretKeyOf32Characters").expect("32 bytes");
    let prepared = aead.prepare(&key);
    crate::wrapper::assert_hidden(
        key.expose(),
        &format!("{aead:?} {prepared:?} {prepared:#?}"),
    );
    assert!(!aead.name().is_empty(), "a provider has a name");
}

const NONCE: [u8; NONCE_LEN] = *b"twelve bytes";

fn fresh_key() -> KeyBytes {
    KeyBytes::generate().expect("the system gives random numbers")
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length)
        .map(|position| (position * 7 + position / 256).to_le_bytes()[0])
        .collect()
}

fn seal(
    key: &dyn AeadKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    buffer: &mut [u8],
) -> [u8; TAG_LEN] {
    key.seal_in_place(nonce, aad, buffer)
        .expect("a short input can be sealed")
}

fn assert_closed(
    key: &dyn AeadKey,
    nonce: &[u8; NONCE_LEN],
    aad: &[u8],
    sealed: &[u8],
    tag: &[u8; TAG_LEN],
    part: &str,
    number: usize,
) {
    let mut buffer = sealed.to_vec();
    assert!(
        key.open_in_place(nonce, aad, &mut buffer, tag).is_err(),
        "it opened with an altered {part} ({number})"
    );
}
