//! The rights that the documentation of `kms-migrations` names are enough.

use std::sync::Arc;
use std::time::Duration;

use kms_core::{
    Advance, CampaignRepository as _, CampaignStep, ErrorKind, Lease, NewCampaign, Proof,
    Repository as _, RootCheck, ScopeFilter,
};
use kms_store_diesel::PostgresRepository;
use kms_testkit::change_sets;

use super::on_postgres;
use crate::application::Database as _;
use crate::keys::{apply, rows, scope, with_keys};

const READING: &str = "\
grant select on kms_schema_version, kms_extension_version, kms_root_key, kms_root_key_version, kms_data_key,
  kms_data_key_version, kms_collection_version, kms_collection_history, kms_scope_change, kms_scope_root,
  kms_root_check to ";

const CHANGING: &str = "\
grant insert, update, delete on kms_root_key, kms_root_key_version, kms_data_key, kms_data_key_version to {role};
grant update on kms_collection_version to {role};
grant insert, update on kms_root_check to {role};
grant insert, update, delete on kms_scope_root to {role};
grant select, insert, update, delete on kms_campaign, kms_campaign_failure to {role};";

#[test]
fn the_rights_that_are_documented_are_enough() {
    on_postgres(async |application| {
        let database = &application.database;
        let keys = with_keys(&application, "o_1").await;
        application
            .database
            .execute("insert into organization values ('o_2')");
        let role = format!("kms_rights_{}", std::process::id());
        database.execute(&format!("create role {role}; {READING} {role}"));
        let url = database.url();
        let separator = if url.contains('?') { '&' } else { '?' };
        let repository =
            PostgresRepository::builder(format!("{url}{separator}options=-crole%3D{role}"))
                .build()
                .unwrap();

        repository.validate_schema().await.unwrap();
        let since = repository.load(&[]).await.unwrap().collection;
        repository.collection_version(Some(since)).await.unwrap();
        let all = ScopeFilter::default();
        assert_eq!(repository.scopes(&all, None, 9).await.unwrap().len(), 1);
        assert_eq!(repository.root_checks().await.unwrap(), []);
        let refused = apply(&repository, change_sets::rotate(&keys)).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Database);

        database.execute(&CHANGING.replace("{role}", &role));
        let check = RootCheck {
            key_id: "root".to_owned(),
            blob: vec![1],
        };
        for former in [None, Some(&*check.blob)] {
            assert!(repository.store_root_check(&check, former).await.unwrap());
        }
        let _ = apply(&repository, change_sets::create(&scope("o_2"), &[]))
            .await
            .unwrap();
        let _ = apply(&repository, change_sets::rotate_and_rewrap(&keys))
            .await
            .unwrap();
        let keys = rows(&repository, &keys.scope).await.unwrap();
        let old = keys.root_key_versions[0].id.clone();
        let _ = apply(
            &repository,
            change_sets::revoke(&keys, old, Proof::Required),
        )
        .await
        .unwrap();
        let campaign = NewCampaign {
            id: "c".to_owned(),
            kind: "rotate",
            parameters: String::new(),
            total: 0,
        };
        let lease = Lease {
            holder: "writer".to_owned(),
            length: Duration::from_secs(60),
        };
        repository.start_campaign(&campaign, &lease).await.unwrap();
        let step = CampaignStep {
            campaign: campaign.id,
            lease,
            advance: Advance::Finish { from: None },
            failures: Vec::new(),
            unchanged: Vec::new(),
        };
        let nothing = Arc::new([]);
        repository.apply_step(nothing, step).await.unwrap();
        let keys = rows(&repository, &keys.scope).await.unwrap();
        let _ = apply(&repository, change_sets::delete(&keys, Proof::Skipped))
            .await
            .unwrap();
        let changes = repository.collection_version(Some(since)).await.unwrap();
        let steps = changes.steps.unwrap();
        assert!(steps.iter().any(|step| step.scopes.contains(&keys.scope)));
        drop(repository);
        database.execute(&format!("drop owned by {role}; drop role {role}"));
    });
}
