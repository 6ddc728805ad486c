//! HTTP proxies between the wrapper and the service.

use std::sync::{Arc, Mutex};

use kms_core::{ErrorKind, Wrapper as _};
use kms_wrapper_vault::{Auth, TransitWrapper, TransitWrapperBuilder};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use super::environment::{CHILD, in_child};
use super::fixture::{NAME, short};
use super::logins::{AppRole, BOTH};
use super::tls::{Authority, vault};

/// A host that only the proxy can find.
const HOST: &str = "vault.internal";

/// A proxy that opens tunnels, whatever they are asked for, to one address, and records who asked.
struct Tunnels {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Tunnels {
    async fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://user:hunter2@{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let target = target.trim_start_matches("https://").to_owned();
        let heads = Arc::clone(&asked);
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let (target, heads) = (target.clone(), Arc::clone(&heads));
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(client.read_u8().await?);
                    }
                    let head = String::from_utf8_lossy(&head).into_owned();
                    heads.lock().unwrap().push(head);
                    let mut server = TcpStream::connect(target).await?;
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await?;
                    copy_bidirectional(&mut client, &mut server).await
                });
            }
        });
        Self { url, asked }
    }

    /// The heads of what was asked for since the last time.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn builder(mount: &str, auth: Auth) -> TransitWrapperBuilder {
    TransitWrapper::builder()
        .address(format!("https://{HOST}:8200"))
        .mount_path(mount)
        .key_name(NAME)
        .auth(auth)
        .limits(short())
}

#[tokio::test]
async fn a_proxy_carries_logins_and_calls_and_sees_none_of_them() {
    let authority = Authority::new();
    let Some((process, key)) = vault(&authority.server(HOST), None).await else {
        return;
    };
    let role = AppRole::new(&key, json!({}), BOTH).await;
    let proxy = Tunnels::to(&process.tls_url()).await;
    let builder = builder(&key.mount, role.auth()).ca_bundle(authority.pem.as_str());
    let through = builder.clone().proxy(&proxy.url);
    let shown = format!("{through:?}");
    assert!(!shown.contains("hunter2"), "{shown}");
    let wrapper = through.build().unwrap();
    wrapper.preflight().await.unwrap();
    let asked = proxy.asked();
    assert!(!asked.is_empty());
    for head in asked {
        let head = head.to_ascii_lowercase();
        assert!(head.starts_with("connect vault.internal:8200 "), "{head}");
        assert!(head.contains("proxy-authorization: basic "), "{head}");
        assert!(!head.contains("x-vault"), "{head}");
    }
    let shown = format!("{wrapper:?}");
    assert!(!shown.contains("hunter2"), "{shown}");

    let direct = builder.no_proxy().build().unwrap();
    let error = direct.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(proxy.asked().is_empty());
}

#[tokio::test]
async fn a_server_s_other_name_is_not_asked_for_through_a_proxy() {
    let token = Auth::token("hvs.token");
    let named = builder("transit", token).server_name("other.internal");
    named.clone().build().unwrap();
    let error = named.proxy("http://127.0.0.1:9").build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration);
    assert_eq!(error.context("setting"), Some("server_name"));
}

/// The system's certificates and the proxy are those of the environment, in a process of their own.
#[tokio::test]
async fn from_env_obeys_https_proxy_no_proxy_and_ssl_cert_file() {
    if std::env::var_os(CHILD).is_some() {
        let wrapper = TransitWrapper::from_env().limits(short()).build().unwrap();
        match std::env::var("NO_PROXY") {
            Err(_) => wrapper.preflight().await.unwrap(),
            Ok(_) => {
                let error = wrapper.preflight().await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            }
        }
        return;
    }
    let authority = Authority::new();
    let Some((process, key)) = vault(&authority.server(HOST), None).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let system = folder.path().join("system.pem");
    std::fs::write(&system, &authority.pem).unwrap();
    let proxy = Tunnels::to(&process.tls_url()).await;
    let address = format!("https://{HOST}:8200");
    for (more, goes_through) in [
        (vec![("HTTPS_PROXY", proxy.url.as_str())], true),
        (vec![("all_proxy", proxy.url.as_str())], true),
        (vec![("VAULT_PROXY_ADDR", proxy.url.as_str())], true),
        (
            vec![
                ("HTTPS_PROXY", &*proxy.url),
                ("NO_PROXY", "example.com,.internal"),
            ],
            false,
        ),
    ] {
        let mut variables = vec![
            ("VAULT_ADDR", address.as_str()),
            ("VAULT_TOKEN", key.vault.token()),
            ("TRANSIT_WRAPPER_MOUNT_PATH", &key.mount),
            ("TRANSIT_WRAPPER_KEY_NAME", NAME),
            ("SSL_CERT_FILE", system.to_str().unwrap()),
        ];
        variables.extend(more);
        let owned: Vec<(String, String)> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        // The proxy runs meanwhile.
        let child = tokio::task::spawn_blocking(move || {
            let variables: Vec<(&str, &str)> = owned
                .iter()
                .map(|(name, value)| (&**name, &**value))
                .collect();
            in_child(
                "vault::proxies::from_env_obeys_https_proxy_no_proxy_and_ssl_cert_file",
                &variables,
            );
        });
        child.await.unwrap();
        assert_eq!(!proxy.asked().is_empty(), goes_through);
    }
}
