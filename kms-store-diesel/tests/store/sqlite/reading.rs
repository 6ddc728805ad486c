//! What readers see of what others commit.

use kms_store_diesel::SqliteRepository;
use kms_testkit::change_sets;

use super::on_sqlite;
use crate::keys::{apply, rows, with_keys};

#[test]
fn what_was_committed_is_in_the_next_read() {
    on_sqlite(async |application| {
        let keys = with_keys(&application, "o_1").await;
        let repository = SqliteRepository::builder(application.database.path())
            .build()
            .unwrap();
        let mut before = rows(&repository, &keys.scope).await.unwrap();
        for _ in 0..20 {
            let change = change_sets::rotate_and_rewrap(&before);
            let _ = apply(&repository, change).await.unwrap();
            let after = rows(&repository, &keys.scope).await.unwrap();
            assert_eq!(
                after.root_key_versions.len(),
                before.root_key_versions.len() + 1
            );
            before = after;
        }
    });
}
