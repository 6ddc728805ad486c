//! The project that a call is counted against and paid by.

use std::env;
use std::sync::Arc;

use kms_core::{ErrorKind, Wrapper as _};
use kms_wrapper_gcp::{CloudKmsWrapper, CloudKmsWrapperBuilder};
use serde_json::{Value, json};

use crate::logins::{file, gives, service_account};
use crate::support::{Listener, in_child, patient};

const KEY: &str = "projects/p/locations/l/keyRings/r/cryptoKeys/k";

/// The project that the request of this wrapper names.
async fn named(configure: impl FnOnce(CloudKmsWrapperBuilder) -> CloudKmsWrapperBuilder) -> String {
    let listener = Listener::start();
    let builder = CloudKmsWrapper::builder(KEY)
        .endpoint(format!("http://{}", listener.address))
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .limits(patient());
    let wrapper = configure(builder).build().unwrap();
    let error = wrapper.encrypt(b"x", b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    let (head, _) = listener.request();
    let named = head
        .lines()
        .find_map(|line| line.strip_prefix("x-goog-user-project: "));
    named.unwrap_or_default().to_owned()
}

/// Files of a service account and of a user, both with the project `of-the-file`, and the server of the latter's
/// tokens.
fn accounts() -> ([Value; 2], kms_testkit::FaultyProxy) {
    let tokens = kms_testkit::FaultyProxy::start("127.0.0.1:1");
    tokens.fail(gives("ya29.token"));
    let (_, mut service) = service_account();
    service["quota_project_id"] = "of-the-file".into();
    let user = json!({
        "type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r",
        "token_uri": tokens.url(), "quota_project_id": "of-the-file",
    });
    ([service, user], tokens)
}

#[tokio::test]
async fn the_project_of_the_credentials_file_is_named_unless_a_setting_names_another() {
    let (accounts, _tokens) = accounts();
    for account in accounts {
        let file = file(&account);
        let of_file = named(|builder| builder.credentials_file(file.path())).await;
        assert_eq!(of_file, "of-the-file", "{}", account["type"]);
        let set = named(|builder| {
            builder
                .credentials_file(file.path())
                .quota_project("of-the-setting")
        });
        assert_eq!(set.await, "of-the-setting", "{}", account["type"]);
    }
}

#[tokio::test]
async fn without_credentials_no_project_is_named_but_the_one_of_the_setting() {
    assert_eq!(named(CloudKmsWrapperBuilder::anonymous).await, "");
    let set = named(|builder| builder.anonymous().quota_project("of-the-setting"));
    assert_eq!(set.await, "of-the-setting");
}

#[test]
fn the_project_of_the_environment_wins_over_the_files_on_every_path() {
    const FILE: &str = "GOOGLE_APPLICATION_CREDENTIALS";
    let (accounts, _tokens) = accounts();
    for account in accounts {
        let file = file(&account);
        let variables = [
            (FILE, file.path().to_str().unwrap()),
            ("GOOGLE_CLOUD_QUOTA_PROJECT", "of-the-environment"),
        ];
        let test =
            "quota_project::the_project_of_the_environment_wins_over_the_files_on_every_path";
        if in_child(test, &variables) {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let file = env::var(FILE).unwrap();
            runtime.block_on(async {
                let default = named(|builder| builder).await;
                let named_file = named(|builder| builder.credentials_file(&file)).await;
                assert_eq!([default, named_file], ["of-the-environment"; 2]);
                let set = named(|builder| builder.quota_project("of-the-setting"));
                assert_eq!(set.await, "of-the-setting");
            });
            return;
        }
    }
}
