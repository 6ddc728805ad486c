//! Root keys in the services that the environment names, a new one for each test.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};
use data_encoding::HEXLOWER;
use kms_kit::core::{CallLimits, KeyBytes};
use kms_kit::vault::{Auth, TransitWrapper};
use kms_kit::{AeadWrapper, Wrapper};
use kms_testkit::FaultyProxy;
use kms_testkit::fake_cloud_kms::FakeCloudKmsClient;
use kms_testkit::service::{SoftHsm, Vault, variable};

/// A root key and how an engine gets at it.
pub(crate) struct Root {
    service: Service,
    /// What a `RootWrapper` is made from.
    pub(crate) url: String,
    /// What it reads from the environment besides.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// What the blobs that it wraps carry.
    pub(crate) key_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Aead,
    Aws,
    Gcp,
    SoftHsm,
    Vault,
}

/// Where the key is, and how its service names it.
enum Service {
    Aead {
        key: String,
    },
    Aws {
        endpoint: String,
        arn: String,
    },
    Gcp {
        client: FakeCloudKmsClient,
        key: String,
    },
    SoftHsm {
        token: SoftHsm,
        label: String,
    },
    Vault {
        vault: Vault,
        mount: String,
    },
}

/// Bounds with which a test of failures does not take long.
pub(crate) fn impatient() -> CallLimits {
    CallLimits::default()
        .with_connect_timeout(Duration::from_secs(1))
        .with_attempt_timeout(Duration::from_secs(1))
        .with_attempts(2)
        .with_pauses(Duration::from_millis(10), Duration::from_millis(20))
        .with_deadline(Duration::from_secs(3))
}

impl Root {
    /// A new key of this kind. `None`, and a line that says so, if its service is not there and not required.
    pub(crate) async fn new(kind: Kind) -> Option<Self> {
        Some(match kind {
            Kind::Aead => Self::aead(),
            Kind::Aws => Self::aws(variable("aws", "KMS_TEST_AWS_ENDPOINT")?).await,
            Kind::Gcp => Self::gcp(&variable("gcp", "KMS_TEST_GCP_ENDPOINT")?).await,
            Kind::SoftHsm => Self::softhsm(SoftHsm::shared()?).await,
            Kind::Vault => Self::vault(Vault::shared()?).await,
        })
    }

    fn aead() -> Self {
        let key = HEXLOWER.encode(KeyBytes::generate().unwrap().expose());
        let key_id = local_name();
        Self {
            url: format!("aead:env:KMS_TEST_LOCAL_KEY?key_id={key_id}"),
            environment: vec![("KMS_TEST_LOCAL_KEY", key.clone())],
            service: Service::Aead { key },
            key_id,
        }
    }

    pub(crate) async fn aws(endpoint: String) -> Self {
        let made = aws_client(&endpoint).create_key().send().await.unwrap();
        let arn = made.key_metadata.unwrap().arn.unwrap();
        Self {
            url: format!("awskms:///{arn}?endpoint={endpoint}"),
            environment: vec![
                ("AWS_ACCESS_KEY_ID", "test".to_owned()),
                ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ],
            key_id: arn.clone(),
            service: Service::Aws { endpoint, arn },
        }
    }

    pub(crate) async fn gcp(endpoint: &str) -> Self {
        let client = FakeCloudKmsClient::new(endpoint);
        let key = client.create_key().await;
        Self {
            url: format!(
                "gcpkms://{key}?endpoint={}&credentials=anonymous",
                client.url()
            ),
            environment: Vec::new(),
            key_id: format!("{key}/cryptoKeyVersions/1"),
            service: Service::Gcp { client, key },
        }
    }

    pub(crate) async fn vault(vault: Vault) -> Self {
        let mount = vault.transit().await;
        vault.create_key(&mount, "root").await;
        Self {
            url: format!(
                "vault+{}/{mount}/keys/root?key_id_prefix={mount}-",
                vault.url()
            ),
            environment: vec![("VAULT_TOKEN", vault.token().to_owned())],
            key_id: format!("{mount}-v1"),
            service: Service::Vault { vault, mount },
        }
    }

    async fn softhsm(token: SoftHsm) -> Self {
        let label = local_name();
        token.create_key(&label, 1);
        let (name, module) = (token.token(), token.module());
        let mut root = Self {
            url: format!("pkcs11:token={name};object={label}?module-path={module}"),
            environment: vec![("PKCS11_WRAPPER_PIN", token.pin().to_owned())],
            key_id: String::new(),
            service: Service::SoftHsm { token, label },
        };
        let wrapper = root.wrapper("");
        wrapper.preflight().await.unwrap();
        root.key_id = wrapper.key_id().unwrap();
        root
    }

    pub(crate) fn kind(&self) -> Kind {
        match self.service {
            Service::Aead { .. } => Kind::Aead,
            Service::Aws { .. } => Kind::Aws,
            Service::Gcp { .. } => Kind::Gcp,
            Service::SoftHsm { .. } => Kind::SoftHsm,
            Service::Vault { .. } => Kind::Vault,
        }
    }

    /// Where its service listens.
    pub(crate) fn endpoint(&self) -> String {
        match &self.service {
            Service::Aead { .. } | Service::SoftHsm { .. } => panic!("it is in the process"),
            Service::Aws { endpoint, .. } => endpoint.clone(),
            Service::Gcp { client, .. } => client.url().to_owned(),
            Service::Vault { vault, .. } => vault.url(),
        }
    }

    /// A proxy to its service, and a wrapper that goes through it.
    pub(crate) fn behind_a_proxy(&self) -> (FaultyProxy, Arc<dyn Wrapper>) {
        let proxy = FaultyProxy::start(&self.endpoint());
        let wrapper = self.wrapper(&proxy.url());
        (proxy, wrapper)
    }

    /// A wrapper in this process, which finds the service at this endpoint.
    pub(crate) fn wrapper(&self, endpoint: &str) -> Arc<dyn Wrapper> {
        match &self.service {
            Service::Aead { key } => {
                let builder = AeadWrapper::builder(&self.key_id).key_text(key);
                Arc::new(builder.build().unwrap())
            }
            Service::Aws { arn, .. } => {
                let builder = kms_kit::aws::builder(arn)
                    .credentials("test", "test")
                    .endpoint(endpoint)
                    .limits(impatient());
                Arc::new(builder.build().unwrap())
            }
            Service::Gcp { key, .. } => {
                let builder = kms_kit::gcp::builder(key)
                    .anonymous()
                    .endpoint(endpoint)
                    .limits(impatient());
                Arc::new(builder.build().unwrap())
            }
            Service::SoftHsm { token, label } => {
                let builder = kms_kit::pkcs11::builder()
                    .module(token.module())
                    .token_label(token.token())
                    .key_label(label)
                    .pin(token.pin())
                    .limits(impatient());
                Arc::new(builder.build().unwrap())
            }
            Service::Vault { vault, mount } => {
                let builder = TransitWrapper::builder()
                    .address(endpoint)
                    .auth(Auth::token(vault.token()))
                    .mount_path(mount)
                    .key_name("root")
                    .key_id_prefix(format!("{mount}-"))
                    .limits(impatient());
                Arc::new(builder.build().unwrap())
            }
        }
    }

    /// Disables it, in a way that can be taken back.
    pub(crate) async fn disable(&self) {
        match &self.service {
            Service::Aws { endpoint, arn } => {
                let order = aws_client(endpoint).disable_key().key_id(arn);
                order.send().await.unwrap();
            }
            Service::Gcp { client, .. } => client.disable(&self.key_id).await,
            Service::Aead { .. } | Service::SoftHsm { .. } | Service::Vault { .. } => {
                panic!("its keys are not disabled")
            }
        }
    }

    /// Takes that back.
    pub(crate) async fn enable(&self) {
        match &self.service {
            Service::Aws { endpoint, arn } => {
                let order = aws_client(endpoint).enable_key().key_id(arn);
                order.send().await.unwrap();
            }
            Service::Gcp { client, .. } => client.enable(&self.key_id).await,
            Service::Aead { .. } | Service::SoftHsm { .. } | Service::Vault { .. } => {
                panic!("its keys are not disabled")
            }
        }
    }

    /// Takes a scheduled deletion back.
    pub(crate) async fn restore(&self) {
        match &self.service {
            Service::Aws { endpoint, arn } => {
                let order = aws_client(endpoint).cancel_key_deletion().key_id(arn);
                order.send().await.unwrap();
            }
            Service::Gcp { client, .. } => client.restore(&self.key_id).await,
            Service::Aead { .. } | Service::SoftHsm { .. } | Service::Vault { .. } => {
                panic!("its keys are gone at once")
            }
        }
        // It comes back disabled.
        self.enable().await;
    }

    /// Gives it a new version, which encrypts from now on.
    pub(crate) async fn rotate_in_its_service(&self) {
        match &self.service {
            Service::Gcp { client, key } => drop(client.rotate(key).await),
            Service::Vault { vault, mount } => {
                let path = format!("{mount}/keys/root/rotate");
                vault.write(&path, serde_json::json!({})).await;
            }
            Service::Aead { .. } | Service::Aws { .. } | Service::SoftHsm { .. } => {
                panic!("it tells no versions")
            }
        }
    }

    /// Takes the first version out of use.
    pub(crate) async fn retire_the_first_version(&self) {
        match &self.service {
            Service::Gcp { client, .. } => client.destroy(&self.key_id).await,
            Service::Vault { vault, mount } => {
                let least = serde_json::json!({ "min_decryption_version": 2 });
                vault
                    .write(&format!("{mount}/keys/root/config"), least)
                    .await;
            }
            Service::Aead { .. } | Service::Aws { .. } | Service::SoftHsm { .. } => {
                panic!("it tells no versions")
            }
        }
    }

    /// Takes it out of use, as its service does that.
    pub(crate) async fn shut_down(&self) {
        match &self.service {
            // Nobody is given the variable any more.
            Service::Aead { .. } => {}
            Service::Aws { endpoint, arn } => {
                let order = aws_client(endpoint).schedule_key_deletion().key_id(arn);
                order.pending_window_in_days(7).send().await.unwrap();
            }
            Service::Gcp { client, .. } => client.destroy(&self.key_id).await,
            Service::SoftHsm { token, label } => token.destroy_key(label),
            Service::Vault { vault, mount } => vault.delete_key(mount, "root").await,
        }
    }
}

/// A name that no other key has.
fn local_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    format!("root-{}-{number}", std::process::id())
}

fn aws_client(endpoint: &str) -> aws_sdk_kms::Client {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"));
    aws_sdk_kms::Client::from_conf(config.build())
}
