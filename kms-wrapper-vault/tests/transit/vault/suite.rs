//! The wrapper passes the whole suite, whether its ids have a prefix or not.

use std::sync::Arc;

use kms_testkit::service::Vault;
use kms_testkit::wrapper::Subject;
use kms_wrapper_vault::Auth;

use super::fixture::Key;

mod with_prefix {
    kms_testkit::wrapper_suite!(match super::subject(true).await {
        Some(subject) => subject,
        None => return,
    });
}

mod without_prefix {
    kms_testkit::wrapper_suite!(match super::subject(false).await {
        Some(subject) => subject,
        None => return,
    });
}

async fn subject(prefixed: bool) -> Option<Subject> {
    let vault = Vault::shared()?;
    let (own, stranger) = (Key::on(&vault).await, Key::on(&vault).await);
    let token = own.vault.token();
    let wrapper = |key: &Key, prefix: &str| {
        let builder = key.builder().auth(Auth::token(token));
        let builder = if prefixed {
            builder.key_id_prefix(prefix)
        } else {
            builder
        };
        Arc::new(builder.build().unwrap())
    };
    Some(Subject::new(wrapper(&own, "own-"), wrapper(&stranger, "stranger-")).with_secret(token))
}
