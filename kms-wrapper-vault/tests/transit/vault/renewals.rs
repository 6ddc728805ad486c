//! Certificates and keys that somebody renews on disk, and such as nobody renewed.

use std::fs;
use std::path::PathBuf;

use kms_core::{Error, ErrorKind, Wrapper as _};
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use tempfile::TempDir;

use super::environment::{CHILD, in_child};
use super::fixture::{NAME, short, whole};
use super::tls::{Authority, Issued, builder, vault};

/// The files of a client's certificate.
struct Files {
    folder: TempDir,
}

impl Files {
    fn of(issued: &Issued) -> Self {
        let files = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        files.write(issued);
        files
    }

    fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }

    fn write(&self, issued: &Issued) {
        fs::write(self.certificate(), &issued.certificate).unwrap();
        fs::write(self.key(), &issued.key).unwrap();
    }

    fn named_by(&self, builder: TransitWrapperBuilder) -> TransitWrapper {
        let named = builder.client_certificate_files(self.certificate(), self.key());
        named.build().unwrap()
    }
}

async fn failure(wrapper: &TransitWrapper) -> Error {
    wrapper.encrypt(b"plaintext", b"").await.unwrap_err()
}

#[tokio::test]
async fn a_client_certificate_renewed_on_disk_is_used_and_an_expired_one_is_named() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, Some(&clients.pem)).await else {
        return;
    };
    let files = Files::of(&clients.client());
    let builder = builder(&process, &key).ca_bundle(authority.pem.as_str());
    let wrapper = files.named_by(builder);
    wrapper.preflight().await.unwrap();

    files.write(&clients.expired_client());
    let error = failure(&wrapper).await;
    assert_eq!(error.kind(), ErrorKind::CertificateExpired, "{error:?}");
    assert_eq!(error.context("certificate"), Some("client"));
    assert_eq!(error.context("file"), files.certificate().to_str());
    assert!(!whole(&error).contains("PRIVATE"));

    files.write(&clients.client());
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn a_certificate_whose_key_is_not_written_yet_changes_nothing_until_it_is() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, Some(&clients.pem)).await else {
        return;
    };
    let (old, new) = (clients.client(), clients.client());
    let files = Files::of(&old);
    let builder = builder(&process, &key).ca_bundle(authority.pem.as_str());
    let wrapper = files.named_by(builder);
    fs::write(files.certificate(), &new.certificate).unwrap();
    wrapper.preflight().await.unwrap();
    fs::remove_file(files.key()).unwrap();
    wrapper.preflight().await.unwrap();
    fs::write(files.key(), &clients.expired_client().key).unwrap();
    wrapper.preflight().await.unwrap();
    // That the pair is read once it is whole shows by one that the server refuses.
    files.write(&clients.expired_client());
    let error = failure(&wrapper).await;
    assert_eq!(error.kind(), ErrorKind::CertificateExpired, "{error:?}");
}

#[tokio::test]
async fn a_ca_renewed_on_disk_is_trusted() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    fs::write(&file, &other.pem).unwrap();
    let wrapper = builder(&process, &key).ca_bundle_file(&file);
    let wrapper = wrapper.build().unwrap();
    let error = failure(&wrapper).await;
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(whole(&error).contains("certificate"), "{error:?}");
    fs::write(&file, &authority.pem).unwrap();
    wrapper.preflight().await.unwrap();
}

/// Nobody looks at the system's certificates before a handshake fails.
#[tokio::test]
async fn the_system_s_certificates_are_read_again_when_a_handshake_fails() {
    let system = |name: &str| PathBuf::from(std::env::var(name).unwrap());
    if std::env::var_os(CHILD).is_some() {
        let variable = |name: &str| std::env::var(name).unwrap();
        let wrapper = TransitWrapper::builder()
            .address(variable("VAULT_ADDR"))
            .mount_path(variable("TRANSIT_WRAPPER_MOUNT_PATH"))
            .key_name(NAME)
            .auth(Auth::token(variable("VAULT_TOKEN")))
            .limits(short())
            .build()
            .unwrap();
        let error = failure(&wrapper).await;
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        fs::copy(system("RENEWED"), system("SSL_CERT_FILE")).unwrap();
        wrapper.preflight().await.unwrap();
        return;
    }
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.pem");
    let renewed = folder.path().join("renewed.pem");
    fs::write(&file, &other.pem).unwrap();
    fs::write(&renewed, &authority.pem).unwrap();
    in_child(
        "vault::renewals::the_system_s_certificates_are_read_again_when_a_handshake_fails",
        &[
            ("SSL_CERT_FILE", file.to_str().unwrap()),
            ("RENEWED", renewed.to_str().unwrap()),
            ("VAULT_ADDR", &process.tls_url()),
            ("VAULT_TOKEN", key.vault.token()),
            ("TRANSIT_WRAPPER_MOUNT_PATH", &key.mount),
        ],
    );
}

#[tokio::test]
async fn an_expired_certificate_of_the_server_is_named() {
    let authority = Authority::new();
    let server = authority.expired_server("127.0.0.1");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let wrapper = builder(&process, &key).ca_bundle(authority.pem.as_str());
    let error = failure(&wrapper.build().unwrap()).await;
    assert_eq!(error.kind(), ErrorKind::CertificateExpired, "{error:?}");
    assert_eq!(error.context("certificate"), Some("server"));
    assert!(error.is_retryable(), "once it is renewed");
}
