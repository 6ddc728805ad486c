//! A database that the Go system made: adopted, read, changed, bound. The data is described in `data/README.md`.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use data_encoding::BASE64;
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, Binding, CampaignOptions, ErrorKind, Repository, Scopes};
use serde::Deserialize;
use support::{Connection, Database};

/// Something that Go encrypted.
#[derive(Deserialize)]
struct Record {
    scope: String,
    purpose: String,
    key_version_id: String,
    #[serde(default)]
    aad_b64: String,
    plaintext_b64: String,
    blob_b64: String,
}

const PURPOSES: [Purpose; 3] = [
    Purpose::from_static("database"),
    Purpose::from_static("oidc"),
    Purpose::from_static("sessions"),
];

fn records() -> Vec<Record> {
    let records: Vec<Record> = serde_json::from_str(include_str!("data/go.records.json")).unwrap();
    assert_eq!(records.len(), 72);
    records
}

fn root() -> Arc<dyn Wrapper> {
    let wrapper = AeadWrapper::builder("root").key_text(include_str!("data/go.root.hex").trim());
    Arc::new(wrapper.build().unwrap())
}

async fn engine(repository: Arc<dyn Repository>, binding: Binding) -> Kms {
    kms_kit::builder(repository)
        .root_wrapper(root())
        .purposes(PURPOSES)
        .binding(binding)
        .build()
        .await
        .unwrap()
}

async fn decrypt_all(kms: &Kms) {
    for record in records() {
        let scope = ScopeId::new(&record.scope).unwrap();
        let purpose = Purpose::new(&record.purpose).unwrap();
        let decode = |text: &str| BASE64.decode(text.as_bytes()).unwrap();
        let blob = Blob::decode(&decode(&record.blob_b64)).unwrap();
        assert_eq!(blob.key_id(), record.key_version_id);
        let aad = decode(&record.aad_b64);
        let plain = kms.decrypt(&scope, &purpose, &blob, &aad).await.unwrap();
        assert_eq!(plain.expose(), decode(&record.plaintext_b64));
        let error = kms
            .decrypt(&scope, &purpose, &blob, b"wrong")
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    }
}

/// From reading beside Go to the point where every key is bound.
async fn take_over(repository: impl Fn() -> Arc<dyn Repository>) {
    let beside_go = engine(repository(), Binding::GoCompatible).await;
    decrypt_all(&beside_go).await;
    let scope = ScopeId::new(&records()[0].scope).unwrap();
    beside_go.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    decrypt_all(&beside_go).await;
    let census = beside_go.census().await.unwrap();
    assert_eq!(census.scopes, 4);
    assert_eq!(
        census.unbound,
        census.root_key_versions + census.data_key_versions
    );
    assert_eq!(census.not_current, 0);

    let error = engine(repository(), Binding::Required)
        .await
        .wrapper(&scope, &PURPOSES[0])
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnboundKey);

    let migrating = engine(repository(), Binding::Migrating).await;
    let options = CampaignOptions::new("bind");
    let outcome = migrating
        .rewrap_all(&options, RewrapKeys::All, |_| {})
        .await
        .unwrap();
    let outcome = outcome.report().unwrap();
    assert_eq!((outcome.done, outcome.failures.len()), (4, 0));
    assert_eq!(migrating.census().await.unwrap().unbound, 0);

    let alone = engine(repository(), Binding::Required).await;
    decrypt_all(&alone).await;
    let outcome = alone.reconcile_keys(Scopes::All, &PURPOSES).await.unwrap();
    assert!(outcome.created.is_empty() && outcome.failed.is_empty());
}

#[tokio::test]
async fn a_sqlite_database_of_go_is_adopted_and_every_record_decrypts() {
    let database = Database::empty_sqlite();
    let Database::Sqlite { path, .. } = &database else {
        unreachable!()
    };
    std::fs::write(path, include_bytes!("data/go.sqlite3")).unwrap();
    let error = kms_kit::builder(database.repository())
        .build()
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion);
    let Connection::Sqlite(mut connection) = database.connect() else {
        unreachable!()
    };
    kms_kit::migrations::sqlite::adopt(&mut connection).unwrap();
    take_over(|| database.repository()).await;
}

#[tokio::test]
async fn on_postgres_every_record_of_go_decrypts_too() {
    let Some(database) = Database::empty_postgres() else {
        return;
    };
    let Connection::Postgres(mut connection) = database.connect() else {
        unreachable!()
    };
    kms_kit::migrations::postgres::run(&mut connection).unwrap();
    copy_rows_of_go(&database);
    take_over(|| database.repository()).await;
}

/// Go's rows, from the SQLite file into Postgres, versions in their order so that they get their numbers.
fn copy_rows_of_go(to: &Database) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("go.sqlite3");
    std::fs::write(&path, include_bytes!("data/go.sqlite3")).unwrap();
    let from = Database::Sqlite {
        path: path.to_str().unwrap().to_owned(),
        folder: Some(folder),
    };
    for query in [
        "select 'insert into kms_root_key (private_id, scope_id) values (''' || private_id || ''', ''' || scope_id || ''')' as t
         from kms_root_key",
        "select 'insert into kms_root_key_version (private_id, root_key_id, key) values (''' || private_id || ''', '''
         || root_key_id || ''', ''\\x' || hex(key) || ''')' as t from kms_root_key_version order by version",
        "select 'insert into kms_data_key (private_id, root_key_id, purpose) values (''' || private_id || ''', '''
         || root_key_id || ''', ''' || purpose || ''')' as t from kms_data_key",
        "select 'insert into kms_data_key_version (private_id, data_key_id, root_key_version_id, key) values ('''
         || private_id || ''', ''' || data_key_id || ''', ''' || root_key_version_id || ''', ''\\x' || hex(key) || ''')' as t
         from kms_data_key_version order by version",
    ] {
        let mut connection = to.connect();
        for statement in from.texts(query) {
            connection.execute(&statement);
        }
    }
}
