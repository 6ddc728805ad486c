//! Root wrappers chosen by URL.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write as _;
use std::sync::Arc;

use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, Error, ErrorKind, RootWrapper, Scheme};

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
        #[cfg(feature = "vault")]
        "vault+https://host/t/keys/a?agent=true&proxy=http://root:hunter2@proxy",
    ] {
        let error = refused(url);
        assert!(
            !format!("{error} {error:?}").contains("hunter2"),
            "{error:?}"
        );
    }
}

const AWS: &str = "awskms:///alias/app?region=eu-west-1";
const GCP: &str = "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k?endpoint=http://127.0.0.1:1&credentials=anonymous";
const VAULT: &str =
    "vault+https://vault.example.com:8200/transit/keys/app?key_id_prefix=main-&kubernetes_role=app";

#[cfg(feature = "aws")]
#[test]
fn a_key_in_aws_kms_is_named_by_id_alias_or_arn() {
    let arn = "arn:aws:kms:eu-west-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
    for (url, key_id) in [
        (AWS.to_owned(), None),
        (format!("awskms:///{arn}"), Some(arn)),
        (
            format!("awskms:///{arn}?mode=direct&attempts=2&deadline_ms=500"),
            Some(arn),
        ),
    ] {
        let root = RootWrapper::from_url(&url).unwrap();
        assert_eq!((root.kind(), root.key_id().as_deref()), ("awskms", key_id));
    }
    for (url, about) in [
        ("awskms://alias/app", "three slashes"),
        (
            "awskms:///alias/app?region=eu-west-1&mode=both",
            "one of envelope, direct",
        ),
        (
            "awskms:///alias/app?region=eu-west-1&attempts=many",
            "whole number",
        ),
        (
            "awskms:///alias/app?region=eu-west-1&key=x",
            "no such parameter",
        ),
        ("awskms:///?region=eu-west-1", ""),
    ] {
        let error = refused(url);
        assert!(error.to_string().contains(about), "{url}: {error}");
    }
}

#[cfg(feature = "gcp")]
#[test]
fn a_key_in_cloud_kms_is_named_by_its_whole_name() {
    assert_eq!(RootWrapper::from_url(GCP).unwrap().kind(), "gcpckms");
    let key = "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k";
    let all = "quota_project=q&proxy=http://proxy.example.com:3128&ca=/etc/ca.pem";
    let root = RootWrapper::from_url(&format!("{key}?{all}")).unwrap();
    let shown = format!("{root:?}");
    for set in [
        "quota_project: Some(\"q\")",
        "proxy: true",
        "own_trust: true",
    ] {
        assert!(shown.contains(set), "{set}: {shown}");
    }
    refused(&format!("{key}?proxy=socks5://proxy.example.com"));
    for url in [
        "gcpkms://projects/p/locations/l/keyRings/r",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        "gcpkms://projects/p/locations/l/keyRings/r/cryptoKeys/k?endpoint=http://kms.example.com",
    ] {
        refused(url);
    }
}

#[cfg(feature = "vault")]
#[test]
fn a_key_in_vault_is_named_by_server_mount_and_name() {
    assert_eq!(RootWrapper::from_url(VAULT).unwrap().kind(), "transit");
    for login in [
        "token_file=/run/token",
        "agent=true",
        "kubernetes_role=a&namespace=team/a&login_namespace=team",
        "jwt_role=a&jwt_file=/run/jwt&auth_mount=ci",
        "gcp_role=a&proxy=http://proxy.example.com:3128",
        "role_id=a&secret_id_file=/run/secret",
        "role_id_alone=a",
        #[cfg(feature = "aws")]
        "aws_role=a&aws_region=eu-west-1&aws_server_id=vault.example.com",
    ] {
        let url = format!("vault+https://vault.example.com/t/keys/a?{login}");
        RootWrapper::from_url(&url).unwrap_or_else(|error| panic!("{url}: {error}"));
    }
    let socket = "vault+unix:///transit/keys/app?socket=/run/vault.sock&agent=true";
    let root = RootWrapper::from_url(socket).unwrap();
    assert!(format!("{root:?}").contains("unix:///run/vault.sock"));
    for (url, about) in [
        (
            "vault+https://vault.example.com/transit/app?kubernetes_role=a",
            "MOUNT/keys/NAME",
        ),
        (
            "vault+http://vault.example.com/transit/keys/app?kubernetes_role=a",
            "",
        ),
        (
            "vault+https://vault.example.com/t/keys/a?role_id=x",
            "go together",
        ),
        ("vault+unix:///t/keys/a?agent=true", "names its socket"),
        ("vault+https://h/t/keys/a?cert_role=a", "needs one"),
        (
            "vault+https://h/t/keys/a?agent=true&ca=/nowhere",
            "can't read the file",
        ),
        (
            "vault+https://h/t/keys/a?agent=true&client_cert=/x",
            "go together",
        ),
        (
            "vault+https://h/t/keys/a?agent=true&proxy=socks5://h",
            "proxy",
        ),
        ("vault+https://h/t/keys/a?agent=yes", "`true`"),
        ("vault+https://h/t/keys/a?jwt_role=a", "go together"),
        (
            "vault+https://vault.example.com/t/keys/a?auth_mount=x",
            "without a way",
        ),
        (
            "vault+https://vault.example.com/t/keys/a?token_file=/x&kubernetes_role=a",
            "more than one way",
        ),
    ] {
        let error = refused(url);
        assert!(error.to_string().contains(about), "{url}: {error}");
    }
}

const PKCS11: &str = "pkcs11:token=main;object=root;type=secret-key?module-path=/nowhere/hsm.so&pin-source=file:/run/pin";

#[cfg(feature = "pkcs11")]
#[test]
fn a_key_on_a_token_is_named_by_its_uri_of_rfc_7512() {
    for (url, expected) in [
        (PKCS11, "/nowhere/hsm.so"),
        (PKCS11, "File(\"/run/pin\")"),
        (
            "pkcs11:id=%01%ff;slot-id=7?module-name=hsm&sessions=2",
            "[1, 255]",
        ),
        ("pkcs11:object=a%3Bb%20c?module-name=hsm", "a;b c"),
        (
            "pkcs11:serial=12;model=m;manufacturer=n;object=r?module-name=hsm",
            "\"libhsm.",
        ),
        ("pkcs11:object=r?module-name=hsm&mode=envelope", "Envelope"),
        (
            "pkcs11:object=r?module-path=/usr/lib/c++/hsm.so",
            "c++/hsm.so",
        ),
        (
            "pkcs11:object=r?module-name=hsm&pin-source=/run/pin",
            "File(\"/run/pin\")",
        ),
        (
            "pkcs11:object=r?module-name=hsm&pin-source=file:///run/pin",
            "File(\"/run/pin\")",
        ),
    ] {
        let root = RootWrapper::from_url(url).unwrap();
        assert_eq!((root.kind(), root.key_id()), ("pkcs11", None));
        let shown = format!("{root:?}");
        assert!(shown.contains(expected), "{url}: {shown}");
    }
    for (url, about) in [
        ("pkcs11:?module-name=hsm", "no key"),
        ("pkcs11:object=r", "no module"),
        ("pkcs11:object=?module-name=hsm", "empty"),
        ("pkcs11:object=%ff?module-name=hsm", "not UTF-8"),
        ("pkcs11:object=a;object=b?module-name=hsm", "twice"),
        (
            "pkcs11:object=r;colour=red?module-name=hsm",
            "no such attribute",
        ),
        ("pkcs11:object=r;type=private?module-name=hsm", "secret-key"),
        (
            "pkcs11:object=r;slot-id=first?module-name=hsm",
            "not a number",
        ),
        (
            "pkcs11:object=r?module-name=hsm&module-path=/m",
            "no such parameter",
        ),
        (
            "pkcs11:object=r?module-name=hsm&pin-source=|/bin/pin",
            "absolute path",
        ),
        (
            "pkcs11:object=r?module-name=hsm&pin-value=1&pin-source=/run/pin",
            "give one",
        ),
        ("pkcs11:object=r?module-name=hsm&sessions=0", "no sessions"),
        (
            "pkcs11:object=r?module-name=hsm&mode=both",
            "one of direct, envelope",
        ),
    ] {
        let error = refused(url);
        assert!(error.to_string().contains(about), "{url}: {error}");
    }
}

#[cfg(feature = "pkcs11")]
#[test]
fn a_pin_in_a_url_is_not_shown() {
    let url = "pkcs11:object=r?module-name=hsm&pin-value=hunter2";
    let root = RootWrapper::from_url(url).unwrap();
    let more = refused(&format!("{url}&colour=red"));
    let shown = format!("{root:?} {more} {more:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn an_application_has_schemes_of_its_own() {
    let file = key_file();
    let made = |url: &str| -> Result<Arc<dyn Wrapper>, Error> {
        let builder = AeadWrapper::builder(url).key_from_file(file.path());
        Ok(Arc::new(builder.build()?))
    };
    let own: &[Scheme] = &[("mine", &made), ("mine+old", &made)];
    // Handed over as it is: not even a URL.
    let root = RootWrapper::from_url_with("mine:[key #7]", own).unwrap();
    assert_eq!(root.key_id().as_deref(), Some("mine:[key #7]"));
    root.preflight().await.unwrap();
    RootWrapper::from_url_with("mine+old:7", own).unwrap();
    let url = format!("aead:file:{}", file.path().display());
    RootWrapper::from_url_with(&url, own).unwrap();

    let error = RootWrapper::from_url_with("other:7", own).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert!(
        error.to_string().contains("vault+unix, mine, mine+old"),
        "{error}"
    );
    let error = RootWrapper::from_url_with(&url, &[("aead", &made)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let fails = |_: &str| Err(Error::new(ErrorKind::Denied));
    let error = RootWrapper::from_url_with("mine:7", &[("mine", &fails)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}

#[test]
fn a_url_of_a_service_that_is_not_compiled_in_names_the_feature() {
    for (url, feature, compiled_in) in [
        (AWS, "`aws`", cfg!(feature = "aws")),
        (GCP, "`gcp`", cfg!(feature = "gcp")),
        (PKCS11, "`pkcs11`", cfg!(feature = "pkcs11")),
        (VAULT, "`vault`", cfg!(feature = "vault")),
    ] {
        match RootWrapper::from_url(url) {
            Ok(_) => assert!(compiled_in, "{url}"),
            Err(error) => {
                assert!(!compiled_in, "{error}");
                assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
                assert!(error.to_string().contains(feature), "{error}");
            }
        }
    }
}
