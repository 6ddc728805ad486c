//! The suite for wrappers, in both modes.

use std::sync::Arc;
use std::time::Duration;

use kms_core::CallLimits;
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
    let (own, stranger) = (service.key().await, service.key().await);
    let wrapper = |key: &str| Arc::new(service.builder(key).mode(mode).build().unwrap());
    let hurried = CallLimits::default()
        .with_attempts(2)
        .with_attempt_timeout(Duration::from_millis(300));
    let subject = Subject::new(wrapper(&own), wrapper(&stranger))
        .with_dead_ends(|endpoint| {
            let builder = service.builder(&own).mode(mode).endpoint(endpoint);
            Arc::new(builder.limits(hurried).build().unwrap())
        })
        .with_secret(ACCESS_KEY)
        .with_secret(SECRET_KEY);
    Some(subject)
}
