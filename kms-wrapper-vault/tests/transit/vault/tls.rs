//! TLS with certificates of the test's own CA.

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::{VaultListener, VaultProcess};
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};

use super::environment::{CHILD, in_child};
use super::fixture::{Key, NAME, short, whole};

pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(super) pem: String,
}

/// A certificate and its key, PEM.
pub(super) struct Issued {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate that ends with that year.
    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose, year: i32) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        params.not_before = date_time_ymd(2000, 1, 1);
        params.not_after = date_time_ymd(year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued {
            certificate,
            key: key.serialize_pem(),
        }
    }

    pub(super) fn server(&self, name: &str) -> Issued {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, NEVER)
    }

    pub(super) fn client(&self) -> Issued {
        self.issue("app", ExtendedKeyUsagePurpose::ClientAuth, NEVER)
    }

    pub(super) fn expired_server(&self, name: &str) -> Issued {
        self.issue(name, ExtendedKeyUsagePurpose::ServerAuth, PAST)
    }

    pub(super) fn expired_client(&self) -> Issued {
        self.issue("app", ExtendedKeyUsagePurpose::ClientAuth, PAST)
    }
}

const PAST: i32 = 2001;
const NEVER: i32 = 2999;

pub(super) async fn vault(server: &Issued, client_ca: Option<&str>) -> Option<(VaultProcess, Key)> {
    let process = VaultProcess::start_with_tls(VaultListener {
        certificate: &server.certificate,
        key: &server.key,
        client_ca,
    })
    .await?;
    let key = Key::on(process.vault()).await;
    Some((process, key))
}

pub(super) fn builder(process: &VaultProcess, key: &Key) -> TransitWrapperBuilder {
    TransitWrapper::builder()
        .address(process.tls_url())
        .mount_path(&key.mount)
        .key_name(NAME)
        .auth(Auth::token(key.vault.token()))
        .limits(short())
}

pub(super) async fn assert_refused(builder: TransitWrapperBuilder, why: &str) {
    let error = builder.build().unwrap().preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{why}: {error:?}");
    assert!(whole(&error).contains("certificate"), "{why}: {error:?}");
}

#[tokio::test]
async fn a_server_is_trusted_by_the_ca_that_was_given_and_by_no_other() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let builder = || builder(&process, &key);
    let trusting = builder().ca_bundle(authority.pem.as_str()).build().unwrap();
    trusting.preflight().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, format!("{}{}", other.pem, authority.pem)).unwrap();
    let trusting = builder().ca_bundle_file(file).build().unwrap();
    trusting.preflight().await.unwrap();

    assert_refused(builder().ca_bundle(other.pem.as_str()), "another CA").await;
    assert_refused(builder(), "the system's CAs").await;
    let careless = builder().dangerous().accept_invalid_certificates();
    careless.build().unwrap().preflight().await.unwrap();
}

/// The system's certificates are those of `SSL_CERT_FILE`, in a process of their own.
#[tokio::test]
async fn the_system_s_certificates_count_only_where_no_others_are_given() {
    if std::env::var_os(CHILD).is_some() {
        let variable = |name: &str| std::env::var(name).unwrap();
        let builder = || {
            TransitWrapper::builder()
                .address(variable("VAULT_ADDR"))
                .mount_path(variable("TRANSIT_WRAPPER_MOUNT_PATH"))
                .key_name(NAME)
                .auth(Auth::token(variable("VAULT_TOKEN")))
                .limits(short())
        };
        builder().build().unwrap().preflight().await.unwrap();
        let other = Authority::new();
        assert_refused(builder().ca_bundle(other.pem), "the system's CA").await;
        return;
    }
    let authority = Authority::new();
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("system.pem");
    std::fs::write(&file, &authority.pem).unwrap();
    in_child(
        "vault::tls::the_system_s_certificates_count_only_where_no_others_are_given",
        &[
            ("SSL_CERT_FILE", file.to_str().unwrap()),
            ("VAULT_ADDR", &process.tls_url()),
            ("VAULT_TOKEN", key.vault.token()),
            ("TRANSIT_WRAPPER_MOUNT_PATH", &key.mount),
        ],
    );
}

#[tokio::test]
async fn a_server_name_is_what_the_certificate_must_be_for() {
    let authority = Authority::new();
    let server = authority.server("vault.internal");
    let Some((process, key)) = vault(&server, None).await else {
        return;
    };
    let builder = || builder(&process, &key).ca_bundle(authority.pem.as_str());
    let named = builder().server_name("vault.internal").build().unwrap();
    named.preflight().await.unwrap();
    assert_refused(builder(), "the address is not in the certificate").await;
    assert_refused(builder().server_name("other.internal"), "another name").await;
}

#[tokio::test]
async fn a_client_shows_its_certificate_where_the_server_wants_one() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some((process, key)) = vault(&server, Some(&clients.pem)).await else {
        return;
    };
    let builder = || builder(&process, &key).ca_bundle(authority.pem.as_str());
    let client = clients.client();
    let known = builder().client_certificate(client.certificate.as_str(), client.key.as_str());
    let shown = format!("{known:?}");
    assert!(!shown.contains("PRIVATE"), "{shown}");
    known.build().unwrap().preflight().await.unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (certificate, private) = (folder.path().join("c"), folder.path().join("k"));
    std::fs::write(&certificate, &client.certificate).unwrap();
    std::fs::write(&private, &client.key).unwrap();
    let from_files = builder().client_certificate_files(certificate, private);
    from_files.build().unwrap().preflight().await.unwrap();

    let stranger = authority.client();
    for (refused, why) in [
        (builder(), "no certificate"),
        (
            builder().client_certificate(stranger.certificate, stranger.key),
            "a certificate of another CA",
        ),
    ] {
        let error = refused.build().unwrap().preflight().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{why}: {error:?}");
    }
}
