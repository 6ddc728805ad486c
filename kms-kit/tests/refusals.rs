//! Each way in which an operation refuses: its own kind, a message that names what it is about, and nothing
//! changed. One by one the rows of the operations table, on real databases.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fmt::Debug;
use std::sync::Arc;

use kms_kit::core::{Error, Result};
use kms_kit::prelude::*;
use kms_kit::{DataKeyVersionId, ErrorKind, KeyVersionId, RewrapKeys, Scopes};
use kms_testkit::{Fault, FaultyWrapper, When, WrapperMethod};
use support::{DATABASE, OIDC, World};

on_both_databases! {
    creating_keys_refuses_by_kind
    a_root_wrapper_out_of_reach_or_denied_or_missing_changes_nothing
    using_keys_refuses_by_kind
    changing_keys_of_an_unknown_scope_refuses_by_kind
    revoking_refuses_by_kind
    a_foreign_key_that_does_not_restrict_proves_nothing
    deleting_keys_refuses_by_kind
    reconciling_reports_a_scope_without_root_key_and_does_the_others
}

/// Holds what happened against what should: the kind, the context, and that the message shows it.
fn refused<T: Debug>(result: Result<T>, kind: ErrorKind, named: &[(&str, &str)]) -> Error {
    let error = result.expect_err(&format!("{kind:?}"));
    assert_eq!(error.kind(), kind, "{error}");
    for (name, value) in named {
        let found = error.context(name).unwrap_or_default();
        assert!(
            found == *value && error.to_string().contains(value),
            "{error}"
        );
    }
    error
}

async fn creating_keys_refuses_by_kind(world: &World) {
    let scope = world.scope("o_1").await;
    world
        .database
        .execute("insert into organization (id) values ('o_2')");
    let before = world.database.dump();
    let new = ScopeId::new("o_2").unwrap();
    let undeclared = Purpose::new("undeclared").unwrap();
    let kms = &world.kms;
    refused(ScopeId::new(""), ErrorKind::InvalidScope, &[]);
    refused(ScopeId::new(" \t"), ErrorKind::InvalidScope, &[]);
    refused(Purpose::new(""), ErrorKind::InvalidPurpose, &[]);
    refused(Purpose::new(" \t"), ErrorKind::InvalidPurpose, &[]);
    refused(Purpose::new("rootKey"), ErrorKind::ReservedPurpose, &[]);
    for (purposes, kind, purpose) in [
        (vec![undeclared], ErrorKind::UndeclaredPurpose, "undeclared"),
        (
            vec![OIDC, DATABASE, OIDC],
            ErrorKind::DuplicatePurpose,
            "oidc",
        ),
        (
            vec![Purpose::from_stored("rootKey")],
            ErrorKind::ReservedPurpose,
            "rootKey",
        ),
    ] {
        let named = [("scope", "o_2"), ("purpose", purpose)];
        refused(kms.create_keys(&new, &purposes).await, kind, &named);
        refused(kms.prepare_create_keys(&new, &purposes).await, kind, &named);
    }
    refused(
        kms.create_keys(&scope, &[OIDC]).await,
        ErrorKind::AlreadyExists,
        &[("scope", "o_1")],
    );
    assert_eq!(world.database.dump(), before);
}

async fn a_root_wrapper_out_of_reach_or_denied_or_missing_changes_nothing(world: &World) {
    let scope = world.scope("o_1").await;
    world
        .database
        .execute("insert into organization (id) values ('o_2')");
    let before = world.database.dump();
    let new = ScopeId::new("o_2").unwrap();
    for kind in [ErrorKind::Unreachable, ErrorKind::Denied] {
        let root = FaultyWrapper::new(Arc::clone(&world.root));
        for method in [WrapperMethod::Encrypt, WrapperMethod::Decrypt] {
            root.inject(method, When::Always, Fault::FailBefore(kind.into()));
        }
        let kms = world.builder().root_wrapper(Arc::new(root));
        let kms = kms.build().await.unwrap();
        let named = [("scope", "o_1")];
        refused(
            kms.create_keys(&new, &[OIDC]).await,
            kind,
            &[("scope", "o_2")],
        );
        refused(kms.rotate_keys(&scope, Rewrap::No).await, kind, &named);
        refused(kms.rotate_keys(&scope, Rewrap::Yes).await, kind, &named);
        refused(kms.rewrap_keys(&scope, RewrapKeys::All).await, kind, &named);
        refused(kms.wrapper(&scope, &OIDC).await, kind, &named);
    }
    let kms = kms_kit::builder(world.database.repository()).purposes([OIDC, DATABASE]);
    let kms = kms.build().await.unwrap();
    let kind = ErrorKind::NoRootWrapper;
    refused(
        kms.create_keys(&new, &[OIDC]).await,
        kind,
        &[("scope", "o_2")],
    );
    refused(
        kms.rotate_keys(&scope, Rewrap::No).await,
        kind,
        &[("scope", "o_1")],
    );
    // This is about the engine, whatever the scope.
    refused(kms.wrapper(&scope, &OIDC).await, kind, &[]);
    assert_eq!(world.database.dump(), before);
}

async fn using_keys_refuses_by_kind(world: &World) {
    let (scope, missing) = (world.scope("o_1").await, ScopeId::new("missing").unwrap());
    let other = world.scope("o_2").await;
    let bare = ScopeId::new("bare").unwrap();
    world
        .database
        .execute("insert into organization (id) values ('bare')");
    world.kms.create_keys(&bare, &[]).await.unwrap();
    let kms = &world.kms;
    let theirs = kms.wrapper(&other, &OIDC).await.unwrap();
    let before = world.database.dump();
    let kind = ErrorKind::UnknownScope;
    let named = [("scope", "missing")];
    refused(kms.wrapper(&missing, &OIDC).await, kind, &named);
    refused(kms.root_key_wrapper(&missing).await, kind, &named);
    refused(kms.list_keys(&missing).await, kind, &named);
    refused(kms.ensure(&missing).await, kind, &named);
    refused(
        kms.wrapper(&bare, &OIDC).await,
        ErrorKind::UnknownPurpose,
        &[("scope", "bare"), ("purpose", "oidc")],
    );
    let undeclared = Purpose::new("undeclared").unwrap();
    refused(
        kms.wrapper(&scope, &undeclared).await,
        ErrorKind::UndeclaredPurpose,
        &[("purpose", "undeclared")],
    );
    let version = theirs.key_version_id();
    refused(
        kms.wrapper_for(&scope, &OIDC, version).await,
        ErrorKind::UnknownKeyVersion,
        &[
            ("scope", "o_1"),
            ("purpose", "oidc"),
            ("key_version", version.as_str()),
        ],
    );
    assert_eq!(world.database.dump(), before);
}

async fn changing_keys_of_an_unknown_scope_refuses_by_kind(world: &World) {
    world.scope("o_1").await;
    let missing = ScopeId::new("missing").unwrap();
    let before = world.database.dump();
    let kms = &world.kms;
    for result in [
        kms.rotate_keys(&missing, Rewrap::No).await,
        kms.rotate_keys(&missing, Rewrap::Yes).await,
        kms.rewrap_keys(&missing, RewrapKeys::All).await,
        kms.delete_keys(&missing).await,
        kms.dangerous().delete_keys(&missing).await,
    ] {
        refused(result, ErrorKind::UnknownScope, &[("scope", "missing")]);
    }
    assert_eq!(world.database.dump(), before);
}

async fn revoking_refuses_by_kind(world: &World) {
    let scope = world.scope("o_1").await;
    let used = world.client("c_1", &scope).await;
    world.kms.rotate_keys(&scope, Rewrap::No).await.unwrap();
    let keys = world.kms.list_keys(&scope).await.unwrap();
    let before = world.database.dump();
    for no_id in ["", "krk_0123456789", "krkv_", "kdkv_too-long-for-it", "o_1"] {
        let parsed: Result<KeyVersionId> = no_id.parse();
        refused(parsed, ErrorKind::InvalidKeyVersionId, &[]);
    }
    let absent: KeyVersionId = DataKeyVersionId::generate().into();
    let newest_root = keys[0].versions[1].id.clone();
    let newest_data = keys[1].versions[1].id.clone();
    let wrapping_root = keys[0].versions[0].id.clone();
    let referenced: KeyVersionId = used.parse().unwrap();
    for (id, kind, more) in [
        (&absent, ErrorKind::UnknownKeyVersion, None),
        (&newest_root, ErrorKind::NewestVersion, None),
        (&newest_data, ErrorKind::NewestVersion, None),
        (
            &wrapping_root,
            ErrorKind::InUse,
            Some(("table", "kms_data_key_version")),
        ),
        (
            &referenced,
            ErrorKind::InUse,
            Some(("table", "oidc_client")),
        ),
    ] {
        let mut named = vec![("key_version", id.as_str())];
        named.extend(more);
        refused(world.kms.revoke_key_version(id).await, kind, &named);
        // The form that skips the proof of disuse skips nothing of this.
        let dangerous = world.kms.dangerous();
        refused(dangerous.revoke_key_version(id).await, kind, &named);
    }
    assert_eq!(world.database.dump(), before);
}

async fn a_foreign_key_that_does_not_restrict_proves_nothing(world: &World) {
    let scope = world.scope("o_1").await;
    world.kms.rotate_keys(&scope, Rewrap::Yes).await.unwrap();
    let first = world.kms.list_keys(&scope).await.unwrap()[1].versions[0]
        .id
        .clone();
    let before = world.database.dump();
    world.database.execute("drop table oidc_client");
    let named = [("key_version", first.as_str()), ("scope", "o_1")];
    refused(
        world.kms.revoke_key_version(&first).await,
        ErrorKind::UseNotProven,
        &named,
    );
    for action in ["cascade", "set null", "set default"] {
        world.database.execute(&format!(
            "create table oidc_client (
               id text primary key,
               key_version_id text references kms_data_key_version (private_id) on delete {action}
             )"
        ));
        let named = [
            named[0],
            named[1],
            ("table", "oidc_client"),
            ("column", "key_version_id"),
        ];
        refused(
            world.kms.revoke_key_version(&first).await,
            ErrorKind::UseNotProven,
            &named,
        );
        refused(
            world.kms.delete_keys(&scope).await,
            ErrorKind::UseNotProven,
            &[("scope", "o_1"), ("table", "oidc_client")],
        );
        world.database.execute("drop table oidc_client");
    }
    assert_eq!(world.database.dump(), before);
    world
        .kms
        .dangerous()
        .revoke_key_version(&first)
        .await
        .unwrap();
}

async fn deleting_keys_refuses_by_kind(world: &World) {
    let scope = world.scope("o_1").await;
    world.client("c_1", &scope).await;
    let before = world.database.dump();
    for result in [
        world.kms.delete_keys(&scope).await,
        world.kms.dangerous().delete_keys(&scope).await,
    ] {
        let named = [("scope", "o_1"), ("table", "oidc_client")];
        refused(result, ErrorKind::InUse, &named);
    }
    assert_eq!(world.database.dump(), before);
    world.database.execute("delete from oidc_client");
    world.kms.delete_keys(&scope).await.unwrap();
}

async fn reconciling_reports_a_scope_without_root_key_and_does_the_others(world: &World) {
    world
        .database
        .execute("insert into organization (id) values ('bare')");
    let (bare, missing) = (
        ScopeId::new("bare").unwrap(),
        ScopeId::new("missing").unwrap(),
    );
    world.kms.create_keys(&bare, &[OIDC]).await.unwrap();
    let scopes = [bare.clone(), missing.clone()];
    let mut outcome = world
        .kms
        .reconcile_keys(Scopes::Only(&scopes), &[OIDC, DATABASE])
        .await
        .unwrap();
    assert_eq!(outcome.created, [(bare, vec![DATABASE])]);
    let (scope, error) = outcome.failed.pop().unwrap();
    assert_eq!(scope, missing);
    refused::<()>(Err(error), ErrorKind::UnknownScope, &[("scope", "missing")]);
    assert!(outcome.failed.is_empty());
    let before = world.database.dump();
    let undeclared = Purpose::new("undeclared").unwrap();
    let refusal = world.kms.reconcile_keys(Scopes::All, &[undeclared]).await;
    refused(
        refusal,
        ErrorKind::UndeclaredPurpose,
        &[("purpose", "undeclared")],
    );
    assert_eq!(world.database.dump(), before);
}
