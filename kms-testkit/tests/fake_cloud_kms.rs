//! The fake Cloud KMS: what Google's own client (`fake_cloud_kms/check.py`) can't say of it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kms_testkit::fake_cloud_kms::{
    CloudKmsFault, CloudKmsMethod, CloudKmsPermission, FakeCloudKms, FakeCloudKmsClient,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

/// Far above what any call takes.
const LONG: Duration = Duration::from_secs(30);

/// Long enough for an answer that is not held back.
const SHORT: Duration = Duration::from_millis(300);

async fn encrypt(client: &FakeCloudKmsClient, key: &str) -> (u16, Value) {
    let body = json!({ "plaintext": "eA==" });
    client
        .request("POST", &format!("v1/{key}:encrypt"), &body)
        .await
}

async fn decrypt(client: &FakeCloudKmsClient, key: &str, encrypted: &Value) -> (u16, Value) {
    let body = json!({ "ciphertext": encrypted["ciphertext"] });
    client
        .request("POST", &format!("v1/{key}:decrypt"), &body)
        .await
}

/// What a connection gets that asks to encrypt: the bytes, and how it ended.
async fn raw(fake: &FakeCloudKms, key: &str) -> (String, std::io::Result<usize>) {
    let address = fake.url().strip_prefix("http://").unwrap();
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let body = r#"{"plaintext":"eA=="}"#;
    let request = format!(
        "POST /v1/{key}:encrypt HTTP/1.1\r\nhost: fake\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let end = timeout(LONG, stream.read_to_end(&mut answer))
        .await
        .unwrap();
    (String::from_utf8(answer).unwrap(), end)
}

#[tokio::test]
async fn stopped_it_refuses_connections_and_started_again_it_has_its_keys() {
    let fake = FakeCloudKms::start().await;
    let key = fake.client().create_key().await;
    let (_, encrypted) = encrypt(fake.client(), &key).await;
    let address = fake.url().strip_prefix("http://").unwrap().to_owned();
    let mut open = tokio::net::TcpStream::connect(&address).await.unwrap();

    fake.stop().await;
    TcpStream::connect(&address).unwrap_err();
    let end = timeout(LONG, open.read(&mut [0])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "the connection was cut");

    fake.start_again().await;
    let (code, decrypted) = decrypt(fake.client(), &key, &encrypted).await;
    assert_eq!((code, &decrypted["plaintext"]), (200, &json!("eA==")));
}

#[test]
fn it_outlives_the_runtime_that_started_it() {
    let runtime = || tokio::runtime::Runtime::new().unwrap();
    let fake = runtime().block_on(FakeCloudKms::start());
    let key = runtime().block_on(fake.client().create_key());
    runtime().block_on(async {
        assert_eq!(encrypt(fake.client(), &key).await.0, 200);
        fake.stop().await;
    });
}

#[tokio::test]
async fn dropping_it_frees_the_port() {
    let fake = FakeCloudKms::start().await;
    let address = fake.url().strip_prefix("http://").unwrap().to_owned();
    drop(fake);
    let end = Instant::now() + LONG;
    while TcpListener::bind(&address).is_err() {
        assert!(Instant::now() < end, "the port is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_fault_of_the_network_disturbs_the_call_it_is_for() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;

    client.inject(CloudKmsFault::reset().times(1)).await;
    let (answer, end) = raw(&fake, &key).await;
    assert_eq!(answer, "");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);

    client.inject(CloudKmsFault::cut_short().times(1)).await;
    let (answer, _) = raw(&fake, &key).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap();
    assert_eq!(body.len(), length.parse::<usize>().unwrap() / 2);

    client.inject(CloudKmsFault::not_json().times(1)).await;
    assert_eq!(encrypt(client, &key).await, (200, Value::Null));

    let latency = CloudKmsFault::latency(SHORT).times(1);
    client.inject(latency).await;
    let start = Instant::now();
    assert_eq!(encrypt(client, &key).await.0, 200);
    assert!(start.elapsed() >= SHORT);

    client.inject(CloudKmsFault::hang().times(1)).await;
    timeout(SHORT, encrypt(client, &key)).await.unwrap_err();
    assert_eq!(encrypt(client, &key).await.0, 200);
}

#[tokio::test]
async fn a_fault_of_one_method_leaves_the_others_alone_until_it_is_taken_back() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    let (_, encrypted) = encrypt(client, &key).await;
    let fault = CloudKmsFault::unavailable().of(CloudKmsMethod::Decrypt);
    client.inject(fault.clone()).await;
    for _ in 0..3 {
        assert_eq!(encrypt(client, &key).await.0, 200);
        assert_eq!(decrypt(client, &key, &encrypted).await.0, 503);
    }
    let (_, faults) = client.request("GET", "_fake/faults", &json!({})).await;
    assert_eq!(faults, json!([fault]));
    client.clear_faults().await;
    assert_eq!(decrypt(client, &key, &encrypted).await.0, 200);
    assert_eq!(client.calls(CloudKmsMethod::Decrypt).await, 4);
    client.forget_calls().await;
    assert_eq!(client.calls(CloudKmsMethod::Decrypt).await, 0);
}

#[tokio::test]
async fn rights_can_be_asked_for_and_a_key_that_is_not_there_has_none() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    let wanted = [CloudKmsPermission::Encrypt, CloudKmsPermission::Decrypt];
    let body = json!({ "permissions": wanted.map(CloudKmsPermission::name) });
    let test = async |key: &str| {
        let path = format!("v1/{key}:testIamPermissions");
        client.request("POST", &path, &body).await
    };
    assert_eq!(test(&key).await, (200, body.clone()));
    client.deny(&key, &[CloudKmsPermission::Decrypt]).await;
    let rest = json!({ "permissions": [CloudKmsPermission::Encrypt.name()] });
    assert_eq!(test(&key).await, (200, rest));
    assert_eq!(test(&format!("{key}-none")).await, (200, json!({})));
}

#[tokio::test]
async fn with_a_token_demanded_nobody_else_is_let_in() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    client.demand_token(Some("ya29.right")).await;
    let (code, answer) = encrypt(client, &key).await;
    assert_eq!(
        (code, &answer["error"]["status"]),
        (401, &json!("UNAUTHENTICATED"))
    );
    client.demand_token(None).await;
    assert_eq!(encrypt(client, &key).await.0, 200);
}

#[tokio::test]
async fn what_it_does_not_know_it_says() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    for (method, path, code) in [
        ("DELETE", format!("v1/{key}"), 501),
        ("POST", format!("v1/{key}:rawEncrypt"), 501),
        ("POST", "_fake/nothing".to_owned(), 501),
        ("GET", format!("v1/{key}/cryptoKeyVersions?filter=x"), 501),
        ("GET", "v2/anything".to_owned(), 404),
    ] {
        let (answered, _) = client.request(method, &path, &json!({})).await;
        assert_eq!(answered, code, "{method} {path}");
    }
    let misspelt = json!({ "fault": "hnag" });
    let (code, _) = client.request("POST", "_fake/faults", &misspelt).await;
    assert_eq!(code, 400);
}

#[tokio::test]
async fn a_field_that_a_request_does_not_have_is_refused_as_the_service_does() {
    let fake = FakeCloudKms::start().await;
    let client = fake.client();
    let key = client.create_key().await;
    let ring = key.strip_suffix("/key").unwrap();
    let unknown = |what: &str| format!("Invalid JSON payload received. Unknown name {what}");
    for (path, body, message) in [
        (
            format!("v1/{key}:encrypt"),
            json!({ "plaintext": "eA==", "aad": "eA==" }),
            unknown("\"aad\": Cannot find field."),
        ),
        (
            format!("v1/{key}:decrypt?name2=x"),
            json!({ "ciphertext": "eA==", "plaintext_crc32c": "0" }),
            format!(
                "{}\n{}",
                unknown("\"plaintext_crc32c\": Cannot find field."),
                unknown(
                    "\"name2\": Cannot bind query parameter. Field 'name2' could not be found in request message."
                )
            ),
        ),
        (
            format!("v1/{ring}?cryptoKeyId=other"),
            json!({ "purpose": "ENCRYPT_DECRYPT", "versionTemplate": { "level": "HSM" } }),
            unknown("\"level\" at 'crypto_key.version_template': Cannot find field."),
        ),
        (
            format!("v1/{key}/cryptoKeyVersions"),
            json!({ "primary": true }),
            unknown("\"primary\" at 'crypto_key_version': Cannot find field."),
        ),
        (
            format!("v1/{key}:encrypt"),
            json!(["plaintext"]),
            unknown("\"\": Root element must be a message."),
        ),
    ] {
        let (code, answer) = client.request("POST", &path, &body).await;
        let error = &answer["error"];
        assert_eq!((code, &error["status"]), (400, &json!("INVALID_ARGUMENT")));
        assert_eq!(error["message"], json!(message));
        let violations = &error["details"][0]["fieldViolations"];
        let descriptions = violations.as_array().unwrap().iter();
        let described: Vec<_> = descriptions
            .map(|violation| violation["description"].as_str().unwrap())
            .collect();
        assert_eq!(described.join("\n"), message);
    }
    let both_names =
        json!({ "plaintext": "eA==", "plaintextCrc32c": "1", "plaintext_crc32c": "1" });
    let (_, answer) = client
        .request("POST", &format!("v1/{key}:encrypt?alt=json"), &both_names)
        .await;
    let message = answer["error"]["message"].as_str().unwrap();
    assert!(message.starts_with("The checksum in field"), "{message}");
}

#[tokio::test]
async fn the_program_prints_its_url_and_serves_until_it_is_killed() {
    let mut program = Command::new(env!("CARGO_BIN_EXE_fake-cloud-kms"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut url = String::new();
    BufReader::new(program.stdout.take().unwrap())
        .read_line(&mut url)
        .unwrap();
    let client = FakeCloudKmsClient::new(url.trim_end());
    let key = client.create_key().await;
    let (code, _) = encrypt(&client, &key).await;
    program.kill().unwrap();
    program.wait().unwrap();
    assert_eq!(code, 200);
}

#[test]
fn the_program_listens_on_loopback_only() {
    for arguments in [
        &["--listen", "0.0.0.0:0"][..],
        &["--listen", "fake"],
        &["--port", "0"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_fake-cloud-kms"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
