//! Invariant 1: where key material may show, and where it must not.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Write as _;
use std::io;
use std::sync::{Arc, Mutex};

use data_encoding::{BASE64, HEXLOWER, HEXUPPER};
use diesel::connection::{Instrumentation, InstrumentationEvent};
use kms_kit::core::{Aead, AeadKey, KeyBytes, KmsBuilder};
use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, Scopes};
use support::{DATABASE, OIDC, World};

on_both_databases! {
    invariant_01_no_key_and_no_plaintext_shows_in_debug_errors_logs_sql_or_the_database
}

const PLAINTEXT: &[u8] = b"the plaintext that nobody may see";

/// An AEAD provider that remembers every key it was asked to prepare: all there are.
#[derive(Default)]
struct Remembering(Mutex<Vec<[u8; 32]>>);

impl std::fmt::Debug for Remembering {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Remembering")
    }
}

impl Aead for Remembering {
    fn name(&self) -> &'static str {
        "remembering"
    }

    fn prepare(&self, key: &KeyBytes) -> Box<dyn AeadKey> {
        self.0.lock().unwrap().push(*key.expose());
        kms_kit::aead::fastest().prepare(key)
    }
}

/// Everything that was said anywhere.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<String>>);

impl Said {
    fn note(&self, thing: &dyn std::fmt::Debug) {
        let mut said = self.0.lock().unwrap();
        writeln!(said, "{thing:?} {thing:#?}").unwrap();
    }

    fn error(&self, error: &(dyn std::error::Error + 'static)) {
        self.note(&error);
        let mut cause = Some(error);
        while let Some(error) = cause {
            self.note(&error.to_string());
            cause = error.source();
        }
    }
}

impl io::Write for Said {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .unwrap()
            .push_str(&String::from_utf8_lossy(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Instrumentation for Said {
    fn on_connection_event(&mut self, event: InstrumentationEvent<'_>) {
        if let InstrumentationEvent::StartQuery { query, .. } = &event {
            self.0.lock().unwrap().push_str(&query.to_string());
        }
        self.note(&event);
    }
}

/// Diesel's hook is global and a plain function.
static SQL: Mutex<Option<Said>> = Mutex::new(None);

fn listen_to_sql() -> Option<Box<dyn Instrumentation>> {
    let said = SQL.lock().unwrap().clone()?;
    Some(Box::new(said))
}

async fn invariant_01_no_key_and_no_plaintext_shows_in_debug_errors_logs_sql_or_the_database(
    world: &World,
) {
    let said = SQL
        .lock()
        .unwrap()
        .get_or_insert_with(Said::default)
        .clone();
    diesel::connection::set_default_instrumentation(listen_to_sql).unwrap();
    let logs = said.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(Mutex::new(logs))
        .finish();
    // The other database's test may have set it already: they share what is said.
    let _ = tracing::subscriber::set_global_default(subscriber);

    let aead = Arc::new(Remembering::default());
    let root_key = KeyBytes::generate().unwrap();
    aead.prepare(&root_key);
    let root = kms_kit::AeadWrapper::builder("remembered root")
        .key(root_key)
        .aead(Arc::clone(&aead) as _)
        .build()
        .unwrap();
    said.note(&root);
    let engine = KmsBuilder::new(world.database.repository(), Arc::clone(&aead) as _)
        .root_wrapper(Arc::new(root))
        .root_may_be_new()
        .purposes([DATABASE, OIDC]);
    said.note(&engine);
    let kms = engine.build().await.unwrap();

    live(world, &kms, &said).await;

    said.note(&kms);
    for table in ["kms_root_key_version", "kms_data_key_version"] {
        let column = if world.database.is_postgres() {
            "encode(key, 'hex')"
        } else {
            "hex(key)"
        };
        said.note(
            &world
                .database
                .texts(&format!("select {column} as t from {table}")),
        );
    }
    let said = said.0.lock().unwrap().clone();
    assert!(
        said.contains("kms_root_key_version"),
        "the SQL was listened to"
    );
    assert!(said.contains("does not open"), "so were the logs");
    let mut secrets = aead
        .0
        .lock()
        .unwrap()
        .clone()
        .into_iter()
        .map(Vec::from)
        .collect::<Vec<_>>();
    assert!(secrets.len() > 10);
    secrets.push(PLAINTEXT.to_vec());
    for secret in secrets {
        for shown in [
            HEXLOWER.encode(&secret),
            HEXUPPER.encode(&secret),
            BASE64.encode(&secret),
            format!("{secret:?}"),
            String::from_utf8_lossy(&secret).into_owned(),
        ] {
            assert!(!said.contains(&shown), "{shown}");
        }
        // Not in part either.
        assert!(!said.contains(&HEXLOWER.encode(&secret[..8])));
        assert!(!said.contains(&HEXUPPER.encode(&secret[..8])));
    }
}

/// Everything that the engine does, with everything it gives out looked at, failures included.
async fn live(world: &World, kms: &Kms, said: &Said) {
    let scope = ScopeId::new("o_1").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_1'), ('o_2')");
    let prepared = kms.prepare_create_keys(&scope, &[DATABASE]).await.unwrap();
    said.note(&prepared);
    said.note(&prepared.wrapper(&DATABASE).unwrap());
    let receipts = world.database.connect().transaction(true, |connection| {
        connection.apply_changes(&[prepared.change_set()]).unwrap()
    });
    said.note(&receipts);
    kms.accept(&receipts);
    said.note(
        &kms.reconcile_keys(Scopes::All, &[DATABASE, OIDC])
            .await
            .unwrap(),
    );
    said.error(&kms.create_keys(&scope, &[OIDC]).await.unwrap_err());
    kms.create_keys(&ScopeId::new("o_2").unwrap(), &[OIDC])
        .await
        .unwrap();

    let wrapper = kms.wrapper(&scope, &OIDC).await.unwrap();
    said.note(&wrapper);
    let blob = wrapper.encrypt(PLAINTEXT, b"aad").unwrap();
    said.note(&blob);
    let plain = wrapper.decrypt(&blob, b"aad").unwrap();
    said.note(&plain);
    assert_eq!(plain.expose(), PLAINTEXT);
    said.error(&wrapper.decrypt(&blob, b"other").unwrap_err());
    said.error(&Blob::decode(&blob.encode()[..20]).map(drop).unwrap_err());

    kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    kms.rewrap_keys(&scope, RewrapKeys::All).await.unwrap();
    let options = CampaignOptions::new("c");
    said.note(&kms.rotate_all(&options, Rewrap::Yes, |_| {}).await.unwrap());
    said.note(&kms.list_keys(&scope).await.unwrap());
    said.note(&kms.census().await.unwrap());
    said.note(&kms.ensure(&scope).await.unwrap());
    said.note(&kms.root_key_wrapper(&scope).await.unwrap());

    // A row that does not open, in every operation that meets it.
    let newest = kms
        .wrapper(&scope, &OIDC)
        .await
        .unwrap()
        .key_version_id()
        .to_string();
    world.database.execute(&format!(
        "update kms_data_key_version set key =
         (select key from kms_data_key_version where private_id <> '{newest}' limit 1) where private_id = '{newest}'"
    ));
    let rows = world
        .database
        .connect()
        .load_keys(std::slice::from_ref(&scope))
        .unwrap();
    said.note(&rows);
    let ring = kms.open(&rows.scopes[0]).await;
    said.note(&ring);
    for (id, error) in ring.failures() {
        said.note(&id);
        said.error(error);
    }
    said.error(&kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap_err());
    said.error(
        &kms.revoke_key_version(&newest.parse().unwrap())
            .await
            .unwrap_err(),
    );
    kms.delete_keys(&scope).await.unwrap();
    said.error(&kms.delete_keys(&scope).await.unwrap_err());
}
