//! What is sent, seen by an endpoint that records it: namespaces, which a Vault without licence has not, and the logins
//! of clouds.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use kms_core::{ErrorKind, Wrapper as _};
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A request as it arrived.
struct Request {
    path: String,
    headers: HashMap<String, String>,
    body: Value,
}

/// Answers each login with a token, each encryption with a blob, and Google's metadata with a JWT.
struct Recorder {
    address: String,
    seen: Arc<Mutex<Vec<Request>>>,
}

impl Recorder {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, Arc::clone(&kept)));
            }
        });
        Self { address, seen }
    }

    fn builder(&self, auth: Auth) -> TransitWrapperBuilder {
        TransitWrapper::builder()
            .address(format!("http://{}", self.address))
            .key_name("app")
            .auth(auth)
    }

    /// The request to this path.
    fn request(&self, path: &str) -> Request {
        let mut seen = self.seen.lock().unwrap();
        let found = seen.iter().position(|request| request.path == path);
        seen.swap_remove(found.unwrap_or_else(|| panic!("nothing was sent to {path}")))
    }
}

async fn serve(mut client: TcpStream, seen: Arc<Mutex<Vec<Request>>>) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let path = head.split(' ').nth(1).unwrap().to_owned();
    let headers: HashMap<String, String> = head
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").map_or("0", String::as_str);
    let mut body = vec![0; length.parse().unwrap()];
    client.read_exact(&mut body).await?;
    let answer = if path.starts_with("/computeMetadata") {
        "a.b.c".to_owned()
    } else if path.ends_with("/login") {
        answer("auth", &login())
    } else {
        answer("data", &json!({ "ciphertext": "vault:v1:AAECAw==" }))
    };
    seen.lock().unwrap().push(Request {
        path,
        headers,
        body: serde_json::from_slice(&body).unwrap_or_default(),
    });
    let head = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
        answer.len()
    );
    client.write_all(format!("{head}{answer}").as_bytes()).await
}

/// In the form of all of Vault's answers.
fn answer(part: &str, content: &Value) -> String {
    let mut answer = json!({
        "request_id": "",
        "lease_id": "",
        "lease_duration": 0,
        "renewable": false,
    });
    answer[part] = content.clone();
    answer.to_string()
}

fn login() -> Value {
    json!({
        "client_token": "hvs.recorded",
        "accessor": "a",
        "policies": [],
        "token_policies": [],
        "metadata": null,
        "lease_duration": 0,
        "renewable": false,
        "entity_id": "",
        "token_type": "service",
        "orphan": true,
    })
}

#[tokio::test]
async fn a_login_goes_to_its_own_namespace_and_a_call_to_the_engine_s() {
    let app_role = || Auth::app_role("role", "secret");
    for (set, login, call) in [
        ((Some("team/"), None), Some("team"), Some("team")),
        ((Some("team/a"), Some("team")), Some("team"), Some("team/a")),
        ((Some("team"), Some("")), None, Some("team")),
        ((None, Some("logins")), Some("logins"), None),
    ] {
        let recorder = Recorder::start().await;
        let mut builder = recorder.builder(app_role());
        if let Some(namespace) = set.0 {
            builder = builder.namespace(namespace);
        }
        if let Some(namespace) = set.1 {
            builder = builder.login_namespace(namespace);
        }
        let wrapper = builder.build().unwrap();
        wrapper.encrypt(b"plaintext", b"").await.unwrap();
        let namespace = |path| {
            let mut headers = recorder.request(path).headers;
            headers.remove("x-vault-namespace")
        };
        let sent = namespace("/v1/auth/approle/login");
        assert_eq!(sent.as_deref(), login, "{set:?}");
        let sent = namespace("/v1/transit/encrypt/app");
        assert_eq!(sent.as_deref(), call, "{set:?}");
    }
}

#[tokio::test]
async fn a_call_by_an_agent_carries_no_token() {
    let recorder = Recorder::start().await;
    let wrapper = recorder.builder(Auth::agent()).build().unwrap();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let sent = recorder.request("/v1/transit/encrypt/app");
    assert!(!sent.headers.contains_key("x-vault-token"));
    let recorder = Recorder::start().await;
    let wrapper = recorder.builder(Auth::token("hvs.mine")).build().unwrap();
    wrapper.encrypt(b"plaintext", b"").await.unwrap();
    let sent = recorder.request("/v1/transit/encrypt/app");
    assert_eq!(sent.headers["x-vault-token"], "hvs.mine");
}

/// Logs in from a process whose environment says where the cloud's own services are.
mod in_a_cloud {
    use super::*;
    use crate::vault::environment::{CHILD, in_child};

    async fn run(test: &'static str, variables: Vec<(&'static str, String)>) {
        let child = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> = variables
                .iter()
                .map(|(name, value)| (*name, value.as_str()))
                .collect();
            in_child(test, &variables);
        });
        child.await.unwrap();
    }

    async fn encrypt(auth: Auth) {
        let wrapper = TransitWrapper::builder()
            .address(std::env::var("VAULT_ADDR").unwrap())
            .key_name("app")
            .auth(auth)
            .build()
            .unwrap();
        wrapper.encrypt(b"plaintext", b"").await.unwrap();
    }

    #[tokio::test]
    async fn a_machine_of_google_s_logs_in_with_its_identity() {
        if std::env::var_os(CHILD).is_some() {
            encrypt(Auth::gcp_instance("app")).await;
            return;
        }
        let recorder = Recorder::start().await;
        run(
            "recorded::in_a_cloud::a_machine_of_google_s_logs_in_with_its_identity",
            vec![
                ("VAULT_ADDR", format!("http://{}", recorder.address)),
                ("GCE_METADATA_HOST", recorder.address.clone()),
            ],
        )
        .await;
        let asked = recorder.request(
            "/computeMetadata/v1/instance/service-accounts/default/identity?audience=http%3A%2F%2Fvault%2Fapp&format=full",
        );
        assert_eq!(asked.headers["metadata-flavor"], "Google");
        let login = recorder.request("/v1/auth/gcp/login");
        assert_eq!(login.body, json!({ "role": "app", "jwt": "a.b.c" }));
        let call = recorder.request("/v1/transit/encrypt/app");
        assert_eq!(call.headers["x-vault-token"], "hvs.recorded");
    }

    #[tokio::test]
    async fn another_machine_has_no_identity_of_google_s_and_is_told_so() {
        if std::env::var_os(CHILD).is_some() {
            let wrapper = TransitWrapper::builder()
                .address("http://127.0.0.1:9")
                .key_name("app")
                .auth(Auth::gcp_instance("app"))
                .build()
                .unwrap();
            let error = wrapper.encrypt(b"plaintext", b"").await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            assert!(error.to_string().contains("metadata"), "{error}");
            return;
        }
        run(
            "recorded::in_a_cloud::another_machine_has_no_identity_of_google_s_and_is_told_so",
            vec![("GCE_METADATA_HOST", "127.0.0.1:9".to_owned())],
        )
        .await;
    }

    #[cfg(feature = "aws")]
    #[tokio::test]
    async fn an_identity_of_amazon_s_logs_in_with_a_signed_request_for_the_service_to_send() {
        use data_encoding::BASE64;
        use kms_testkit::wrapper::assert_hidden;
        use kms_wrapper_vault::AwsIam;

        let login = || {
            AwsIam::role("app")
                .region("eu-west-1")
                .server_id("vault.example.com")
        };
        if std::env::var_os(CHILD).is_some() {
            encrypt(Auth::aws_iam(login()).mount("aws-prod")).await;
            return;
        }
        let recorder = Recorder::start().await;
        let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        run(
            "recorded::in_a_cloud::an_identity_of_amazon_s_logs_in_with_a_signed_request_for_the_service_to_send",
            vec![
                ("VAULT_ADDR", format!("http://{}", recorder.address)),
                ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", secret.to_owned()),
                ("AWS_SESSION_TOKEN", "session".to_owned()),
            ],
        )
        .await;
        let sent = recorder.request("/v1/auth/aws-prod/login").body;
        assert_hidden(secret.as_bytes(), &sent.to_string());
        assert_eq!(sent["role"], "app");
        assert_eq!(sent["iam_http_request_method"], "POST");
        let text = |field: &str| {
            let bytes = BASE64.decode(sent[field].as_str().unwrap().as_bytes());
            String::from_utf8(bytes.unwrap()).unwrap()
        };
        assert_eq!(
            text("iam_request_url"),
            "https://sts.eu-west-1.amazonaws.com/"
        );
        assert_eq!(
            text("iam_request_body"),
            "Action=GetCallerIdentity&Version=2011-06-15"
        );
        let headers: Value = serde_json::from_str(&text("iam_request_headers")).unwrap();
        assert_eq!(headers["x-vault-aws-iam-server-id"][0], "vault.example.com");
        assert_eq!(headers["x-amz-security-token"][0], "session");
        let signature = headers["authorization"][0].as_str().unwrap();
        assert!(signature.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"));
        assert!(
            signature.contains("/eu-west-1/sts/aws4_request"),
            "{signature}"
        );
        // What Vault requires to be signed.
        let (_, signed) = signature.split_once("SignedHeaders=").unwrap();
        let signed = signed.split(',').next().unwrap();
        for header in ["host", "x-amz-date", "x-vault-aws-iam-server-id"] {
            assert!(signed.split(';').any(|name| name == header), "{signed}");
        }
    }
}
