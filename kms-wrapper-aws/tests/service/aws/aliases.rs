//! Keys that are named by an alias, and aliases that move.

use std::error::Error as _;
use std::sync::Arc;

use kms_core::{Blob, ErrorKind, Ownership, PooledWrapper, Wrapper as _};
use kms_testkit::{FaultyProxy, NetworkFault};
use kms_wrapper_aws::ServiceError;

use super::support::{Service, builder, unique};

/// An alias of a first key, and a second key to point it at.
struct Alias {
    service: Service,
    name: String,
    keys: [String; 2],
}

impl Alias {
    async fn new() -> Option<Self> {
        let service = Service::shared()?;
        let keys = [service.key().await, service.key().await];
        let name = format!("alias/{}", unique("moving"));
        service.alias(&name, &keys[0]).await;
        Some(Self {
            service,
            name,
            keys,
        })
    }

    async fn point_at_second_key(&self) {
        let order = self.service.client.update_alias().alias_name(&self.name);
        // By its id: LocalStack keeps what it is told, and then finds no key by an ARN.
        let (_, id) = self.keys[1].split_once("key/").unwrap();
        let order = order.target_key_id(id);
        order.send().await.unwrap();
    }
}

fn of(key: &str) -> Blob {
    Blob::new(vec![1; 40], key)
}

#[tokio::test]
async fn until_the_service_said_what_it_stands_for_every_key_of_the_account_may_be_its_own() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let (place, _) = first.split_once("key/").unwrap();
    let arn = format!("{place}{}", alias.name);
    for (name, elsewhere) in [(&alias.name, Ownership::Unknown), (&arn, Ownership::No)] {
        let wrapper = alias.service.wrapper(name);
        for key in [first, second] {
            assert_eq!(wrapper.owns(&of(key)), Ownership::Unknown);
            assert_eq!(wrapper.is_current(&of(key)), Ownership::Unknown);
        }
        let other_account = of(&first.replace("000000000000", "111122223333"));
        let other_region = of(&first.replace("us-east-1", "eu-west-1"));
        assert_eq!(wrapper.owns(&other_account), elsewhere, "{name}");
        assert_eq!(wrapper.owns(&other_region), elsewhere, "{name}");
        assert_eq!(wrapper.owns(&of("kdkv_0123456789")), Ownership::No);

        wrapper.preflight().await.unwrap();
        assert_eq!(wrapper.owns(&of(first)), Ownership::Yes);
        // The alias may have moved since.
        assert_eq!(wrapper.owns(&of(second)), Ownership::Unknown);
        assert_eq!(wrapper.is_current(&of(second)), Ownership::No);
        assert_eq!(wrapper.owns(&other_account), Ownership::No);
        assert_eq!(wrapper.owns(&other_region), Ownership::No);
    }
}

#[tokio::test]
async fn once_resolved_it_is_known_which_blobs_are_current_before_the_first_of_them() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let wrapper = alias.service.wrapper(&alias.name);
    wrapper.resolve().await.unwrap();
    assert_eq!(wrapper.key_id().as_deref(), Some(&**first));
    assert_eq!(wrapper.is_current(&of(first)), Ownership::Yes);
    assert_eq!(wrapper.is_current(&of(second)), Ownership::No);
}

#[tokio::test]
async fn once_it_points_at_another_key_a_running_process_keeps_its_own_and_reports_the_change() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let wrapper = alias.service.wrapper(&alias.name);
    let old = wrapper.encrypt(b"old", b"aad").await.unwrap();
    wrapper.preflight().await.unwrap();
    alias.point_at_second_key().await;

    let new = wrapper.encrypt(b"new", b"aad").await.unwrap();
    for (blob, plaintext) in [(&old, b"old"), (&new, b"new")] {
        assert_eq!(blob.key_id(), first);
        assert_eq!(wrapper.is_current(blob), Ownership::Yes);
        let back = wrapper.decrypt(blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), plaintext);
    }
    let error = wrapper.preflight().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{error}");
    assert_eq!(error.operation(), Some("preflight"));
    assert_eq!(error.context("alias"), Some(&*alias.name));
    assert_eq!(error.context("configured_key_id"), Some(&**first));
    assert_eq!(error.context("alias_key_id"), Some(&**second));

    // What a process encrypts that started since.
    let other_process = alias.service.wrapper(&alias.name);
    let theirs = other_process.encrypt(b"theirs", b"aad").await.unwrap();
    assert_eq!(theirs.key_id(), second);
    // `No` would keep an engine from asking, and so from reporting.
    assert_eq!(wrapper.owns(&theirs), Ownership::Unknown);
    assert_eq!(wrapper.is_current(&theirs), Ownership::No);
    let error = wrapper.decrypt(&theirs, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error}");
    assert_eq!(error.context("root_key_id"), Some(&**second));
    assert_eq!(error.context("configured_key_id"), Some(&**first));
    assert_eq!(error.context("alias_key_id"), Some(&**second));
    assert!(error.to_string().contains("pointed at another key"));
}

#[tokio::test]
async fn after_a_restart_the_blobs_of_the_key_before_are_foreign_naming_both_and_a_pool_opens_them()
{
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let before = alias.service.wrapper(&alias.name);
    let old = before.encrypt(b"old", b"aad").await.unwrap();
    alias.point_at_second_key().await;

    let restarted = alias.service.wrapper(&alias.name);
    let error = restarted.decrypt(&old, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error}");
    assert_eq!(error.operation(), Some("decrypt"));
    assert_eq!(error.context("root_key_id"), Some(&**first));
    assert_eq!(error.context("configured_key_id"), Some(&**second));
    assert_eq!(error.context("alias"), Some(&*alias.name));
    // This process saw no change.
    assert_eq!(error.context("alias_key_id"), None);
    let cause = error.source().unwrap().source().unwrap();
    let told = cause.downcast_ref::<ServiceError>();
    assert_eq!(told.unwrap().code(), Some("IncorrectKeyException"));

    let pool = PooledWrapper::new(Arc::new(restarted))
        .with_decrypting(Arc::new(alias.service.wrapper(first)))
        .unwrap();
    let new = pool.encrypt(b"new", b"aad").await.unwrap();
    for (blob, plaintext) in [(old, b"old"), (new, b"new")] {
        let back = pool.decrypt(&blob, b"aad").await.unwrap();
        assert_eq!(back.expose(), plaintext);
    }
}

#[tokio::test]
async fn a_process_that_may_only_decrypt_names_the_blobs_key_and_the_alias() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let stranger = alias.service.wrapper(second);
    let blob = stranger.encrypt(b"theirs", b"aad").await.unwrap();
    let proxy = FaultyProxy::start(&alias.service.endpoint);
    let wrapper = builder(&proxy.url(), &alias.name).build().unwrap();
    proxy.fail_next(1, NetworkFault::alter(|_| {}));
    let denied = r#"{"__type":"AccessDeniedException","message":"no"}"#;
    proxy.fail_next(1, NetworkFault::answer(400, &[], denied));
    let error = wrapper.decrypt(&blob, b"aad").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ForeignRootKey, "{error:?}");
    assert_eq!(error.context("root_key_id"), Some(&**second));
    assert_eq!(error.context("configured_key_id"), Some(&*alias.name));

    let own = alias.service.wrapper(first).encrypt(b"own", b"aad").await;
    let back = wrapper.decrypt(&own.unwrap(), b"aad").await.unwrap();
    assert_eq!(back.expose(), b"own");
    assert_eq!(wrapper.key_id().as_deref(), Some(&**first));
}
