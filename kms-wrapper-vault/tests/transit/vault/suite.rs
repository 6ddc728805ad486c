//! The wrapper passes the whole suite, whether its ids have a prefix or not.

use std::sync::Arc;
use std::time::Duration;

use kms_core::CallLimits;
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
    let hurried = CallLimits::default()
        .with_attempts(2)
        .with_attempt_timeout(Duration::from_millis(300));
    let subject = Subject::new(wrapper(&own, "own-"), wrapper(&stranger, "stranger-"))
        .with_secret(token)
        .with_dead_ends(|address| {
            let builder = own.builder().auth(Auth::token(token));
            let builder = builder.address(address).limits(hurried);
            let builder = if prefixed {
                builder.key_id_prefix("own-")
            } else {
                builder
            };
            Arc::new(builder.build().unwrap())
        });
    Some(subject)
}
