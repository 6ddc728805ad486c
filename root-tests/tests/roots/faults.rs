//! The engine while its root's service fails: what is cached goes on working, what needs the service fails with
//! the right kind within the deadline, nothing is written half, and recovery needs no new start.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kms_kit::prelude::*;
use kms_kit::vault::{Auth, TransitWrapper};
use kms_kit::{Error, ErrorKind};
use kms_testkit::NetworkFault;
use kms_testkit::service::{Vault, VaultProcess};

use crate::root::{Root, impatient};
use crate::support::{DATABASE, Database, OIDC};

crate::on_each_service! {
    a_service_that_refuses_connections_is_unreachable_until_it_is_back
    a_service_that_hangs_is_given_up_by_the_deadline
    a_storm_of_429_is_throttling
    a_storm_of_503_is_an_outage
    connections_that_are_cut_are_an_outage
    a_flipped_bit_in_an_answer_is_never_used
}

mod a_disabled_key_stops_what_needs_it_until_it_is_enabled {
    use crate::root::Kind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn aws_on_postgres() {
        super::disabled_and_enabled(Kind::Aws).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn gcp_on_postgres() {
        super::disabled_and_enabled(Kind::Gcp).await;
    }
}

mod a_key_scheduled_for_deletion_stops_what_needs_it_until_that_is_taken_back {
    use crate::root::Kind;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn aws_on_postgres() {
        super::deleted_and_restored(Kind::Aws).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn gcp_on_postgres() {
        super::deleted_and_restored(Kind::Gcp).await;
    }
}

mod the_service_of_vault {
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_sealed_vault_is_told_from_others_until_it_is_unsealed_on_postgres() {
        super::sealed_and_unsealed().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_revoked_token_is_denied_until_there_is_another_on_postgres() {
        super::token_ends(false).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_expired_token_is_denied_until_there_is_another_on_postgres() {
        super::token_ends(true).await;
    }
}

/// An engine with one scope in its cache, a second engine that has nothing, and what they must live up to.
struct Scene<'a> {
    database: &'a Database,
    warm: Kms,
    cold: Kms,
    cached: ScopeId,
}

impl<'a> Scene<'a> {
    async fn on(database: &'a Database, root: &Arc<dyn Wrapper>) -> Self {
        let engine = async || {
            kms_kit::builder(database.repository())
                .root_wrapper(Arc::clone(root))
                .purposes([DATABASE, OIDC])
                .build()
                .await
                .unwrap()
        };
        let (warm, cold) = (engine().await, engine().await);
        for id in ["o_1", "o_2", "o_3"] {
            database.execute(&format!("insert into organization (id) values ('{id}')"));
        }
        let cached = ScopeId::new("o_1").unwrap();
        warm.create_keys(&cached, &[DATABASE, OIDC]).await.unwrap();
        warm.rotate_keys(&cached, Rewrap::No).await.unwrap();
        warm.ensure(&cached).await.unwrap();
        Self {
            database,
            warm,
            cold,
            cached,
        }
    }

    /// Holds the engines to their promises while the service fails. Gives the kinds of failure that were seen.
    async fn during(&self) -> Vec<ErrorKind> {
        let before = self.rows();
        // Confirmed by the database, which is there, also after the freshness is over.
        for _ in 0..2 {
            let wrapper = self.warm.wrapper(&self.cached, &OIDC).await.unwrap();
            let blob = wrapper.encrypt(b"secret", b"").unwrap();
            let secret = self.warm.decrypt(&self.cached, &OIDC, &blob, b"").await;
            assert_eq!(secret.unwrap().expose(), b"secret");
            self.warm.list_keys(&self.cached).await.unwrap();
            self.let_freshness_pass().await;
        }
        let created = ScopeId::new("o_2").unwrap();
        let kinds = vec![
            failed(self.warm.create_keys(&created, &[OIDC])).await,
            failed(self.warm.rotate_keys(&self.cached, Rewrap::Yes)).await,
            failed(self.warm.rewrap_keys(&self.cached, RewrapKeys::All)).await,
            failed(self.cold.wrapper(&self.cached, &OIDC)).await,
        ];
        assert_eq!(self.rows(), before, "nothing was written");
        kinds
    }

    /// Both engines work again, as they are.
    async fn after(&self) {
        let created = ScopeId::new("o_3").unwrap();
        self.warm.create_keys(&created, &[OIDC]).await.unwrap();
        let rotation = self.warm.rotate_keys(&self.cached, Rewrap::Yes);
        rotation.await.unwrap();
        let wrapper = self.warm.wrapper(&self.cached, &OIDC).await.unwrap();
        wrapper.encrypt(b"secret", b"").unwrap();
        // What did not open is tried again after a second, or five where that seemed to last.
        let deadline = Instant::now() + Duration::from_secs(20);
        while let Err(error) = self.cold.wrapper(&self.cached, &OIDC).await {
            assert!(Instant::now() < deadline, "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let ring = self.cold.ensure(&self.cached).await.unwrap();
        assert_eq!(ring.failures().count(), 0);
    }

    /// Another scope's change, so that the collection version moves and the cached rows are looked at anew.
    async fn let_freshness_pass(&self) {
        self.database
            .execute("update kms_collection_version set version = version + 1");
        tokio::time::sleep(Duration::from_millis(1100)).await;
    }

    /// Every row of the key tables, as text.
    fn rows(&self) -> Vec<String> {
        let tables = [
            "kms_root_key",
            "kms_root_key_version",
            "kms_data_key",
            "kms_data_key_version",
        ];
        let rows = tables.map(|table| {
            self.database.texts(&format!(
                "select row_to_json({table})::text as t from {table} order by private_id"
            ))
        });
        rows.concat()
    }
}

/// The kind of a failure that came in time.
async fn failed<T>(work: impl Future<Output = Result<T, Error>>) -> ErrorKind {
    let start = Instant::now();
    let Err(error) = work.await else {
        panic!("it succeeded without the service");
    };
    // What machine and scheduler add is not the wrapper's.
    let added = Duration::from_secs(10);
    assert!(start.elapsed() < impatient().deadline() + added, "{error}");
    error.kind()
}

fn all(kinds: &[ErrorKind], expected: &[ErrorKind]) {
    assert!(
        kinds.iter().all(|kind| expected.contains(kind)),
        "{kinds:?}, expected {expected:?}"
    );
}

async fn a_service_that_refuses_connections_is_unreachable_until_it_is_back(
    database: &Database,
    root: &Root,
) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.refuse();
    all(&scene.during().await, &[ErrorKind::Unreachable]);
    proxy.clear();
    scene.after().await;
}

async fn a_service_that_hangs_is_given_up_by_the_deadline(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.fail(NetworkFault::Hang);
    all(&scene.during().await, &[ErrorKind::TimedOut]);
    proxy.clear();
    scene.after().await;
}

async fn a_storm_of_429_is_throttling(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.fail(NetworkFault::status(429));
    all(&scene.during().await, &[ErrorKind::Throttled]);
    proxy.clear();
    scene.after().await;
}

async fn a_storm_of_503_is_an_outage(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.fail(NetworkFault::status(503));
    all(&scene.during().await, &[ErrorKind::Unreachable]);
    proxy.clear();
    scene.after().await;
}

async fn connections_that_are_cut_are_an_outage(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.fail(NetworkFault::Cut);
    all(&scene.during().await, &[ErrorKind::Unreachable]);
    proxy.clear();
    scene.after().await;
}

/// A bit of what the service decrypted: the root key must not come out as another one. (What it encrypted is
/// checked where the service sends a checksum; elsewhere the blob fails when it is opened.)
async fn a_flipped_bit_in_an_answer_is_never_used(database: &Database, root: &Root) {
    let (proxy, wrapper) = root.behind_a_proxy();
    let scene = Scene::on(database, &wrapper).await;
    proxy.fail(NetworkFault::alter(|body| flip_in_base64(body)));
    let error = scene.cold.wrapper(&scene.cached, &OIDC).await.unwrap_err();
    assert_ne!(error.kind(), ErrorKind::Internal, "{error}");
    proxy.clear();
    scene.after().await;
}

/// Changes one letter in the longest run of base64 letters of a JSON answer: the data that it carries.
fn flip_in_base64(body: &mut [u8]) {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/".contains(byte);
    let (mut start, mut longest) = (0, 0..0);
    for position in 0..=body.len() {
        if body.get(position).is_none_or(|byte| !is_letter(byte)) {
            if position - start > longest.len() {
                longest = start..position;
            }
            start = position + 1;
        }
    }
    let middle = (longest.start + longest.end) / 2;
    if let Some(letter) = body.get_mut(middle) {
        *letter = if *letter == b'A' { b'B' } else { b'A' };
    }
}

async fn disabled_and_enabled(kind: crate::root::Kind) {
    let (Some(database), Some(root)) = (Database::postgres(), Root::new(kind).await) else {
        return;
    };
    let wrapper = root.wrapper(&root.endpoint());
    let scene = Scene::on(&database, &wrapper).await;
    root.disable().await;
    all(&scene.during().await, &[ErrorKind::RootKeyDisabled]);
    root.enable().await;
    scene.after().await;
}

/// A Vault of the test's own on disk: sealed and unsealed, then stopped and started.
async fn sealed_and_unsealed() {
    let (Some(database), Some(mut own)) = (Database::postgres(), VaultProcess::start_own().await)
    else {
        return;
    };
    let root = Root::vault(own.vault().clone()).await;
    let wrapper = root.wrapper(&root.endpoint());
    let scene = Scene::on(&database, &wrapper).await;
    own.seal().await;
    all(&scene.during().await, &[ErrorKind::ServiceSealed]);
    own.unseal().await;
    scene.after().await;

    let scopes = "delete from organization";
    database.execute(scopes);
    let scene = Scene::on(&database, &wrapper).await;
    own.stop();
    all(&scene.during().await, &[ErrorKind::Unreachable]);
    own.start().await;
    own.unseal().await;
    scene.after().await;
}

/// A token that an agent keeps in a file, and that is revoked, or lives for seconds.
async fn token_ends(expires: bool) {
    let (Some(database), Some(vault)) = (Database::postgres(), Vault::shared()) else {
        return;
    };
    let mount = vault.transit().await;
    vault.create_key(&mount, "root").await;
    let rules = format!(
        "path \"{mount}/encrypt/root\" {{ capabilities = [\"update\"] }}
         path \"{mount}/decrypt/root\" {{ capabilities = [\"update\"] }}"
    );
    let policy = vault.policy(&rules).await;
    let token = async |ttl: &str| {
        let options = serde_json::json!({
            "policies": [policy], "no_parent": true, "renewable": false, "explicit_max_ttl": ttl,
        });
        vault.create_token(options).await
    };
    let first = token(if expires { "6s" } else { "10m" }).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{first}").unwrap();
    let wrapper = TransitWrapper::builder()
        .address(vault.url())
        .auth(Auth::token_file(file.path()))
        .mount_path(&mount)
        .key_name("root")
        .key_id_prefix("main-")
        .limits(impatient())
        .build();
    let wrapper: Arc<dyn Wrapper> = Arc::new(wrapper.unwrap());
    let scene = Scene::on(&database, &wrapper).await;
    if expires {
        let deadline = Instant::now() + Duration::from_secs(30);
        while wrapper.encrypt(b"", b"").await.is_ok() {
            assert!(Instant::now() < deadline, "it does not expire");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    } else {
        vault.revoke(&first).await;
    }
    all(&scene.during().await, &[ErrorKind::Denied]);
    // As an agent does that keeps the token in its file.
    std::fs::write(file.path(), token("10m").await).unwrap();
    scene.after().await;
}

async fn deleted_and_restored(kind: crate::root::Kind) {
    let (Some(database), Some(root)) = (Database::postgres(), Root::new(kind).await) else {
        return;
    };
    let wrapper = root.wrapper(&root.endpoint());
    let scene = Scene::on(&database, &wrapper).await;
    root.shut_down().await;
    all(&scene.during().await, &[ErrorKind::RootKeyDisabled]);
    root.restore().await;
    scene.after().await;
}
