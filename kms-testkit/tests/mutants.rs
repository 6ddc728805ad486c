//! The suite finds wrappers out: each mutant fails the property that is about its defect, which the wrapper without it
//! passes.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use kms_core::{
    Blob, Claim, Error, ErrorKind, KeyBytes, LocalKey, Ownership, Result, SecretBytes, Wrapper,
};
use kms_testkit::wrapper::{self, Subject};
use kms_wrapper_aead::fastest;

/// What is wrong with a wrapper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    DropsAad,
    BindsTheFirst32Bytes,
    BindsTheEnds,
    IgnoresTheKeyId,
    TakesFormerKeysForCurrent,
    ClaimsWhatItHasSeen,
    ClaimsNothing,
    DecryptsWithAnyKey,
    Hangs,
    RetriesForEver,
    FailsAsIfForGood,
    PrintsItsKey,
    RepeatsWhatItWasGiven,
}

const OWN: &[&str] = &["former", "own"];
const STRANGER: &[&str] = &["strange"];

/// Keys that depend on their ids; the last one encrypts.
struct Mutant {
    ids: &'static [&'static str],
    defect: Defect,
    /// Whether its service is not there.
    is_cut_off: bool,
    has_encrypted: AtomicBool,
}

impl Mutant {
    fn new(ids: &'static [&'static str], defect: Defect) -> Self {
        Self {
            ids,
            defect,
            is_cut_off: false,
            has_encrypted: AtomicBool::new(false),
        }
    }

    fn bytes(id: &str) -> [u8; 32] {
        let mut bytes = [0x5a; 32];
        bytes[..id.len()].copy_from_slice(id.as_bytes());
        bytes
    }

    fn key(id: &str) -> LocalKey {
        let key = KeyBytes::from_slice(&Self::bytes(id)).unwrap();
        LocalKey::new(&*fastest(), &key, id)
    }

    fn newest(&self) -> &'static str {
        self.ids.last().unwrap()
    }

    fn bound(&self, aad: &[u8]) -> Vec<u8> {
        match self.defect {
            Defect::DropsAad => Vec::new(),
            Defect::BindsTheFirst32Bytes => aad[..aad.len().min(32)].to_vec(),
            Defect::BindsTheEnds if aad.len() > 20 => [&aad[..8], &aad[aad.len() - 8..]].concat(),
            _ => aad.to_vec(),
        }
    }

    async fn ask(&self) -> Result<()> {
        if !self.is_cut_off {
            return Ok(());
        }
        match self.defect {
            Defect::Hangs => pending().await,
            Defect::RetriesForEver => loop {
                tokio::time::sleep(Duration::from_millis(1)).await;
            },
            Defect::FailsAsIfForGood => Err(ErrorKind::AuthenticationFailed.into()),
            _ => Err(ErrorKind::Unreachable.into()),
        }
    }
}

#[async_trait]
impl Wrapper for Mutant {
    fn kind(&self) -> &'static str {
        "mutant"
    }

    fn key_id(&self) -> Option<String> {
        Some(self.newest().to_owned())
    }

    fn owns(&self, blob: &Blob) -> Ownership {
        if self.defect == Defect::IgnoresTheKeyId || self.ids.contains(&blob.key_id()) {
            Ownership::Yes
        } else {
            Ownership::No
        }
    }

    fn is_current(&self, blob: &Blob) -> Ownership {
        if self.defect == Defect::TakesFormerKeysForCurrent || blob.key_id() == self.newest() {
            self.owns(blob)
        } else {
            Ownership::No
        }
    }

    fn claims(&self) -> Vec<Claim> {
        match self.defect {
            Defect::ClaimsNothing => Vec::new(),
            Defect::ClaimsWhatItHasSeen if !self.has_encrypted.load(Ordering::Relaxed) => {
                vec![Claim::by_alias("not known yet")]
            }
            _ => self.ids.iter().map(|id| Claim::by_key(*id)).collect(),
        }
    }

    async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
        self.ask().await?;
        self.has_encrypted.store(true, Ordering::Relaxed);
        Self::key(self.newest()).encrypt(plaintext, &self.bound(aad))
    }

    async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
        self.ask().await?;
        let id = blob.key_id();
        if self.owns(blob) == Ownership::No && self.defect != Defect::DecryptsWithAnyKey {
            return Err(Error::new(ErrorKind::ForeignRootKey));
        }
        let opened = Self::key(id).decrypt(blob, &self.bound(aad));
        match self.defect {
            Defect::RepeatsWhatItWasGiven => opened
                .map_err(|error| error.with_detail(format!("with the key {:?}", Self::bytes(id)))),
            _ => opened,
        }
    }
}

impl fmt::Debug for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Mutant");
        if self.defect == Defect::PrintsItsKey {
            shown.field("key", &Self::bytes(self.newest()));
        }
        shown.finish_non_exhaustive()
    }
}

fn subject(defect: Defect) -> Subject {
    Subject::new(
        Arc::new(Mutant::new(OWN, defect)),
        Arc::new(Mutant::new(STRANGER, Defect::None)),
    )
    .with_former(Arc::new(Mutant::new(&OWN[..1], Defect::None)))
    .with_secret(Mutant::bytes("own"))
    .with_bound(Duration::from_millis(500))
    .with_dead_ends(move |_| {
        Arc::new(Mutant {
            is_cut_off: true,
            ..Mutant::new(OWN, defect)
        })
    })
}

/// The wrapper without a defect passes the whole suite.
mod sound {
    kms_testkit::wrapper_suite!(super::subject(super::Defect::None));
}

/// A test for each mutant: it fails the property.
macro_rules! each_fails {
    ($($test:ident: $defect:ident fails $property:ident;)*) => {$(
        #[tokio::test]
        async fn $test() {
            let property = tokio::spawn(async {
                wrapper::$property(&subject(Defect::$defect)).await;
            });
            assert!(property.await.is_err_and(|error| error.is_panic()), "it passes");
        }
    )*};
}

each_fails! {
    one_that_drops_the_aad: DropsAad fails aad_of_any_length_is_bound;
    one_that_drops_the_aad_opens_with_another: DropsAad fails a_wrong_aad_does_not_open;
    one_that_binds_the_beginning_of_the_aad: BindsTheFirst32Bytes fails aad_of_any_length_is_bound;
    one_that_binds_the_ends_of_the_aad: BindsTheEnds fails aad_of_any_length_is_bound;
    one_that_ignores_the_key_id: IgnoresTheKeyId fails a_blob_under_a_key_id_of_nobody_is_not_its_own;
    one_that_ignores_the_key_id_takes_foreign_blobs: IgnoresTheKeyId fails a_foreign_blob_does_not_open;
    one_that_takes_former_keys_for_current: TakesFormerKeysForCurrent fails what_a_former_key_made_opens_and_is_not_current;
    one_that_claims_what_it_has_seen: ClaimsWhatItHasSeen fails its_claims_are_those_of_its_configuration;
    one_that_claims_nothing: ClaimsNothing fails its_claims_are_those_of_its_configuration;
    one_that_decrypts_with_any_key: DecryptsWithAnyKey fails a_foreign_blob_does_not_open;
    one_that_hangs: Hangs fails a_service_that_fails_is_given_up_in_time;
    one_that_retries_for_ever: RetriesForEver fails a_service_that_fails_is_given_up_in_time;
    one_that_fails_as_if_for_good: FailsAsIfForGood fails a_service_that_fails_is_given_up_in_time;
    one_that_prints_its_key: PrintsItsKey fails debug_shows_no_secret;
    one_whose_errors_show_its_key: RepeatsWhatItWasGiven fails what_is_no_blob_of_its_own_is_refused_in_time;
}
