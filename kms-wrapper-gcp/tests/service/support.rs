//! Services, and wrappers of their keys.

use std::env;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use kms_core::{CallLimits, Wrapper};
use kms_testkit::fake_cloud_kms::{FakeCloudKms, FakeCloudKmsClient};
use kms_wrapper_gcp::{CloudKmsMode, CloudKmsWrapper, CloudKmsWrapperBuilder};

pub(crate) const MODES: [CloudKmsMode; 2] = [CloudKmsMode::Envelope, CloudKmsMode::Direct];

/// A service of the test's own, with a key and a wrapper of it.
pub(crate) struct Own {
    pub(crate) fake: FakeCloudKms,
    pub(crate) key: String,
    pub(crate) wrapper: Arc<CloudKmsWrapper>,
}

impl Own {
    pub(crate) async fn start(mode: CloudKmsMode) -> Self {
        Self::start_with(mode, patient()).await
    }

    pub(crate) async fn start_with(mode: CloudKmsMode, limits: CallLimits) -> Self {
        let fake = FakeCloudKms::start().await;
        let key = fake.client().create_key().await;
        let builder = builder(fake.url(), &key).mode(mode).limits(limits);
        Self {
            wrapper: Arc::new(builder.build().unwrap()),
            fake,
            key,
        }
    }

    pub(crate) fn client(&self) -> &FakeCloudKmsClient {
        self.fake.client()
    }

    pub(crate) fn version(&self, number: u32) -> String {
        format!("{}/cryptoKeyVersions/{number}", self.key)
    }
}

/// Of a key in the service at this endpoint, without credentials.
pub(crate) fn builder(endpoint: &str, key: &str) -> CloudKmsWrapperBuilder {
    CloudKmsWrapper::builder(key)
        .endpoint(endpoint)
        .anonymous()
        .limits(patient())
        .aead(Arc::new(kms_wrapper_aead::AesGcm))
}

/// Far longer than anything takes on a busy machine; pauses that cost no time.
pub(crate) fn patient() -> CallLimits {
    CallLimits::default()
        .with_connect_timeout(Duration::from_secs(20))
        .with_attempt_timeout(Duration::from_secs(40))
        .with_deadline(Duration::from_secs(90))
        .with_pauses(Duration::from_millis(1), Duration::from_millis(10))
}

/// What the service authenticates beside the fresh key of an envelope.
pub(crate) fn bound(aad: &[u8]) -> Vec<u8> {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, aad);
    [b"kms-fresh-key-v1", hash.as_ref()].concat()
}

/// Encrypts and decrypts.
pub(crate) async fn assert_works(wrapper: &dyn Wrapper) {
    let blob = wrapper.encrypt(b"plaintext", b"aad").await.unwrap();
    let back = wrapper.decrypt(&blob, b"aad").await.unwrap();
    assert_eq!(back.expose(), b"plaintext");
}

/// In the child nothing; in the parent runs the test of this name in a child with these variables, and without
/// any that could name credentials.
pub(crate) fn in_child(test: &str, variables: &[(&str, &str)]) -> bool {
    const CHILD: &str = "KMS_TEST_GCP_CHILD";
    if env::var_os(CHILD).is_some() {
        return true;
    }
    let nowhere = Path::new("/nonexistent");
    let removed = [
        "GOOGLE_APPLICATION_CREDENTIALS",
        "GOOGLE_CREDENTIALS",
        "GOOGLE_CLOUD_QUOTA_PROJECT",
        "ALL_PROXY",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
    ];
    let mut command = Command::new(env::current_exe().unwrap());
    for name in removed {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let output = command
        .args(["--exact", test, "--nocapture"])
        .env("HOME", nowhere)
        .env("APPDATA", nowhere)
        .env(CHILD, "1")
        .envs(variables.iter().copied())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    false
}

/// A service that refuses one request, and tells what that was.
pub(crate) struct Listener {
    pub(crate) address: SocketAddr,
    request: JoinHandle<Vec<u8>>,
}

impl Listener {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: listener.local_addr().unwrap(),
            request: std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = Vec::new();
                while !is_whole(&request) {
                    let mut buffer = [0; 4096];
                    let length = stream.read(&mut buffer).unwrap();
                    assert_ne!(length, 0, "the request ended early");
                    request.extend_from_slice(&buffer[..length]);
                }
                let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n");
                request
            }),
        }
    }

    /// Head and body of the request.
    pub(crate) fn request(self) -> (String, serde_json::Value) {
        let request = String::from_utf8(self.request.join().unwrap()).unwrap();
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), serde_json::from_str(body).unwrap())
    }
}

fn is_whole(request: &[u8]) -> bool {
    let text = String::from_utf8_lossy(request);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return false;
    };
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .expect("a request with a length");
    body.len() == length.parse::<usize>().unwrap()
}
