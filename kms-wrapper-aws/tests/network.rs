//! Whom the wrapper trusts, and which proxy it takes.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use kms_core::{CallLimits, Error, ErrorKind, Wrapper as _};
use kms_wrapper_aead::AesGcm;
use kms_wrapper_aws::{AwsKmsWrapper, AwsKmsWrapperBuilder};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const ARN: &str = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab";
const CHILD: &str = "KMS_TEST_AWS_TLS_ENDPOINT";

fn builder(endpoint: &str) -> AwsKmsWrapperBuilder {
    AwsKmsWrapper::builder(ARN)
        .endpoint(endpoint)
        .credentials("AKIDEXAMPLE", "secret")
        .limits(CallLimits::default().with_attempts(1))
        .aead(Arc::new(AesGcm))
}

fn failure(builder: AwsKmsWrapperBuilder) -> Error {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let wrapper = builder.build().unwrap();
    let outcome = runtime.unwrap().block_on(wrapper.encrypt(b"key", b"aad"));
    outcome.unwrap_err()
}

/// A service with a certificate of its own, which denies all that it is asked; and that certificate.
fn service() -> (String, String) {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::Pkcs8(signing_key.serialize_der().into());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut stream = StreamOwned::new(connection, stream);
            let mut request = [0; 4096];
            if stream.read(&mut request).is_ok() {
                let body = r#"{"__type":"AccessDeniedException","message":"no"}"#;
                let length = body.len();
                let _ = write!(
                    stream,
                    "HTTP/1.1 400 Bad Request\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
                let _ = stream.flush();
            }
        }
    });
    (format!("https://localhost:{}", address.port()), cert.pem())
}

#[test]
fn a_service_whose_certificate_the_system_does_not_know_is_trusted_by_a_setting_alone() {
    let (endpoint, pem) = service();
    let error = failure(builder(&endpoint));
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    let error = failure(builder(&endpoint).ca_bundle(pem.clone()));
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");

    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &pem).unwrap();
    let error = failure(builder(&endpoint).ca_bundle_file(file.path()));
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");

    let (_, other) = service();
    let error = failure(builder(&endpoint).ca_bundle(other));
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
}

#[test]
fn the_variables_of_the_aws_tools_and_of_openssl_name_whom_to_trust() {
    if let Ok(endpoint) = env::var(CHILD) {
        let error = failure(builder(&endpoint));
        assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
        return;
    }
    let (endpoint, pem) = service();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), &pem).unwrap();
    for variable in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        let output = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "the_variables_of_the_aws_tools_and_of_openssl_name_whom_to_trust",
            ])
            .env_remove("AWS_CA_BUNDLE")
            .env_remove("SSL_CERT_FILE")
            .env(variable, file.path())
            .env(CHILD, &endpoint)
            .output()
            .unwrap();
        assert!(output.status.success(), "{variable}: {output:?}");
    }
}

#[test]
fn a_proxy_by_setting_carries_requests_over_https_and_is_told_its_password() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let (sender, heads) = mpsc::channel();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 4096];
            let length = stream.read(&mut head).unwrap_or_default();
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let _ = write!(
                stream,
                "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n"
            );
            if sender.send(head).is_err() {
                return;
            }
        }
    });
    let proxied =
        builder("https://kms.example.com").proxy(format!("http://user:hunter22@{address}"));
    let error = failure(proxied);
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(!format!("{error:?}").contains("hunter22"), "{error:?}");
    let head = heads.recv_timeout(Duration::from_secs(10)).unwrap();
    assert!(head.starts_with("CONNECT kms.example.com:443 "), "{head}");
    // Base64 of `user:hunter22`.
    let told = head.to_ascii_lowercase();
    assert!(
        told.contains("proxy-authorization: basic dxnlcjpodw50zxiymg=="),
        "{head}"
    );
}

#[tokio::test]
async fn a_client_of_the_callers_own_is_held_to_the_policy_too() {
    let credentials = aws_sdk_kms::config::Credentials::builder()
        .provider_name("test")
        .access_key_id("AKIDEXAMPLE")
        .secret_access_key("secret")
        .build();
    let config = aws_sdk_kms::Config::builder()
        .credentials_provider(credentials)
        .behavior_version(aws_sdk_kms::config::BehaviorVersion::latest())
        .region(aws_sdk_kms::config::Region::new("us-east-1"))
        .endpoint_url("http://kms.example.com");
    let client = aws_sdk_kms::Client::from_conf(config.build());
    let wrapper = AwsKmsWrapper::builder(ARN).client(client);
    let wrapper = wrapper.aead(Arc::new(AesGcm)).build().unwrap();
    let error = wrapper.encrypt(b"key", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error:?}");
    assert!(error.to_string().contains("plain http"), "{error}");
}
