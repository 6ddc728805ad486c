//! The methods `jwt` and `cert`, and `AppRole` without a secret id.

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::{VaultListener, VaultProcess};
use kms_testkit::wrapper::assert_hidden;
use kms_wrapper_vault::{Auth, TransitWrapper};
use serde_json::json;

use super::fixture::{Key, NAME, short, whole};
use super::logins::{AppRole, BOTH, Cluster};
use super::tls::Authority;

#[tokio::test]
async fn it_logs_in_with_a_jwt_from_a_file_that_is_read_at_each_login() {
    let Some(key) = Key::new().await else { return };
    let issuer = Cluster::new(&key).await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("jwt");
    let foreign = issuer.token("other");
    std::fs::write(&file, &foreign).unwrap();
    let auth = Auth::jwt_file("app", &file);
    let nowhere = key.builder().auth(auth.clone()).build().unwrap();
    let error = nowhere.preflight().await.unwrap_err();
    assert_eq!(error.context("login"), Some("auth/jwt/login"));

    let wrapper = key.builder().auth(auth.mount(&issuer.mount));
    let wrapper = wrapper.build().unwrap();
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_hidden(foreign.as_bytes(), &whole(&error));
    std::fs::write(&file, issuer.token("app")).unwrap();
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn it_logs_in_by_app_role_without_a_secret_id_where_the_role_wants_none() {
    let Some(key) = Key::new().await else { return };
    let options = json!({ "token_bound_cidrs": ["127.0.0.0/8"] });
    let bound = AppRole::new(&key, options.clone(), BOTH).await;
    let auth = Auth::app_role_without_secret(&bound.role_id).mount(&bound.mount);
    let wrapper = key.builder().auth(auth.clone()).build().unwrap();
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "it wants one: {error:?}");

    let role = format!("auth/{}/role/app", bound.mount);
    key.vault
        .write(
            &role,
            json!({
                "bind_secret_id": false,
                "token_bound_cidrs": ["127.0.0.0/8"],
            }),
        )
        .await;
    wrapper.preflight().await.unwrap();
}

#[tokio::test]
async fn it_logs_in_with_its_tls_certificate() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = authority.server("127.0.0.1");
    let Some(process) = VaultProcess::start_with_tls(VaultListener {
        certificate: &server.certificate,
        key: &server.key,
        client_ca: None,
    })
    .await
    else {
        return;
    };
    let key = Key::on(process.vault()).await;
    let vault = &key.vault;
    vault
        .write("sys/auth/cert", json!({ "type": "cert" }))
        .await;
    for (role, operations) in [("app", BOTH), ("reader", &["decrypt"][..])] {
        let role = format!("auth/cert/certs/{role}");
        let settings = json!({
            "certificate": clients.pem,
            "token_policies": [key.policy(operations).await],
        });
        vault.write(&role, settings).await;
    }
    let client = clients.client();
    let builder = |auth| {
        TransitWrapper::builder()
            .address(process.tls_url())
            .mount_path(&key.mount)
            .key_name(NAME)
            .ca_bundle(authority.pem.as_str())
            .auth(auth)
            .limits(short())
    };
    let error = builder(Auth::certificate()).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    let wrapper = |auth, client: &super::tls::Issued| {
        builder(auth)
            .client_certificate(client.certificate.as_str(), client.key.as_str())
            .build()
            .unwrap()
    };
    let app = wrapper(Auth::certificate_of_role("app"), &client);
    app.preflight().await.unwrap();
    let reader = wrapper(Auth::certificate_of_role("reader"), &client);
    let error = reader.encrypt(b"plaintext", b"").await.unwrap_err();
    assert!(error.context("permission").is_some(), "{error}");
    // Which role the service finds by itself is its own matter; a token is had.
    let any = wrapper(Auth::certificate(), &client);
    let error = any.preflight().await.err();
    assert!(
        error.is_none_or(|error| error.context("permission").is_some()),
        "logged in"
    );

    let stranger = wrapper(Auth::certificate(), &authority.client());
    let error = stranger.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(error.context("login"), Some("auth/cert/login"));
}
