//! Tenants under roots of their own: one in AWS KMS, one in Vault, a fleet under a local key, and Postgres beneath.

use std::fmt;
use std::io::Write as _;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kms_kit::prelude::*;
use kms_kit::{
    Blob, CampaignOptions, ErrorKind, NamedRootLimits, ResolverError, RootName, RootResolver,
    RootWrapper,
};
use kms_testkit::ManualClock;
use kms_testkit::service::{Vault, variable};
use serde_json::json;

use crate::root::{Kind, Root};
use crate::support::{DATABASE, Database, OIDC};

const RECHECK: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_customer_s_disabled_key_closes_its_tenant_alone_and_in_time_on_aws_vault_postgres() {
    let Some(scene) = Scene::new().await else {
        return;
    };
    let Scene { aws, vault, .. } = &scene;
    for root in [AWS, VAULT] {
        scene.kms.preflight_root(&name(root)).await.unwrap();
    }
    let before = scene.encrypt_all().await;
    scene
        .kms
        .assign_root(&scope(AWS), &name(AWS))
        .await
        .unwrap();
    scene
        .kms
        .assign_root(&scope(VAULT), &name(VAULT))
        .await
        .unwrap();
    scene
        .kms
        .rotate_keys(&scope(AWS), Rewrap::Yes)
        .await
        .unwrap();
    let after = scene.encrypt_all().await;
    let census = scene.kms.census().await.unwrap();
    assert_eq!(census.by_root_key[&aws.key_id], 2);
    assert_eq!(census.by_root[&Some(name(VAULT))].not_current, 0);

    // Another process opens all of it, and the fleet's rotation leaves each under its own root.
    let another = scene.process().await;
    for blobs in [&before, &after] {
        scene.opens(&another.kms, blobs, &[]).await;
    }
    let rotated = scene.rotate_all("first").await;
    assert_eq!(rotated, (3, Vec::new()));
    let census = scene.kms.census().await.unwrap();
    assert_eq!(
        (census.by_root_key[&aws.key_id], census.not_current),
        (3, 0)
    );

    // The customer disables the key in AWS.
    aws.disable().await;
    scene
        .closes(&[(AWS, ErrorKind::RootKeyDisabled)], &after)
        .await;
    assert_eq!(
        scene.rotate_all("second").await,
        (2, vec![(AWS.to_owned(), "RootKeyDisabled".to_owned())])
    );

    // The other one withdraws the policy in Vault as well.
    vault
        .admin
        .delete(&format!("sys/policies/acl/{}", vault.policy))
        .await;
    let closed = [
        (AWS, ErrorKind::RootKeyDisabled),
        (VAULT, ErrorKind::Denied),
    ];
    scene.closes(&closed, &after).await;
    let error = scene.kms.unassign_root(&scope(AWS)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::RootKeyDisabled);

    // Both give it back.
    aws.enable().await;
    let policy = format!("sys/policies/acl/{}", vault.policy);
    vault
        .admin
        .write(&policy, json!({ "policy": vault.rules }))
        .await;
    scene.clock.advance(Duration::from_secs(300));
    for tenant in TENANTS {
        // The first call after the pause finds out.
        let _ = scene.kms.wrapper(&scope(tenant), &OIDC).await;
    }
    scene.opens(&scene.kms, &before, &[]).await;
    assert_eq!(scene.rotate_all("second").await, (3, Vec::new()));
    scene.kms.unassign_root(&scope(AWS)).await.unwrap();
    aws.disable().await;
    scene.opens(&scene.process().await.kms, &after, &[]).await;
}

const FLEET: &str = "fleet";
const AWS: &str = "customer-aws";
const VAULT: &str = "customer-vault";
const TENANTS: [&str; 3] = [FLEET, AWS, VAULT];

struct Scene {
    database: Database,
    fleet: Arc<dyn Wrapper>,
    aws: Arc<Root>,
    vault: Arc<CustomerVault>,
    kms: Kms,
    clock: Arc<ManualClock>,
}

/// A Vault as the guide tells the customer to set it up.
struct CustomerVault {
    admin: Vault,
    policy: String,
    rules: String,
    url: String,
    _token: tempfile::NamedTempFile,
}

struct Process {
    kms: Kms,
    clock: Arc<ManualClock>,
}

impl Scene {
    async fn new() -> Option<Self> {
        let database = Database::postgres()?;
        let aws = Root::aws(variable("aws", "KMS_TEST_AWS_ENDPOINT")?).await;
        let vault = CustomerVault::new(Vault::shared()?).await;
        let fleet = Root::new(Kind::Aead).await?.wrapper("");
        database.execute("create table customer_root (name text primary key, url text not null)");
        let urls = [(AWS, &aws.url), (VAULT, &vault.url)];
        for (name, url) in urls {
            database.execute(&format!(
                "insert into customer_root values ('{name}', '{url}')"
            ));
        }
        let (aws, vault) = (Arc::new(aws), Arc::new(vault));
        let Process { kms, clock } = process(&database, &fleet, &aws).await;
        for tenant in TENANTS {
            database.execute(&format!(
                "insert into organization (id) values ('{tenant}')"
            ));
            kms.create_keys(&scope(tenant), &[DATABASE, OIDC])
                .await
                .unwrap();
        }
        Some(Self {
            database,
            fleet,
            aws,
            vault,
            kms,
            clock,
        })
    }

    async fn process(&self) -> Process {
        process(&self.database, &self.fleet, &self.aws).await
    }

    async fn encrypt_all(&self) -> Vec<(&'static str, Blob)> {
        let mut blobs = Vec::new();
        for tenant in TENANTS {
            let wrapper = self.kms.wrapper(&scope(tenant), &OIDC).await.unwrap();
            blobs.push((tenant, wrapper.encrypt(tenant.as_bytes(), b"").unwrap()));
        }
        blobs
    }

    /// Every blob opens but those of these tenants.
    async fn opens(&self, kms: &Kms, blobs: &[(&str, Blob)], closed: &[(&str, ErrorKind)]) {
        for (tenant, blob) in blobs {
            let opened = kms.decrypt(&scope(tenant), &OIDC, blob, b"").await;
            match closed.iter().find(|(closed, _)| closed == tenant) {
                None => assert_eq!(opened.unwrap().expose(), tenant.as_bytes()),
                Some((_, kind)) => {
                    let error = opened.unwrap_err();
                    assert_eq!(error.kind(), *kind, "{error:?}");
                    assert_eq!(error.context("root"), Some(*tenant));
                }
            }
        }
    }

    /// These tenants are closed when the time of a recheck is over, in this process and in a new one.
    async fn closes(&self, closed: &[(&str, ErrorKind)], blobs: &[(&str, Blob)]) {
        self.clock.advance(RECHECK);
        self.opens(&self.kms, blobs, closed).await;
        self.opens(&self.process().await.kms, blobs, closed).await;
    }

    /// How many tenants it rotated, and which failed with which kind.
    async fn rotate_all(&self, id: &str) -> (u64, Vec<(String, String)>) {
        let options = CampaignOptions::new(id);
        let outcome = self.kms.rotate_all(&options, Rewrap::Yes, |_| {}).await;
        let outcome = outcome.unwrap();
        let report = outcome.report().unwrap();
        let failures = report.failures.iter();
        let failed = failures.map(|failure| (failure.scope.to_string(), failure.kind.clone()));
        (report.done, failed.collect())
    }
}

/// Looks the URL up in a table of the application's own.
struct Customers {
    database: String,
    aws: Arc<Root>,
}

#[async_trait]
impl RootResolver for Customers {
    async fn resolve(&self, name: &RootName) -> Result<Option<Arc<dyn Wrapper>>, ResolverError> {
        let query = format!("select url as t from customer_root where name = '{name}'");
        let find = || Database::borrowed_postgres(self.database.clone()).texts(&query);
        let Some(url) = tokio::task::block_in_place(find).pop() else {
            return Ok(None);
        };
        if url == self.aws.url {
            // Its credentials would come from the environment, which a test does not change.
            return Ok(Some(self.aws.wrapper(&self.aws.endpoint())));
        }
        Ok(Some(Arc::new(RootWrapper::from_url(&url)?)))
    }
}

impl fmt::Debug for Customers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Customers")
    }
}

impl CustomerVault {
    async fn new(admin: Vault) -> Self {
        let mount = admin.transit().await;
        admin.create_key(&mount, "app").await;
        let guide = include_str!("../../../docs/root-per-tenant.md");
        let (_, rules) = guide.split_once("```hcl\n").unwrap();
        let (rules, _) = rules.split_once("```").unwrap();
        let rules = rules.replace("transit/", &format!("{mount}/"));
        let policy = admin.policy(&rules).await;
        let token = admin.create_token(json!({ "policies": [policy] })).await;
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(token.as_bytes()).unwrap();
        Self {
            url: format!(
                "vault+{}/{mount}/keys/app?key_id_prefix={mount}-&token_file={}",
                admin.url(),
                file.path().display()
            ),
            admin,
            policy,
            rules,
            _token: file,
        }
    }
}

async fn process(database: &Database, fleet: &Arc<dyn Wrapper>, aws: &Arc<Root>) -> Process {
    let clock = Arc::new(ManualClock::new());
    let Database::Postgres { url, .. } = database else {
        panic!("these tests are about Postgres")
    };
    let resolver = Customers {
        database: url.clone(),
        aws: Arc::clone(aws),
    };
    let kms = kms_kit::builder(database.repository())
        .root_wrapper(Arc::clone(fleet))
        .root_resolver(Arc::new(resolver))
        .named_root_limits(NamedRootLimits::default().with_recheck(RECHECK))
        .purposes([DATABASE, OIDC])
        .clock(Arc::clone(&clock) as _)
        .build()
        .await
        .unwrap();
    Process { kms, clock }
}

fn scope(id: &str) -> ScopeId {
    ScopeId::new(id).unwrap()
}

fn name(name: &str) -> RootName {
    RootName::new(name).unwrap()
}
