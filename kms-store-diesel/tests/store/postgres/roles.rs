//! The roles of `docs/rights.md`, made by the statements of that page, can do what they are for and no more.

use std::sync::Arc;
use std::time::Duration;

use diesel::connection::SimpleConnection as _;
use diesel::pg::PgConnection;
use diesel::prelude::*;
use kms_core::{
    Advance, CampaignRepository as _, CampaignStep, ErrorKind, Lease, NewCampaign, Proof,
    Repository as _, RootCheck,
};
use kms_store_diesel::{KeyConnection as _, PostgresRepository};
use kms_testkit::change_sets;

use super::database::PostgresDatabase;
use crate::application::Database as _;
use crate::keys::{DATABASE, apply, rows, scope};

const PAGE: &str = include_str!("../../../../docs/rights.md");

/// Roles are the server's: of each test its own.
struct Roles {
    database: PostgresDatabase,
    prefix: String,
}

impl Roles {
    /// A database with nothing but the schema of the application.
    fn new(test: &str) -> Option<Self> {
        let roles = Self {
            database: PostgresDatabase::bare()?,
            prefix: format!("roles_{}_{test}", std::process::id()),
        };
        roles.execute(
            "create role app_owner; create schema app authorization app_owner;
             create table app.organization (id text primary key);
             alter table app.organization owner to app_owner;",
        );
        Some(roles)
    }

    fn named(&self, statements: &str) -> String {
        let mut statements = statements.to_owned();
        for role in ["migrator", "reader", "writer", "operator"] {
            statements =
                statements.replace(&format!("kms_{role}"), &format!("{}_{role}", self.prefix));
        }
        statements.replace("app_owner", &format!("{}_app", self.prefix))
    }

    fn execute(&self, statements: &str) {
        self.database.execute(&self.named(statements));
    }

    /// Runs the statements of a section of the page.
    fn section(&self, title: &str) {
        let section = PAGE.split_once(&format!("\n## {title}\n")).unwrap().1;
        let section = section.split("\n## ").next().unwrap();
        let blocks: Vec<_> = section.split("```sql\n").skip(1).collect();
        assert!(!blocks.is_empty(), "{title}");
        for block in blocks {
            self.execute(block.split("```").next().unwrap());
        }
    }

    fn url(&self, role: &str) -> String {
        let url = self.database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        let role = self.named(role);
        format!("{url}{separator}options=-crole%3D{role}%20-csearch_path%3Dkeys")
    }

    fn connect(&self, role: &str) -> PgConnection {
        PgConnection::establish(&self.url(role)).unwrap()
    }

    fn repository(&self, role: &str) -> PostgresRepository {
        PostgresRepository::builder(self.url(role)).build().unwrap()
    }

    fn refused(&self, role: &str, statements: &[&str]) {
        let mut connection = self.connect(role);
        for statement in statements {
            let error = connection
                .batch_execute(statement)
                .expect_err(&format!("{role}: {statement}"));
            let message = error.to_string();
            assert!(
                message.contains("permission denied") || message.contains("must be owner"),
                "{role}: {statement}: {message}"
            );
        }
    }

    /// All sections, with the tables.
    fn all(test: &str) -> Option<Self> {
        let roles = Self::new(test)?;
        roles.section("Migrator");
        kms_migrations::postgres::run(&mut roles.connect("kms_migrator")).unwrap();
        for title in [
            "Reader",
            "Writer",
            "Operator",
            "The application's own tables",
        ] {
            roles.section(title);
        }
        Some(roles)
    }
}

impl Drop for Roles {
    fn drop(&mut self) {
        for role in [
            "kms_operator",
            "kms_writer",
            "kms_reader",
            "kms_migrator",
            "app_owner",
        ] {
            let statements = self.named(&format!("drop owned by {role} cascade; drop role {role}"));
            let _ = self.database.connection().batch_execute(&statements);
        }
    }
}

const CREATE_ELSEWHERE: [&str; 2] = [
    "create table keys.t (a int)",
    "create function keys.f() returns int language sql as 'select 1'",
];

#[test]
fn a_migrator_migrates_repairs_and_ties_the_keys_to_the_application() {
    let Some(roles) = Roles::all("migrator") else {
        return;
    };
    let mut migrator = roles.connect("kms_migrator");
    assert!(
        kms_migrations::postgres::status(&mut migrator)
            .unwrap()
            .is_current()
    );
    migrator
        .batch_execute("delete from kms_collection_version")
        .unwrap();
    assert_eq!(
        kms_migrations::postgres::repair(&mut migrator)
            .unwrap()
            .rows
            .len(),
        1
    );
    migrator
        .batch_execute(
            "alter table kms_root_key add constraint kms_root_key_organization_fkey
               foreign key (scope_id) references app.organization (id) on delete cascade",
        )
        .unwrap();
    roles
        .connect("app_owner")
        .batch_execute(
            "create table app.client (id text primary key, key_version_id text not null
               references keys.kms_data_key_version (private_id) on delete no action
               deferrable initially deferred)",
        )
        .unwrap();
    let report = kms_migrations::postgres::verify(&mut migrator).unwrap();
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.creators, Vec::<String>::new());
}

#[test]
fn a_reader_reads_and_changes_nothing() {
    let Some(roles) = Roles::all("reader") else {
        return;
    };
    kms_testkit::repository::run(async {
        let writer = roles.repository("kms_writer");
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&writer, create).await.unwrap();
        let reader = roles.repository("kms_reader");
        reader.validate_schema().await.unwrap();
        let keys = rows(&reader, &scope("o_1")).await.unwrap();
        let since = reader.load(&[]).await.unwrap().collection;
        reader.collection_version(Some(since)).await.unwrap();
        assert_eq!(reader.root_checks().await.unwrap(), []);
        let refused = apply(&reader, change_sets::rotate(&keys)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Database);
    });
    roles.refused("kms_reader", &CREATE_ELSEWHERE);
    roles.refused(
        "kms_reader",
        &[
            "insert into kms_root_key (private_id, scope_id) values ('krk_x', 'x')",
            "update kms_data_key_version set key = 'x'",
            "delete from kms_root_key",
            "update kms_collection_version set version = 9",
            "insert into kms_root_check (key_id, check_blob) values ('x', 'x')",
            "insert into kms_scope_change values (9, 'x')",
            "truncate kms_root_key cascade",
        ],
    );
}

#[test]
fn a_writer_changes_keys_and_nothing_else() {
    let Some(roles) = Roles::all("writer") else {
        return;
    };
    kms_testkit::repository::run(async {
        let writer = roles.repository("kms_writer");
        writer.validate_schema().await.unwrap();
        let check = RootCheck {
            key_id: "root".to_owned(),
            blob: vec![1],
        };
        for former in [None, Some(&*check.blob)] {
            assert!(writer.store_root_check(&check, former).await.unwrap());
        }
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&writer, create).await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        let rotation = change_sets::rotate_and_rewrap(&keys);
        let _ = apply(&writer, rotation).await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        let old = keys.root_key_versions[0].id.clone();
        let revocation = change_sets::revoke(&keys, old, Proof::Required);
        let _ = apply(&writer, revocation).await.unwrap();
        writer.scramble_collection_version().await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        let _ = apply(&writer, change_sets::delete(&keys, Proof::Skipped))
            .await
            .unwrap();
    });
    roles.refused("kms_writer", &CREATE_ELSEWHERE);
    roles.refused(
        "kms_writer",
        &[
            "delete from kms_scope_change",
            "delete from kms_collection_history",
            "delete from kms_collection_version",
            "update kms_schema_version set version = 'v9'",
            "insert into kms_campaign (id, kind, parameters) values ('c', 'rotate', '')",
            "drop trigger kms_version_column on kms_root_key_version",
            "truncate kms_root_key cascade",
        ],
    );
}

#[test]
fn an_operator_runs_campaigns_and_verifies() {
    let Some(roles) = Roles::all("operator") else {
        return;
    };
    kms_testkit::repository::run(async {
        let operator = roles.repository("kms_operator");
        let campaign = NewCampaign {
            id: "c".to_owned(),
            kind: "rotate",
            parameters: String::new(),
            total: 1,
        };
        let lease = Lease {
            holder: "operator".to_owned(),
            length: Duration::from_secs(60),
        };
        operator.start_campaign(&campaign, &lease).await.unwrap();
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&operator, create).await.unwrap();
        let step = CampaignStep {
            campaign: campaign.id,
            lease,
            advance: Advance::Finish { from: None },
            failures: Vec::new(),
            unchanged: Vec::new(),
        };
        operator.apply_step(Arc::new([]), step).await.unwrap();
    });
    let mut connection = roles.connect("kms_operator");
    let report = kms_migrations::postgres::verify(&mut connection).unwrap();
    assert!(report.is_ok(), "{report}");
    assert!(
        kms_migrations::postgres::status(&mut connection)
            .unwrap()
            .is_current()
    );
    roles.refused("kms_operator", &CREATE_ELSEWHERE);
    roles.refused("kms_operator", &["truncate kms_campaign cascade"]);
}

/// The writer may not use the schema in which the application's foreign key is.
#[test]
fn a_writer_revokes_beside_a_foreign_key_in_a_schema_that_it_may_not_use() {
    let Some(roles) = Roles::all("hidden") else {
        return;
    };
    roles.execute(
        "create table app.client (key_version_id text references keys.kms_data_key_version (private_id)
           on delete no action deferrable initially deferred);
         create table keys.parent (id text primary key);
         create table keys.child (parent text references keys.parent (id) deferrable initially deferred);
         grant select, insert, delete on keys.parent, keys.child to kms_writer;",
    );
    kms_testkit::repository::run(async {
        let writer = roles.repository("kms_writer");
        let create = change_sets::create(&scope("o_1"), &[DATABASE]);
        let _ = apply(&writer, create).await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        let rotation = change_sets::rotate_and_rewrap(&keys);
        let _ = apply(&writer, rotation).await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        let old = keys.data_keys[0].versions[0].id.clone();
        let revocation = change_sets::revoke(&keys, old.clone(), Proof::Required);

        roles.execute(&format!("insert into app.client values ('{old}')"));
        let error = apply(&writer, revocation.clone()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
        assert_eq!(error.context("table"), Some("client"));
        roles.execute("delete from app.client");

        // In a transaction of the application's, which deferred something of its own.
        let mut connection = roles.connect("kms_writer");
        let rolled_back = connection.transaction(|connection| {
            connection.batch_execute("insert into keys.child values ('p')")?;
            let error = connection.apply_changes(&[&revocation]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::UseNotProven, "{error}");
            assert_eq!(error.context("schema"), Some("app"));
            QueryResult::<()>::Err(diesel::result::Error::RollbackTransaction)
        });
        assert!(rolled_back.is_err());
        drop(connection);

        let _ = apply(&writer, revocation).await.unwrap();
        let keys = rows(&writer, &scope("o_1")).await.unwrap();
        assert_eq!(keys.data_keys[0].versions.len(), 1);
        let _ = apply(&writer, change_sets::delete(&keys, Proof::Required))
            .await
            .unwrap();
    });
}
