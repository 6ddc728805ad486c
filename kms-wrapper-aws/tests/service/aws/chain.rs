//! Settings from the environment, and credentials that the SDK's chain finds.
//!
//! A test whose wrapper reads the environment runs itself again in a child that has it.
#![cfg(feature = "default-chain")]

use std::env;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_core::{CallLimits, ErrorKind, Wrapper as _};
use kms_testkit::service::variable;
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_aws::{AwsKmsWrapper, AwsKmsWrapperBuilder};

use super::support::{ACCESS_KEY, REGION, SECRET_KEY, Service, patient};

const CHILD: &str = "KMS_TEST_AWS_CHILD";
const ENDPOINT: &str = "KMS_TEST_AWS_ENDPOINT";

/// In the child nothing; in the parent runs the test of this name in a child with these variables, and without
/// any of the AWS tools' own.
fn in_child(test: &str, variables: &[(&str, &str)]) -> bool {
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", &format!("aws::chain::{test}"), "--nocapture"]);
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("AWS") || name.starts_with("VAULT") {
            child.env_remove(&*name);
        }
    }
    child
        .env(CHILD, "1")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env("AWS_CONFIG_FILE", "/nonexistent/config")
        .env("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent/credentials")
        .envs(variables.iter().copied());
    let output = child.output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

fn with_aead(builder: AwsKmsWrapperBuilder) -> AwsKmsWrapperBuilder {
    builder
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
        .limits(patient())
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future)
}

#[test]
fn the_environment_is_enough() {
    let Some(endpoint) = variable("aws", ENDPOINT) else {
        return;
    };
    if env::var_os(CHILD).is_none() {
        let key = block_on(Service::at(&endpoint, REGION).key());
        in_child(
            "the_environment_is_enough",
            &[
                ("AWSKMS_WRAPPER_KEY_ID", &key),
                ("AWS_KMS_ENDPOINT", &endpoint),
                // The key's ARN says another, and knows better.
                ("AWS_REGION", "eu-west-1"),
                ("AWS_ACCESS_KEY_ID", ACCESS_KEY),
                ("AWS_SECRET_ACCESS_KEY", SECRET_KEY),
                ("AWS_SESSION_TOKEN", "token"),
            ],
        );
        return;
    }
    let wrapper = with_aead(AwsKmsWrapper::from_env()).build().unwrap();
    assert_eq!(wrapper.key_id(), env::var("AWSKMS_WRAPPER_KEY_ID").ok());
    assert!(format!("{wrapper:?}").contains("Static"));
    block_on(wrapper.preflight()).unwrap();
    // Explicit settings win.
    let wrapper = with_aead(AwsKmsWrapper::from_env())
        .key_id("alias/explicit")
        .region(REGION)
        .endpoint("http://127.0.0.1:1");
    let error = block_on(wrapper.build().unwrap().preflight()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable);
    assert_eq!(error.context("root_key_id"), Some("alias/explicit"));
}

#[test]
fn the_chain_finds_credentials_region_and_endpoint_in_a_profile() {
    let Some(endpoint) = variable("aws", ENDPOINT) else {
        return;
    };
    const TEST: &str = "the_chain_finds_credentials_region_and_endpoint_in_a_profile";
    if env::var_os(CHILD).is_none() {
        let key = block_on(Service::at(&endpoint, REGION).key());
        let (_, id) = key.split_once("key/").unwrap();
        let file = env::temp_dir().join(format!("kms-aws-profile-{}", std::process::id()));
        let profile = format!(
            "[profile app]\nregion = {REGION}\nendpoint_url = {endpoint}\n\
             aws_access_key_id = {ACCESS_KEY}\naws_secret_access_key = {SECRET_KEY}\n"
        );
        std::fs::write(&file, profile).unwrap();
        let file_name = file.to_str().unwrap();
        in_child(
            TEST,
            &[
                ("AWS_CONFIG_FILE", file_name),
                ("AWSKMS_WRAPPER_KEY_ID", id),
            ],
        );
        std::fs::remove_file(file).unwrap();
        return;
    }
    let wrapper = with_aead(AwsKmsWrapper::from_env()).profile("app").build();
    block_on(wrapper.unwrap().preflight()).unwrap();
}

#[test]
fn without_credentials_or_a_region_anywhere_the_first_call_says_so() {
    const TEST: &str = "without_credentials_or_a_region_anywhere_the_first_call_says_so";
    if !in_child(TEST, &[]) {
        return;
    }
    let builder = || with_aead(AwsKmsWrapper::builder("alias/app")).endpoint("http://127.0.0.1:1");
    let no_region = builder().build().unwrap();
    let error = block_on(no_region.preflight()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error:?}");
    let no_credentials = builder().region(REGION).build().unwrap();
    let error = block_on(no_credentials.preflight()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert!(!error.is_retryable());
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn the_deadline_holds_against_a_credential_service_that_does_not_answer_and_it_is_asked_again() {
    const TEST: &str = "the_deadline_holds_against_a_credential_service_that_does_not_answer_and_it_is_asked_again";
    let Some(endpoint) = variable("aws", ENDPOINT) else {
        return;
    };
    if env::var_os(CHILD).is_none() {
        let key = block_on(Service::at(&endpoint, REGION).key());
        let proxy = FaultyProxy::start("127.0.0.1:1");
        proxy.fail_next(1, NetworkFault::Hang);
        let credentials = format!(
            r#"{{"AccessKeyId":"{ACCESS_KEY}","SecretAccessKey":"{SECRET_KEY}","Token":"token","Expiration":"2099-01-01T00:00:00Z"}}"#
        );
        proxy.fail(NetworkFault::answer(
            200,
            &[("content-type", "application/json")],
            credentials,
        ));
        let url = format!("{}/credentials", proxy.url());
        in_child(
            TEST,
            &[
                ("AWS_CONTAINER_CREDENTIALS_FULL_URI", &url),
                ("AWSKMS_WRAPPER_KEY_ID", &key),
                ("AWS_KMS_ENDPOINT", &endpoint),
            ],
        );
        assert_eq!(proxy.requests(), 2);
        return;
    }
    let limits = CallLimits::default()
        .with_deadline(Duration::from_millis(800))
        .with_attempts(1);
    let builder = with_aead(AwsKmsWrapper::from_env()).limits(limits);
    let wrapper = builder.build().unwrap();
    let start = Instant::now();
    let error = block_on(wrapper.preflight()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(20));
    // In the same wrapper, on another runtime, once the credentials can be had.
    block_on(async {
        let deadline = Instant::now() + Duration::from_secs(60);
        while let Err(error) = wrapper.preflight().await {
            assert!(Instant::now() < deadline, "{error:?}");
        }
    });
}

#[test]
fn a_role_that_may_not_be_assumed_is_a_denial_and_a_token_service_that_is_down_is_not() {
    const TEST: &str =
        "a_role_that_may_not_be_assumed_is_a_denial_and_a_token_service_that_is_down_is_not";
    const EXPECTED: &str = "KMS_TEST_AWS_EXPECTED";
    if env::var_os(CHILD).is_none() {
        let token = env::temp_dir().join(format!("kms-aws-token-{}", std::process::id()));
        std::fs::write(&token, "token").unwrap();
        let refusal = "<ErrorResponse><Error><Code>AccessDenied</Code>\
            <Message>Not authorized</Message></Error></ErrorResponse>";
        for (fault, expected) in [
            (NetworkFault::answer(403, &[], refusal), "Denied"),
            (NetworkFault::answer(503, &[], "<html>"), "Unreachable"),
        ] {
            let proxy = FaultyProxy::start("127.0.0.1:1");
            proxy.fail(fault);
            in_child(
                TEST,
                &[
                    ("AWS_WEB_IDENTITY_TOKEN_FILE", token.to_str().unwrap()),
                    ("AWS_ROLE_ARN", "arn:aws:iam::111122223333:role/app"),
                    ("AWS_ENDPOINT_URL_STS", &proxy.url()),
                    (EXPECTED, expected),
                ],
            );
            assert!(proxy.requests() > 0);
        }
        std::fs::remove_file(token).unwrap();
        return;
    }
    let wrapper = with_aead(AwsKmsWrapper::builder("alias/app"))
        .region(REGION)
        .limits(patient().with_attempts(1))
        .build()
        .unwrap();
    let error = block_on(wrapper.preflight()).unwrap_err();
    assert_eq!(
        error.kind().name(),
        env::var(EXPECTED).unwrap(),
        "{error:?}"
    );
}
