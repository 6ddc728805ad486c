//! What `build` refuses, and what it takes, without asking anybody.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use kms_core::{Blob, CallLimits, ErrorKind, Ownership, Wrapper as _};
use kms_testkit::wrapper::assert_hidden;
use kms_wrapper_aead::AesGcm;
use kms_wrapper_aws::{AwsKmsMode, AwsKmsWrapper, AwsKmsWrapperBuilder};

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const SECRET: &str = "a secret access key of this test";
const TOKEN: &str = "a session token of this test";

/// Complete, for the key of this name.
fn builder(key: &str) -> AwsKmsWrapperBuilder {
    AwsKmsWrapper::builder(key)
        .credentials("AKIDEXAMPLE", SECRET)
        .aead(Arc::new(AesGcm))
}

fn client() -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder();
    aws_sdk_kms::Client::from_conf(config.build())
}

#[track_caller]
fn assert_refused(builder: AwsKmsWrapperBuilder, why: &str) {
    let shown = format!("{builder:?}");
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
    assert_eq!(error.operation(), Some("build aws wrapper"));
    assert!(error.to_string().contains(why), "{error}");
    for secret in [SECRET, TOKEN, "hunter22"] {
        assert_hidden(secret.as_bytes(), &format!("{shown} {error} {error:?}"));
    }
}

#[test]
fn a_name_that_no_key_can_have_is_refused() {
    for name in [
        "",
        " ",
        "app",
        "alias/",
        &ARN.replace("kms", "s3"),
        &ARN[1..],
    ] {
        assert_refused(builder(name).region("us-east-1"), "not the name of a key");
    }
}

#[test]
fn an_endpoint_that_is_not_the_url_of_a_host_is_refused_and_not_repeated() {
    for url in [
        "",
        "localhost:4566",
        "/kms",
        "ftp://localhost",
        "http://",
        "http:// localhost",
        "http://user:hunter22@localhost",
        "https://localhost/?x=hunter22",
        "https://local\nhost",
    ] {
        assert_refused(builder(ARN).endpoint(url), "the endpoint");
    }
    for url in [
        "http://localhost:4566",
        "http://[::1]:4566/",
        "https://kms.example.com",
    ] {
        builder(ARN).endpoint(url).build().unwrap();
    }
}

#[test]
fn plain_http_to_another_machine_is_for_who_asks_for_it() {
    for url in ["http://kms.example.com", "http://10.0.0.1:4566"] {
        assert_refused(builder(ARN).endpoint(url), "plain http");
        let dangerous = builder(ARN).endpoint(url).dangerous();
        dangerous.allow_plain_http().build().unwrap();
    }
}

#[test]
fn the_region_is_that_of_the_keys_arn_or_has_to_be_given() {
    builder(ARN).build().unwrap();
    builder(ARN).region("us-east-1").build().unwrap();
    builder("alias/app").region("us-east-1").build().unwrap();
    assert_refused(
        builder(ARN).region("eu-west-1"),
        "not that of the key's ARN",
    );
    // The chain may find one.
    #[cfg(feature = "default-chain")]
    builder("alias/app").build().unwrap();
    #[cfg(not(feature = "default-chain"))]
    assert_refused(builder("alias/app"), "no Region");
    for region in ["", "us east 1", "US-EAST-1", "us-east-1\n"] {
        let builder = builder("alias/app").region(region);
        assert_refused(builder, "not the name of a Region");
    }
}

#[test]
fn credentials_that_are_incomplete_or_contradict_each_other_are_refused() {
    let bare = || AwsKmsWrapper::builder(ARN).aead(Arc::new(AesGcm));
    assert_refused(bare().credentials("", SECRET), "empty");
    assert_refused(bare().credentials("AKIDEXAMPLE", " "), "empty");
    assert_refused(builder(ARN).session_token(""), "empty");
    assert_refused(bare().session_token(TOKEN), "without credentials");
    builder(ARN).session_token(TOKEN).build().unwrap();
    #[cfg(feature = "default-chain")]
    {
        assert_refused(builder(ARN).profile("app"), "credentials and a profile");
        bare().build().unwrap();
        bare().profile("app").build().unwrap();
        // The chain may find a Region.
        let alias = AwsKmsWrapper::builder("alias/app").aead(Arc::new(AesGcm));
        alias.build().unwrap();
    }
    #[cfg(not(feature = "default-chain"))]
    assert_refused(bare(), "no credentials");
}

#[test]
fn a_client_says_alone_how_the_service_is_reached() {
    let with_client = || {
        AwsKmsWrapper::builder("alias/app")
            .client(client())
            .aead(Arc::new(AesGcm))
    };
    with_client().build().unwrap();
    assert_refused(with_client().region("us-east-1"), "a client beside");
    assert_refused(
        with_client().endpoint("http://localhost"),
        "a client beside",
    );
    assert_refused(
        with_client().credentials("AKIDEXAMPLE", SECRET),
        "a client beside",
    );
    assert_refused(with_client().session_token(TOKEN), "a client beside");
    assert_refused(with_client().proxy("http://proxy"), "a client beside");
    assert_refused(with_client().ca_bundle_file("/ca.pem"), "a client beside");
}

#[test]
fn envelope_mode_needs_an_aead_and_direct_mode_does_not() {
    let bare = || AwsKmsWrapper::builder(ARN).credentials("AKIDEXAMPLE", SECRET);
    assert_refused(bare(), "no aead");
    bare().mode(AwsKmsMode::Direct).build().unwrap();
}

#[test]
fn a_proxy_that_is_no_url_and_a_bundle_without_certificates_are_refused_and_not_repeated() {
    for url in [
        "",
        "ftp://user:hunter22@proxy",
        "http://user:hunter22@",
        "a b",
    ] {
        assert_refused(builder(ARN).proxy(url), "the proxy is not");
    }
    for url in [
        "http://user:hunter22@proxy:3128",
        "https://proxy",
        "proxy:3128",
    ] {
        let builder = builder(ARN).proxy(url);
        let shown = format!("{builder:?}");
        let shown = format!("{shown} {:?}", builder.build().unwrap());
        assert_hidden(b"hunter22", &shown);
    }
    let broken = "-----BEGIN CERTIFICATE-----\naHVudGVyMjI=\n-----END CERTIFICATE-----\n";
    for pem in ["", "hunter22", broken] {
        assert_refused(builder(ARN).ca_bundle(pem), "certificate");
    }
}

#[test]
fn limits_that_can_not_be_kept_are_refused() {
    let limits = CallLimits::default();
    assert_refused(builder(ARN).limits(limits.with_attempts(0)), "no attempts");
    let limits = limits.with_deadline(Duration::ZERO);
    assert_refused(builder(ARN).limits(limits), "a timeout of zero");
}

#[test]
fn debug_shows_the_settings_and_no_credentials() {
    let builder = builder(ARN)
        .session_token(TOKEN)
        .endpoint("http://localhost:4566");
    let shown = format!("{builder:?}");
    let shown = format!("{shown} {:?}", builder.build().unwrap());
    for secret in [SECRET, TOKEN, "AKIDEXAMPLE"] {
        assert_hidden(secret.as_bytes(), &shown);
    }
    assert!(
        shown.contains(ARN) && shown.contains("us-east-1"),
        "{shown}"
    );
}

#[test]
fn it_owns_the_blobs_of_its_arn_and_of_nobody_else() {
    let mrk = "arn:aws:kms:us-east-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab";
    let owns = |configured: &str, id: &str| {
        let wrapper = builder(configured).region("us-east-1").build().unwrap();
        let blob = Blob::new(vec![1; 40], id);
        assert_eq!(wrapper.owns(&blob), wrapper.is_current(&blob));
        wrapper.owns(&blob)
    };
    assert_eq!(owns(ARN, ARN), Ownership::Yes);
    assert_eq!(owns(&ARN[ARN.len() - 36..], ARN), Ownership::Yes);
    assert_eq!(owns(mrk, mrk), Ownership::Yes);
    assert_eq!(
        owns(mrk, &mrk.replace("us-east-1", "eu-west-1")),
        Ownership::Yes
    );
    for other in [
        "",
        "root-2026",
        "v1",
        "projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1",
        mrk,
        &ARN.replace("1234abcd", "1234abce"),
        &ARN.replace("111122223333", "111122223334"),
        &ARN.replace("us-east-1", "eu-west-1"),
        &ARN.replace("arn:aws:", "arn:aws-cn:"),
        &format!("{ARN} "),
    ] {
        assert_eq!(owns(ARN, other), Ownership::No, "{other}");
    }
    let wrapper = builder(ARN).build().unwrap();
    let of_another_mechanism = Blob::new(vec![1], ARN).with_wrapped_key(2, Vec::new());
    assert_eq!(wrapper.owns(&of_another_mechanism), Ownership::No);
}

#[test]
fn its_kind_is_awskms_and_it_is_built_outside_of_any_runtime() {
    let wrapper = builder(ARN).build().unwrap();
    assert_eq!(wrapper.kind(), "awskms");
    assert_eq!(wrapper.key_id().as_deref(), Some(ARN));
}
