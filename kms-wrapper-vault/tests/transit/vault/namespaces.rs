//! Engine and login in a namespace, where the service has them (Vault Enterprise, OpenBao).

use kms_core::{ErrorKind, Wrapper as _};
use kms_testkit::service::Vault;
use kms_wrapper_vault::{Auth, TransitWrapper};
use serde_json::json;

#[tokio::test]
async fn the_namespace_is_that_of_engine_and_login() {
    let Some(vault) = Vault::shared() else { return };
    let namespace = format!("team-{}", Vault::unique());
    let made = vault
        .call("POST", &format!("sys/namespaces/{namespace}"), &json!({}))
        .await;
    if made.unwrap().status >= 300 {
        println!("skipped: namespaces (this service has none)");
        return;
    }
    let within = |path: &str| format!("{namespace}/{path}");
    let write = async |path: &str, body| vault.write(&within(path), body).await;
    write("sys/mounts/transit", json!({ "type": "transit" })).await;
    write("transit/keys/app", json!({})).await;
    write("sys/auth/approle", json!({ "type": "approle" })).await;
    let rules = "path \"transit/*\" { capabilities = [\"update\"] }";
    write("sys/policies/acl/app", json!({ "policy": rules })).await;
    write(
        "auth/approle/role/app",
        json!({ "token_policies": ["app"] }),
    )
    .await;
    let role_id = vault.read(&within("auth/approle/role/app/role-id")).await;
    let role_id = role_id["data"]["role_id"].as_str().unwrap().to_owned();
    let made = write("auth/approle/role/app/secret-id", json!({})).await;
    let secret_id = made["data"]["secret_id"].as_str().unwrap().to_owned();

    let builder = TransitWrapper::builder()
        .address(vault.url())
        .key_name("app")
        .auth(Auth::app_role(role_id, secret_id));
    let wrapper = builder.clone().namespace(&namespace).build().unwrap();
    wrapper.preflight().await.unwrap();
    let outside = builder.build().unwrap();
    let error = outside.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
}
