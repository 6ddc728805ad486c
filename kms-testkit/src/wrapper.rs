//! The suite for [`Wrapper`](kms_core::Wrapper): one function for each property, all of them run by
//! [`wrapper_suite!`](crate::wrapper_suite).
//!
//! Each function takes a [`Subject`]: the wrapper under test, a stranger of the same kind with another key,
//! and what is known to be limited or weak about them. A [`Weakness`] is declared by name, and a property that
//! a weakness touches checks that the weakness is there: a declaration that is no longer true fails.

mod altered;
mod failing;
mod hidden;
mod opening;
mod owning;
mod refusing;
mod runtime;
mod subject;
mod using;

pub use failing::{
    a_service_that_fails_is_given_up_in_time, what_is_no_blob_of_its_own_is_refused_in_time,
};
pub use hidden::assert_hidden;
pub use opening::{
    a_blob_survives_encoding, aad_of_any_length_is_bound, every_size_round_trips,
    preflight_succeeds, two_encryptions_differ,
};
pub use owning::{
    a_blob_under_a_key_id_of_nobody_is_not_its_own, in_a_pool_with_a_stranger_each_blob_opens,
    its_claims_are_those_of_its_configuration, what_a_former_key_made_opens_and_is_not_current,
};
pub use refusing::{
    a_blob_of_another_length_does_not_open, a_flipped_bit_in_any_byte_does_not_open,
    a_foreign_blob_does_not_open, a_forged_key_id_does_not_help, a_wrong_aad_does_not_open,
};
pub use runtime::{on_current_thread, on_many_threads};
pub use subject::{Subject, Weakness};
pub use using::{
    a_dropped_future_leaves_nothing_behind, debug_shows_no_secret, it_owns_its_blobs,
    it_serves_many_tasks_at_once, the_key_id_is_that_of_its_blobs,
};

/// One `#[test]` for each property of [`kms_testkit::wrapper`](mod@crate::wrapper), for the [`Subject`] that the
/// expression makes. The expression is evaluated anew for each test, inside its runtime, and may `await`. Put
/// the call into a module of its own for each backend.
///
/// ```
/// mod my_wrapper {
///     use kms_testkit::wrapper::Subject;
///
///     kms_testkit::wrapper_suite!(Subject::new(my_wrapper().await, another_of_mine().await));
/// }
/// ```
///
/// Each property runs on a multi-thread runtime, and the essential ones on a current-thread runtime too.
#[macro_export]
macro_rules! wrapper_suite {
    ($subject:expr) => {
        $crate::wrapper_suite! { @tests $subject;
            every_size_round_trips
            aad_of_any_length_is_bound
            two_encryptions_differ
            a_blob_survives_encoding
            preflight_succeeds
            a_wrong_aad_does_not_open
            a_flipped_bit_in_any_byte_does_not_open
            a_blob_of_another_length_does_not_open
            a_foreign_blob_does_not_open
            a_forged_key_id_does_not_help
            it_owns_its_blobs
            a_blob_under_a_key_id_of_nobody_is_not_its_own
            its_claims_are_those_of_its_configuration
            what_a_former_key_made_opens_and_is_not_current
            in_a_pool_with_a_stranger_each_blob_opens
            what_is_no_blob_of_its_own_is_refused_in_time
            a_service_that_fails_is_given_up_in_time
            the_key_id_is_that_of_its_blobs
            debug_shows_no_secret
            it_serves_many_tasks_at_once
            a_dropped_future_leaves_nothing_behind
        }

        #[test]
        fn it_works_on_a_current_thread_runtime() {
            $crate::wrapper::on_current_thread(async {
                let subject: $crate::wrapper::Subject = $subject;
                $crate::wrapper::preflight_succeeds(&subject).await;
                $crate::wrapper::it_serves_many_tasks_at_once(&subject).await;
                $crate::wrapper::a_dropped_future_leaves_nothing_behind(&subject).await;
            });
        }
    };
    (@tests $subject:expr; $($property:ident)*) => {$(
        #[test]
        fn $property() {
            $crate::wrapper::on_many_threads(async {
                let subject: $crate::wrapper::Subject = $subject;
                $crate::wrapper::$property(&subject).await;
            });
        }
    )*};
}
