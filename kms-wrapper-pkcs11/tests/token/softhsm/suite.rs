//! The wrapper passes the whole suite in both modes.

use std::sync::Arc;

use kms_core::Wrapper as _;
use kms_testkit::service::SoftHsm;
use kms_testkit::wrapper::Subject;
use kms_wrapper_pkcs11::Pkcs11Mode;

use super::support::{Key, builder};

mod direct {
    kms_testkit::wrapper_suite!(match super::subject(super::Pkcs11Mode::Direct).await {
        Some(subject) => subject,
        None => return,
    });
}

mod envelope {
    kms_testkit::wrapper_suite!(match super::subject(super::Pkcs11Mode::Envelope).await {
        Some(subject) => subject,
        None => return,
    });
}

async fn subject(mode: Pkcs11Mode) -> Option<Subject> {
    let token = SoftHsm::shared()?;
    let wrapper = |key: &Key| Arc::new(builder(&token, key).mode(mode).build().unwrap());
    let (own, stranger) = (Key::on(&token), Key::on(&token));
    let (own, stranger) = (wrapper(&own), wrapper(&stranger));
    // As at an application's start: before it, the wrapper can't tell whose a blob is.
    own.preflight().await.unwrap();
    Some(Subject::new(own, stranger).with_secret(token.pin()))
}
