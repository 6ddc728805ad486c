//! A LocalStack of one test.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

use crate::port::ReservedPort;
use crate::service::variable;

const PYTHON: &str = "KMS_TEST_AWS_LOCALSTACK";
const LAUNCH: &str = "KMS_TEST_AWS_LAUNCH";

/// Far above what it takes, 2 seconds on an idle machine.
const START: Duration = Duration::from_secs(120);

/// AWS KMS as LocalStack emulates it, in a process of this test, which may stop it and start it again on the
/// same port.
///
/// It keeps nothing across a restart: a key that has to survive one is made again with the same tags
/// `_custom_id_` (a UUID) and `_custom_key_material_` (32 bytes in base64). Dropping it ends the process and
/// removes its files.
///
/// `KMS_TEST_AWS_LOCALSTACK` names the Python that has LocalStack installed, `KMS_TEST_AWS_LAUNCH` the script
/// that starts it on the loopback interface.
#[derive(Debug)]
pub struct LocalStack {
    python: PathBuf,
    launch: PathBuf,
    port: ReservedPort,
    folder: PathBuf,
    process: Option<Child>,
}

impl LocalStack {
    /// Starts one; `None` where there is none to start, as [`variable`] says.
    ///
    /// # Panics
    ///
    /// If it does not start, or is required and not there.
    pub async fn start_own() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let python = variable("aws", PYTHON)?;
        let launch = variable("aws", LAUNCH)?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("kms-localstack-{}-{number}", std::process::id());
        let folder = std::env::temp_dir().join(name);
        fs::create_dir_all(&folder).expect("the folder for temporary files takes another one");
        let mut service = Self {
            python: python.into(),
            launch: launch.into(),
            port: ReservedPort::new().expect("the system has a free port"),
            folder,
            process: None,
        };
        service.start().await;
        Some(service)
    }

    /// The URL of the service, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.port.address())
    }

    /// Kills the process. Connections to the port are refused from then on.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it after a [`stop`](Self::stop), on the same port and without any key, and waits until it answers.
    ///
    /// # Panics
    ///
    /// If it does not start within two minutes.
    pub async fn start(&mut self) {
        let log = self.folder.join("log");
        let output = File::create(&log).expect("a file can be created there");
        let errors = output.try_clone().expect("a file handle can be cloned");
        let process = Command::new(&self.python)
            .arg(&self.launch)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", &self.folder)
            .env("FILESYSTEM_ROOT", &self.folder)
            .env("OVERRIDE_IN_DOCKER", "0")
            .env("GATEWAY_LISTEN", self.port.address().to_string())
            .env("SERVICES", "kms")
            .env("EAGER_SERVICE_LOADING", "1")
            .env("DNS_ADDRESS", "0")
            .env("SKIP_SSL_CERT_DOWNLOAD", "1")
            .env("DISABLE_EVENTS", "1")
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .expect("the Python of LocalStack starts");
        self.process = Some(process);
        let deadline = Instant::now() + START;
        // The first call loads the service, and takes seconds.
        while !self.answers(deadline).await {
            let ended = self
                .process
                .as_mut()
                .is_none_or(|process| !matches!(process.try_wait(), Ok(None)));
            assert!(
                !ended && Instant::now() < deadline,
                "LocalStack does not start: {}",
                fs::read_to_string(&log).unwrap_or_default()
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    async fn answers(&self, deadline: Instant) -> bool {
        let ask = async {
            let mut connection = TcpStream::connect(self.port.address()).await?;
            let request = "POST / HTTP/1.0\r\n\
                content-type: application/x-amz-json-1.1\r\n\
                x-amz-target: TrentService.ListKeys\r\n\
                authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kms/aws4_request, \
                SignedHeaders=host, Signature=0\r\n\
                content-length: 2\r\n\r\n{}";
            connection.write_all(request.as_bytes()).await?;
            let mut answer = Vec::new();
            connection.read_to_end(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let left = deadline.saturating_duration_since(Instant::now());
        matches!(timeout(left, ask).await, Ok(Ok(answer)) if answer.windows(5).any(|part| part == b" 200 "))
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        self.stop();
        // What is left there is small, and in the way of nothing.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
