//! The service as a client sees it: its own process, over HTTP.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use reqwest::{Client, Method, StatusCode};

struct Running {
    child: Child,
    address: String,
    http: Client,
}

impl Running {
    fn start(folder: &Path, root_key: &str) -> Self {
        let mut child = Self::command(folder, root_key)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        out.read_line(&mut line).unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .to_owned();
        Self {
            child,
            address,
            http: Client::new(),
        }
    }

    fn command(folder: &Path, root_key: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kms-example-web"));
        command
            .args(["--listen", "127.0.0.1:0", "--database"])
            .arg(folder.join("web.sqlite3"))
            .env("KMS_ROOT_URL", "aead:env:WEB_TEST_ROOT_KEY")
            .env("WEB_TEST_ROOT_KEY", root_key);
        command
    }

    async fn ask(&self, method: Method, path: &str, body: &str) -> (StatusCode, String) {
        let url = format!("{}{path}", self.address);
        let request = self.http.request(method, url).body(body.to_owned());
        let response = request.send().await.unwrap();
        (response.status(), response.text().await.unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn tenants_keep_secrets_across_rotations_and_restarts_until_they_are_deleted() {
    let folder = tempfile::tempdir().unwrap();
    let key = "5b".repeat(32);
    let service = Running::start(folder.path(), &key);
    let (status, health) = service.ask(Method::GET, "/health", "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(health, r#"{"database":"ok","root":"ok"}"#);

    let created = service.ask(Method::PUT, "/tenants/acme", "").await;
    assert_eq!(created.0, StatusCode::CREATED);
    let again = service.ask(Method::PUT, "/tenants/acme", "").await;
    assert_eq!(again.0, StatusCode::CONFLICT);

    let path = "/tenants/acme/secrets/smtp";
    let written = service.ask(Method::PUT, path, "correct horse").await;
    assert_eq!(written.0, StatusCode::NO_CONTENT);
    let rotated = service.ask(Method::POST, "/tenants/acme/rotate", "").await;
    assert_eq!(rotated.0, StatusCode::NO_CONTENT);
    let read = (StatusCode::OK, "correct horse".to_owned());
    assert_eq!(service.ask(Method::GET, path, "").await, read);

    drop(service);
    let service = Running::start(folder.path(), &key);
    assert_eq!(service.ask(Method::GET, path, "").await, read);

    let deleted = service.ask(Method::DELETE, "/tenants/acme", "").await;
    assert_eq!(deleted.0, StatusCode::NO_CONTENT);
    assert_eq!(
        service.ask(Method::GET, path, "").await.0,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn what_a_client_gets_wrong_has_a_status_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let service = Running::start(folder.path(), &"5c".repeat(32));
    for (method, path, status) in [
        (Method::PUT, "/tenants/%20", StatusCode::BAD_REQUEST),
        (
            Method::POST,
            "/tenants/nobody/rotate",
            StatusCode::NOT_FOUND,
        ),
        (
            Method::PUT,
            "/tenants/nobody/secrets/x",
            StatusCode::NOT_FOUND,
        ),
        (
            Method::GET,
            "/tenants/nobody/secrets/x",
            StatusCode::NOT_FOUND,
        ),
        (Method::DELETE, "/tenants/nobody", StatusCode::NOT_FOUND),
    ] {
        let answer = service.ask(method.clone(), path, "x").await;
        assert_eq!(answer.0, status, "{method} {path}: {}", answer.1);
    }
}

#[tokio::test]
async fn the_service_does_not_start_under_another_root_key() {
    let folder = tempfile::tempdir().unwrap();
    let service = Running::start(folder.path(), &"5d".repeat(32));
    service.ask(Method::PUT, "/tenants/acme", "").await;
    service
        .ask(Method::PUT, "/tenants/acme/secrets/x", "mine")
        .await;
    drop(service);
    let output = Running::command(folder.path(), &"5e".repeat(32))
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("another key is in its place"), "{said}");
    assert!(!said.contains(&"5e".repeat(32)), "{said}");
}
