//! Keys that are named by an alias, and aliases that move.

use std::error::Error as _;
use std::sync::Arc;

use kms_core::{Blob, ErrorKind, Ownership, PooledWrapper, Wrapper as _};
use kms_wrapper_aws::ServiceError;

use super::support::{Service, unique};

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
async fn once_it_points_at_another_key_that_one_encrypts_and_a_pool_opens_the_old_blobs() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let [first, second] = &alias.keys;
    let wrapper = alias.service.wrapper(&alias.name);
    let old = wrapper.encrypt(b"old", b"").await.unwrap();
    alias.point_at_second_key().await;

    let new = wrapper.encrypt(b"new", b"").await.unwrap();
    assert_eq!(new.key_id(), second);
    assert_eq!(wrapper.key_id().as_deref(), Some(&**second));
    assert_eq!(wrapper.is_current(&new), Ownership::Yes);
    assert_eq!(wrapper.is_current(&old), Ownership::No);
    assert_eq!(wrapper.decrypt(&new, b"").await.unwrap().expose(), b"new");

    let error = wrapper.decrypt(&old, b"").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AuthenticationFailed);
    let told = error.source().unwrap().downcast_ref::<ServiceError>();
    assert_eq!(told.unwrap().code(), Some("IncorrectKeyException"));

    let pool = PooledWrapper::new(Arc::new(wrapper))
        .with_decrypting(Arc::new(alias.service.wrapper(first)))
        .unwrap();
    for (blob, plaintext) in [(old, b"old"), (new, b"new")] {
        let back = pool.decrypt(&blob, b"").await.unwrap();
        assert_eq!(back.expose(), plaintext);
    }
}

#[tokio::test]
async fn a_process_that_has_not_noticed_the_move_opens_what_the_new_key_encrypted() {
    let Some(alias) = Alias::new().await else {
        return;
    };
    let wrapper = alias.service.wrapper(&alias.name);
    wrapper.preflight().await.unwrap();
    alias.point_at_second_key().await;
    let other_process = alias.service.wrapper(&alias.name);
    let new = other_process.encrypt(b"new", b"").await.unwrap();
    // `No` would keep an engine from even trying.
    assert_eq!(wrapper.owns(&new), Ownership::Unknown);
    assert_eq!(wrapper.decrypt(&new, b"").await.unwrap().expose(), b"new");
    assert_eq!(wrapper.key_id().as_deref(), Some(&*alias.keys[1]));
}
