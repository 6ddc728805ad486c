//! Root wrappers chosen by URL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;

use kms_kit::prelude::*;
use kms_kit::{Error, ErrorKind, RootWrapper};

fn refused(url: &str) -> Error {
    let error = RootWrapper::from_url(url).unwrap_err();
    assert_eq!(
        error.kind(),
        ErrorKind::InvalidConfiguration,
        "{url}: {error}"
    );
    error
}

fn key_file() -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all("5a".repeat(32).as_bytes()).unwrap();
    file
}

#[tokio::test]
async fn a_local_key_is_found_by_its_file_and_carries_the_id_that_the_url_gives() {
    let file = key_file();
    let url = format!("aead:file:{}", file.path().display());
    let named = RootWrapper::from_url(&format!("{url}?key_id=root-2026")).unwrap();
    assert_eq!(named.kind(), "aead");
    assert_eq!(named.key_id().as_deref(), Some("root-2026"));
    let blob = named.encrypt(b"key", b"aad").await.unwrap();
    assert_eq!(named.decrypt(&blob, b"aad").await.unwrap().expose(), b"key");

    let unnamed = RootWrapper::from_url(&url).unwrap();
    assert_eq!(
        unnamed.key_id().as_deref(),
        Some(file.path().to_str().unwrap())
    );
    named.preflight().await.unwrap();
}

#[test]
fn what_is_no_url_of_a_root_wrapper_is_refused() {
    for (url, about) in [
        ("", "can't be read"),
        ("/just/a/path", "can't be read"),
        ("https://vault.example/transit/keys/app", "scheme"),
        ("aead:", "aead:env:VARIABLE"),
        ("aead:env:", "aead:env:VARIABLE"),
        ("aead:keyring:name", "variable or a file"),
        ("aead:env:NOT_SET_ANYWHERE", "not set"),
        ("aead:env:X?key=1", "parameter"),
        ("aead:env:X?key_id=a&key_id=b", "twice"),
        ("aead:env:X#part", "plain form"),
        ("gcpkms://projects/p/../q", "plain form"),
        ("awskms:///a b", "plain form"),
    ] {
        let error = refused(url);
        assert!(error.to_string().contains(about), "{url:?}: {error}");
    }
}

#[test]
fn credentials_in_a_url_are_refused_and_not_shown() {
    for url in [
        "vault+https://root:hunter2@127.0.0.1:8200/transit/keys/app",
        "awskms://hunter2@host/alias/app",
        "aead:env:X?secret=hunter2",
    ] {
        let error = refused(url);
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}
