//! What `build` refuses, before anything is sent.

use std::time::Duration;

use kms_core::{CallLimits, ErrorKind};
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use rcgen::{CertificateParams, KeyPair};

fn complete() -> TransitWrapperBuilder {
    TransitWrapper::builder()
        .address("https://vault.example.com:8200")
        .key_name("app")
        .auth(Auth::token("hvs.token"))
}

fn assert_refused(what: &str, builder: TransitWrapperBuilder) {
    let error = builder.build().expect_err(what);
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{what}");
    assert_eq!(error.operation(), Some("build transit wrapper"));
    assert!(!format!("{error} {error:?}").contains("hvs."), "{what}");
}

#[test]
fn address_key_and_credentials_are_needed_and_no_more() {
    complete().build().unwrap();
    let builder = TransitWrapper::builder;
    let address = "https://vault.example.com";
    for (missing, builder) in [
        ("address", builder().key_name("app").auth(Auth::token("t"))),
        (
            "key_name",
            builder().address(address).auth(Auth::token("t")),
        ),
        ("auth", builder().address(address).key_name("app")),
    ] {
        let error = builder.build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
        assert_eq!(error.context("setting"), Some(missing));
    }
}

#[test]
fn names_that_could_mean_something_else_are_refused() {
    for name in ["", "a/b", "..", "a?b", "a b", "a%2fb", " app"] {
        assert_refused(name, complete().key_name(name));
    }
    for mount in ["/", "../sys", "a//b", "a b"] {
        assert_refused(mount, complete().mount_path(mount));
    }
    for text in [" a", "a ", "a\n", "a\u{7f}"] {
        assert_refused(text, complete().key_id_prefix(text));
        assert_refused(text, complete().namespace(text));
        assert_refused(text, complete().server_name(text));
        assert_refused(text, complete().address(text));
    }
    assert_refused("an IP address", complete().server_name("10.0.0.1"));
}

#[test]
fn empty_optional_settings_count_as_not_set() {
    let builder = complete().key_id_prefix("").namespace("").server_name("");
    builder.build().unwrap();
}

#[test]
fn credentials_that_can_not_work_are_refused() {
    for auth in [
        Auth::token(""),
        Auth::token("hvs.with space"),
        Auth::token("hvs.with\nnewline"),
        Auth::token("hvs.\u{fc}"),
        Auth::token("t").mount("token"),
        Auth::token_file(""),
        Auth::app_role("", "secret"),
        Auth::app_role("role", ""),
        Auth::app_role("role", "hvs.with space"),
        Auth::app_role_with_secret_file("role", ""),
        Auth::app_role("role", "secret").mount("a//b"),
        Auth::app_role("role", "secret").mount("../token"),
        Auth::kubernetes(" "),
        Auth::kubernetes("app").mount(""),
    ] {
        assert_refused(&format!("{auth:?}"), complete().auth(auth));
    }
    for auth in [
        Auth::token_file("/nowhere/yet"),
        Auth::app_role("role", "secret").mount("team/approle/"),
        Auth::app_role_with_secret_file("role", "/nowhere/yet"),
        Auth::kubernetes("app"),
    ] {
        complete().auth(auth).build().unwrap();
    }
}

#[test]
fn bounds_of_zero_are_refused() {
    for limits in [
        CallLimits::default().with_attempts(0),
        CallLimits::default().with_deadline(Duration::ZERO),
    ] {
        assert_refused("limits", complete().limits(limits));
    }
}

#[test]
fn certificates_are_read_and_checked() {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["app".to_owned()]).unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let key = key.serialize_pem();
    complete().ca_bundle(pem.as_str()).build().unwrap();
    complete()
        .client_certificate(pem.as_str(), key.as_str())
        .build()
        .unwrap();

    let broken = pem.replacen("MII", "AAA", 1);
    assert_refused("no PEM", complete().ca_bundle("nothing"));
    assert_refused("empty", complete().ca_bundle(""));
    assert_refused("a key", complete().ca_bundle(key.as_str()));
    assert_refused("broken", complete().ca_bundle(broken));
    assert_refused("no file", complete().ca_bundle_file("/nowhere"));
    assert_refused("no key", complete().client_certificate(pem.as_str(), ""));
    assert_refused(
        "no certificate",
        complete().client_certificate("", key.as_str()),
    );
    let other = KeyPair::generate().unwrap().serialize_pem();
    assert_refused(
        "another's key",
        complete().client_certificate(pem.as_str(), other),
    );
    assert_refused(
        "no files",
        complete().client_certificate_files("/nowhere", "/nowhere"),
    );
}

#[test]
fn plain_http_leaves_the_machine_only_if_the_code_says_so() {
    let address = "http://vault.example.com:8200";
    assert_refused("http", complete().address(address));
    let builder = complete().address(address).dangerous().allow_plain_http();
    builder.build().unwrap();
    complete().address("http://127.0.0.1:8200").build().unwrap();
    complete().address("http://[::1]:8200").build().unwrap();
}

#[test]
fn settings_of_tls_are_not_dropped_silently_for_http() {
    let http = || complete().address("http://127.0.0.1:8200");
    assert_refused("server name", http().server_name("vault"));
    assert_refused("CA", http().ca_bundle("any"));
    let careless = http().dangerous().accept_invalid_certificates();
    assert_refused("certificates", careless);
}

#[test]
fn debug_shows_the_settings_and_no_secret() {
    let wrapper = complete().key_id_prefix("root-").build().unwrap();
    let shown = format!("{wrapper:?} {:?}", complete());
    assert!(shown.contains("https://vault.example.com:8200"));
    assert!(shown.contains("transit/keys/app"));
    assert!(!shown.contains("hvs."), "{shown}");
}
