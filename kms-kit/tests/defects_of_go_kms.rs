//! What the Go system is known to do wrong, tried on real databases. Of the others, 1 is in `kms-core/tests/pool.rs`
//! and with the wrapper it is about, 2, 3 and 4 are in `kms-core/tests/freshness.rs`, and 14 is in
//! `kms-wrapper-aead/tests/wiping.rs` and `secrets.rs`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use kms_kit::prelude::*;
use kms_kit::{ErrorKind, KeyVersionId, Scopes};
use support::{DATABASE, OIDC, World};

on_both_databases! {
    defect_05_scope_and_purpose_can_not_run_into_each_other
    defect_06_and_invariant_02_no_root_call_while_a_transaction_is_open
    defect_07_a_failed_version_bump_leaves_no_transaction_open
    defect_08_revoking_a_root_key_version_that_wraps_something_is_refused
    defect_09_the_newest_version_is_not_revoked
    defect_10_reconciling_a_scope_is_all_or_nothing
    defect_11_a_rotation_between_two_queries_is_never_seen_as_not_found
    defect_12_a_wrapped_key_moved_by_hand_does_not_open
    defect_13_the_tables_that_reference_key_versions_are_named_right
}

async fn defect_05_scope_and_purpose_can_not_run_into_each_other(world: &World) {
    let (ab, a) = (ScopeId::new("ab").unwrap(), ScopeId::new("a").unwrap());
    let (c, bc) = (Purpose::new("c").unwrap(), Purpose::new("bc").unwrap());
    for id in ["ab", "a"] {
        world
            .database
            .execute(&format!("insert into organization (id) values ('{id}')"));
    }
    let kms = world
        .builder()
        .purposes([c.clone(), bc.clone()])
        .build()
        .await
        .unwrap();
    kms.create_keys(&ab, std::slice::from_ref(&c))
        .await
        .unwrap();
    kms.create_keys(&a, std::slice::from_ref(&bc))
        .await
        .unwrap();
    let one = kms.wrapper(&ab, &c).await.unwrap();
    let other = kms.wrapper(&a, &bc).await.unwrap();
    assert_ne!(one.key_version_id(), other.key_version_id());
    let error = kms.wrapper(&ab, &bc).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownPurpose);
}

async fn defect_06_and_invariant_02_no_root_call_while_a_transaction_is_open(world: &World) {
    let watchful = watchful::Watchful::new(world);
    // It does see one, and none where there is none.
    let patience = Duration::from_millis(50);
    world.database.connect().transaction(false, |connection| {
        connection.execute("update kms_collection_version set version = version");
        assert!(!watchful.no_transaction_waits(patience));
    });
    assert!(watchful.no_transaction_waits(patience));
    let calls = watchful.calls();
    let kms = world
        .builder()
        .root_wrapper(std::sync::Arc::new(watchful))
        .build()
        .await
        .unwrap();
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1')");
    kms.create_keys(&scope, &[DATABASE]).await.unwrap();
    kms.reconcile_keys(Scopes::All, &[DATABASE, OIDC])
        .await
        .unwrap();
    kms.wrapper(&scope, &OIDC).await.unwrap();
    kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    kms.wrapper(&scope, &OIDC).await.unwrap();
    kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
    let options = kms_kit::CampaignOptions::new("c").batch_size(1);
    let _ = kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap();
    let prepared = kms.prepare_rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    let mut connection = world.database.connect();
    let receipts = connection.transaction(true, |connection| {
        connection.apply_changes(&[prepared.change_set()]).unwrap()
    });
    kms.accept(&receipts);
    kms.wrapper(&scope, &OIDC).await.unwrap();
    assert!(calls.load(std::sync::atomic::Ordering::Relaxed) >= 15);
}

async fn defect_07_a_failed_version_bump_leaves_no_transaction_open(world: &World) {
    let scope = world.scope("o_1").await;
    if world.database.is_postgres() {
        world.database.execute(
            "create function fail() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
             create trigger fail before update on kms_collection_version for each row execute function fail()",
        );
    } else {
        world.database.execute(
            "create trigger fail before update on kms_collection_version begin select raise(abort, 'no'); end",
        );
    }
    for _ in 0..10 {
        // More often than the pool has connections.
        let error = world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Database);
        assert!(std::error::Error::source(&error).is_some());
    }
    if world.database.is_postgres() {
        let open = world.database.count(
            "select count(*) as n from pg_stat_activity
             where datname = current_database() and xact_start is not null and pid <> pg_backend_pid()
             and backend_type = 'client backend'",
        );
        assert_eq!(open, 0);
        world
            .database
            .execute("drop trigger fail on kms_collection_version");
    } else {
        world.database.execute("drop trigger fail");
    }
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    assert_eq!(
        world.kms.list_keys(&scope).await.unwrap()[0].versions.len(),
        2
    );
}

async fn defect_08_revoking_a_root_key_version_that_wraps_something_is_refused(world: &World) {
    let scope = world.scope("o_1").await;
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let first = world.kms.list_keys(&scope).await.unwrap()[0].versions[0]
        .id
        .clone();
    for error in [
        world.kms.revoke_key_version(&first).await.unwrap_err(),
        world
            .kms
            .dangerous()
            .revoke_key_version(&first)
            .await
            .unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert_eq!(error.context("key_version"), Some(first.as_str()));
    }
    // By hand neither.
    let data_versions = "select count(*) as n from kms_data_key_version";
    let before = world.database.count(data_versions);
    let delete = format!("delete from kms_root_key_version where private_id = '{first}'");
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        world.database.execute(&delete);
    }));
    assert!(result.is_err());
    assert_eq!(world.database.count(data_versions), before);
    world
        .kms
        .rewrap_keys(&scope, RewrapKeys::All)
        .await
        .unwrap();
    world.kms.revoke_key_version(&first).await.unwrap();
    assert_eq!(world.database.count(data_versions), before);
}

async fn defect_09_the_newest_version_is_not_revoked(world: &World) {
    let scope = world.scope("o_1").await;
    for key in world.kms.list_keys(&scope).await.unwrap() {
        let newest = &key.versions[0].id;
        let error = world.kms.revoke_key_version(newest).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewestVersion);
        let error = world
            .kms
            .dangerous()
            .revoke_key_version(newest)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NewestVersion);
    }
}

async fn defect_10_reconciling_a_scope_is_all_or_nothing(world: &World) {
    let broken = Purpose::from_static("broken");
    let added = Purpose::from_static("added");
    let good = world.scope("good").await;
    let bad = world.scope("bad").await;
    if world.database.is_postgres() {
        world.database.execute(
            // Our functions write with a `search_path` of their own, so it needs its own too.
            "create function fail() returns trigger language plpgsql set search_path from current as $$ begin
               if new.purpose = 'broken' and new.root_key_id =
                 (select private_id from kms_root_key where scope_id = 'bad') then
                 raise exception 'no'; end if; return new; end $$;
             create trigger fail before insert on kms_data_key for each row execute function fail()",
        );
    } else {
        world.database.execute(
            "create trigger fail before insert on kms_data_key
             when new.purpose = 'broken' and new.root_key_id =
               (select private_id from kms_root_key where scope_id = 'bad')
             begin select raise(abort, 'no'); end",
        );
    }
    let purposes = [added.clone(), broken.clone()];
    let kms = world
        .builder()
        .purposes(purposes.clone())
        .build()
        .await
        .unwrap();
    let outcome = kms.reconcile_keys(Scopes::All, &purposes).await.unwrap();
    assert_eq!(outcome.created, [(good.clone(), purposes.to_vec())]);
    assert_eq!(outcome.failed.len(), 1);
    assert_eq!(outcome.failed[0].0, bad);
    assert_eq!(kms.list_keys(&bad).await.unwrap().len(), 3);
    assert_eq!(kms.list_keys(&good).await.unwrap().len(), 5);
}

async fn defect_11_a_rotation_between_two_queries_is_never_seen_as_not_found(world: &World) {
    let scope = world.scope("o_1").await;
    let blob = world
        .kms
        .wrapper(&scope, &OIDC)
        .await
        .unwrap()
        .encrypt(b"x", b"")
        .unwrap();
    let changer = world.another_process().await;
    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let changes = tokio::spawn({
        let scope = scope.clone();
        async move {
            let mut rounds = 0;
            while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
                changer.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
                let root = changer.list_keys(&scope).await.unwrap().remove(0);
                for old in root.versions.iter().rev().skip(1) {
                    changer.revoke_key_version(&old.id).await.unwrap();
                }
                rounds += 1;
            }
            rounds
        }
    });
    let reader = world
        .builder()
        .freshness(Freshness::Always)
        .build()
        .await
        .unwrap();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3);
    let mut reads = 0;
    while tokio::time::Instant::now() < deadline || reads < 20 {
        let plain = reader.decrypt(&scope, &OIDC, &blob, b"").await.unwrap();
        assert_eq!(plain.expose(), b"x");
        reads += 1;
    }
    stop.send(()).unwrap();
    assert!(changes.await.unwrap() > 2);
}

async fn defect_12_a_wrapped_key_moved_by_hand_does_not_open(world: &World) {
    let (mine, other) = (world.scope("o_1").await, world.scope("o_2").await);
    world.kms.rotate_keys(&mine, Rewrap::No).await.unwrap();
    let newest = async |scope: &ScopeId| {
        let wrapper = world.kms.wrapper(scope, &OIDC).await.unwrap();
        wrapper.key_version_id().to_string()
    };
    let (from, to) = (newest(&other).await, newest(&mine).await);
    let fails = async || {
        let kms = world.another_process().await;
        let wrapper = kms.wrapper(&mine, &OIDC).await.unwrap();
        wrapper.encrypt(b"x", b"").unwrap_err().kind()
    };
    world
        .another_process()
        .await
        .wrapper(&mine, &OIDC)
        .await
        .unwrap()
        .encrypt(b"", b"")
        .unwrap();
    world.database.execute(&format!(
        "update kms_data_key_version set key =
         (select key from kms_data_key_version where private_id = '{from}') where private_id = '{to}'"
    ));
    assert_eq!(fails().await, ErrorKind::TamperedKey);

    // An old version renumbered as the newest.
    let world_of_old = &world.scope("o_3").await;
    let old = world
        .kms
        .wrapper(world_of_old, &OIDC)
        .await
        .unwrap()
        .key_version_id()
        .to_string();
    world
        .kms
        .rotate_keys(world_of_old, Rewrap::No)
        .await
        .unwrap();
    world.database.execute(&format!(
        "update kms_data_key_version set version = 3 where private_id = '{old}'"
    ));
    let kms = world.another_process().await;
    let wrapper = kms.wrapper(world_of_old, &OIDC).await.unwrap();
    assert_eq!(wrapper.key_version_id().as_str(), old);
    assert_eq!(
        wrapper.encrypt(b"x", b"").unwrap_err().kind(),
        ErrorKind::TamperedKey
    );
}

async fn defect_13_the_tables_that_reference_key_versions_are_named_right(world: &World) {
    if world.database.is_postgres() {
        // Tables of the same names in another schema are none of ours.
        world.database.execute(
            "create schema other;
             create table other.kms_data_key_version (private_id text primary key);
             create table other.stranger (key_version_id text references other.kms_data_key_version (private_id));
             create schema app;
             create table app.\"Odd \"\"name\" (\"Key\" text references public.kms_data_key_version (private_id))",
        );
    } else {
        world.database.execute(
            "create table \"Odd \"\"name\" (\"Key\" text references KMS_data_key_version)",
        );
    }
    let found = world.kms.data_key_version_referencers().await.unwrap();
    let mut tables: Vec<_> = found
        .iter()
        .map(|known| (known.table.as_str(), known.column.as_str()))
        .collect();
    tables.sort_unstable();
    assert_eq!(
        tables,
        [("Odd \"name", "Key"), ("oidc_client", "key_version_id")]
    );

    let scope = world.scope("o_1").await;
    let used = world
        .kms
        .wrapper(&scope, &OIDC)
        .await
        .unwrap()
        .key_version_id()
        .clone();
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let table = if world.database.is_postgres() {
        "app.\"Odd \"\"name\""
    } else {
        "\"Odd \"\"name\""
    };
    world
        .database
        .execute(&format!("insert into {table} values ('{used}')"));
    let error = world
        .kms
        .revoke_key_version(&KeyVersionId::Data(used))
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert!(
        error.context("table").unwrap().contains("Odd \"name"),
        "{error}"
    );
}

mod watchful {
    //! A root wrapper that looks, on each call, whether any session keeps a transaction open for it.

    use std::sync::atomic::{AtomicU64, Ordering};
    use std::sync::{Arc, PoisonError};
    use std::time::{Duration, Instant};

    use kms_kit::core::Result;
    use kms_kit::prelude::*;
    use kms_kit::{Claim, Ownership, SecretBytes};

    use super::support::{Connection, World};

    /// Each transaction of a client, by its session and its begin.
    const OPEN: &str = "select concat(pid, ' ', xact_start) as t from pg_stat_activity
         where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'
         and (xact_start is not null or state like 'idle in%')";

    #[derive(Debug)]
    pub(super) struct Watchful {
        inner: Arc<dyn Wrapper>,
        connection: std::sync::Mutex<Eyes>,
        calls: Arc<AtomicU64>,
    }

    struct Eyes(Connection);

    impl std::fmt::Debug for Eyes {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Eyes")
        }
    }

    impl Watchful {
        pub(super) fn new(world: &World) -> Self {
            Self {
                inner: Arc::clone(&world.root),
                connection: std::sync::Mutex::new(Eyes(world.database.connect())),
                calls: Arc::default(),
            }
        }

        pub(super) fn calls(&self) -> Arc<AtomicU64> {
            Arc::clone(&self.calls)
        }

        /// Whether each transaction that is open now ends within `patience`, which it can't if it waits for this call.
        ///
        /// What a campaign does for other scopes goes on during the call, and autovacuum keeps its own time.
        pub(super) fn no_transaction_waits(&self, patience: Duration) -> bool {
            let mut eyes = self
                .connection
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            let eyes = &mut eyes.0;
            if let Connection::Sqlite(_) = eyes {
                // It gets the only write lock, or somebody else keeps it.
                eyes.execute(&format!("pragma busy_timeout = {}", patience.as_millis()));
                return eyes.try_execute("begin immediate; rollback").is_ok();
            }
            let deadline = Instant::now() + patience;
            let mut open = eyes.texts(OPEN);
            loop {
                if open.is_empty() {
                    return true;
                }
                if Instant::now() >= deadline {
                    return false;
                }
                std::thread::sleep(Duration::from_millis(1));
                let still = eyes.texts(OPEN);
                open.retain(|transaction| still.contains(transaction));
            }
        }

        fn look(&self) {
            self.calls.fetch_add(1, Ordering::Relaxed);
            assert!(
                self.no_transaction_waits(Duration::from_secs(20)),
                "a transaction is open and waits for a call of the root wrapper"
            );
        }
    }

    #[async_trait::async_trait]
    impl Wrapper for Watchful {
        fn kind(&self) -> &'static str {
            self.inner.kind()
        }
        fn key_id(&self) -> Option<String> {
            self.inner.key_id()
        }
        fn owns(&self, blob: &Blob) -> Ownership {
            self.inner.owns(blob)
        }
        fn is_current(&self, blob: &Blob) -> Ownership {
            self.inner.is_current(blob)
        }
        fn claims(&self) -> Vec<Claim> {
            self.inner.claims()
        }
        async fn encrypt(&self, plaintext: &[u8], aad: &[u8]) -> Result<Blob> {
            self.look();
            self.inner.encrypt(plaintext, aad).await
        }
        async fn decrypt(&self, blob: &Blob, aad: &[u8]) -> Result<SecretBytes> {
            self.look();
            self.inner.decrypt(blob, aad).await
        }
    }
}
