//! A tenant's rows and keys get another id together.

use kms_kit::ErrorKind;
use kms_kit::prelude::*;

use crate::on_both_databases;
use crate::support::{OIDC, World};

on_both_databases! {
    a_tenant_is_renamed_in_the_application_s_own_transaction
    without_the_application_s_row_of_the_new_id_a_tenant_keeps_its_id
    a_renaming_is_told_to_a_process_that_holds_the_keys
    the_application_can_not_change_the_id_of_a_tenant_alone
    renamings_and_rotations_at_once_lose_nothing
}

async fn a_tenant_is_renamed_in_the_application_s_own_transaction(world: &World) {
    let id = world.scope("o_1").await;
    let to = ScopeId::new("o_new").unwrap();
    let version = world.client("c", &id).await;
    let blob = world.kms.wrapper(&id, &OIDC).await.unwrap();
    let blob = blob.encrypt(b"secret", b"c").unwrap();
    for commit in [false, true] {
        let prepared = world.kms.prepare_rename_scope(&id, &to).await.unwrap();
        let change = prepared.unwrap().into_change_set();
        let mut connection = world.database.connect();
        let receipts = connection.transaction(commit, |connection| {
            connection.execute(&format!("insert into organization (id) values ('{to}')"));
            let receipts = connection.apply_changes(&[&change]).unwrap();
            connection.execute(&format!("update oidc_client set organization_id = '{to}'"));
            connection.execute(&format!("delete from organization where id = '{id}'"));
            receipts
        });
        world.kms.accept(&receipts);
        let (now, gone) = if commit { (&to, &id) } else { (&id, &to) };
        let opened = world.kms.decrypt(now, &OIDC, &blob, b"c").await.unwrap();
        assert_eq!(opened.expose(), b"secret");
        let error = world.kms.wrapper(gone, &OIDC).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnknownScope);
    }
    let used = world
        .database
        .texts("select key_version_id as t from oidc_client");
    assert_eq!(used, [version]);
}

async fn without_the_application_s_row_of_the_new_id_a_tenant_keeps_its_id(world: &World) {
    let id = world.scope("o_1").await;
    let to = ScopeId::new("o_new").unwrap();
    let before = world.database.dump();
    let error = world.kms.rename_scope(&id, &to).await.unwrap_err();
    // SQLite does not say which foreign key it was.
    assert!(matches!(
        error.kind(),
        ErrorKind::MissingScopeRow | ErrorKind::Database
    ));
    assert_eq!(world.database.dump(), before);
    world
        .database
        .execute("insert into organization (id) values ('o_new')");
    world.kms.rename_scope(&id, &to).await.unwrap();
    world.kms.wrapper(&to, &OIDC).await.unwrap();
}

async fn a_renaming_is_told_to_a_process_that_holds_the_keys(world: &World) {
    let id = world.scope("o_1").await;
    let other = world.scope("o_2").await;
    let process = world.builder().freshness(Freshness::Always);
    let process = process.build().await.unwrap();
    for id in [&id, &other] {
        process.wrapper(id, &OIDC).await.unwrap();
    }
    let to = ScopeId::new("o_new").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('o_new')");
    world.kms.rename_scope(&id, &to).await.unwrap();
    let error = process.wrapper(&id, &OIDC).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownScope);
    for id in [&to, &other] {
        process.wrapper(id, &OIDC).await.unwrap();
    }
}

/// Neither by hand nor by an update cascade: the wrapped keys would be bound to the former id.
async fn the_application_can_not_change_the_id_of_a_tenant_alone(world: &World) {
    let _ = world.scope("o_1").await;
    let mut connection = world.database.connect();
    connection.execute("insert into organization (id) values ('o_new')");
    let update = "update kms_root_key set scope_id = 'o_new'";
    assert!(connection.try_execute(update).is_err());
    let (deletion, cascade) = if world.database.is_postgres() {
        (
            "alter table kms_root_key drop constraint kms_root_key_scope_id_fkey",
            "alter table kms_root_key add foreign key (scope_id) references organization (id) on update cascade",
        )
    } else {
        // A generated column can't cascade, so that SQLite refuses the update itself.
        ("select 1", "select 1")
    };
    connection.execute(deletion);
    connection.execute(cascade);
    let update = "update organization set id = 'o_other' where id = 'o_1'";
    assert!(connection.try_execute(update).is_err());
    let scopes = connection.texts("select scope_id as t from kms_root_key");
    assert_eq!(scopes, ["o_1"]);
}

async fn renamings_and_rotations_at_once_lose_nothing(world: &World) {
    let id = world.scope("o_0").await;
    let blob = world.kms.wrapper(&id, &OIDC).await.unwrap();
    let blob = blob.encrypt(b"secret", b"").unwrap();
    let other = world.another_process().await;
    let mut id = id;
    for number in 1..6 {
        let to = ScopeId::new(format!("o_{number}")).unwrap();
        world
            .database
            .execute(&format!("insert into organization (id) values ('{to}')"));
        let (renamed, rotated) = tokio::join!(
            world.kms.rename_scope(&id, &to),
            other.rotate_keys(&id, Rewrap::Yes)
        );
        renamed.unwrap();
        if let Err(error) = rotated {
            assert_eq!(error.kind(), ErrorKind::UnknownScope, "{error}");
        }
        id = to;
        let opened = world.kms.decrypt(&id, &OIDC, &blob, b"").await.unwrap();
        assert_eq!(opened.expose(), b"secret");
        let ring = other.ensure(&id).await.unwrap();
        assert_eq!(ring.failures().count(), 0);
    }
}
