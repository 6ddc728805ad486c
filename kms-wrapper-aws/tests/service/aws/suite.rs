//! The suite for wrappers, in both modes.

use std::sync::Arc;

use kms_testkit::wrapper::{Subject, Weakness};
use kms_wrapper_aws::AwsKmsMode;

use super::support::{ACCESS_KEY, SECRET_KEY, Service};

mod envelope {
    kms_testkit::wrapper_suite!(match super::subject(super::AwsKmsMode::Envelope).await {
        Some(subject) => subject,
        None => return,
    });
}

mod direct {
    kms_testkit::wrapper_suite!(match super::subject(super::AwsKmsMode::Direct).await {
        Some(subject) => subject
            .with_limit(4096)
            .with_weakness(super::Weakness::NoEmptyPlaintext),
        None => return,
    });
}

async fn subject(mode: AwsKmsMode) -> Option<Subject> {
    let service = Service::shared()?;
    let wrapper = async || {
        let builder = service.builder(&service.key().await);
        Arc::new(builder.mode(mode).build().unwrap())
    };
    let subject = Subject::new(wrapper().await, wrapper().await)
        .with_secret(ACCESS_KEY)
        .with_secret(SECRET_KEY);
    Some(subject)
}
