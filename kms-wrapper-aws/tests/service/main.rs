//! The wrapper against a real service, as LocalStack emulates it.
//!
//! `KMS_TEST_AWS_ENDPOINT` says where it is. Without it these tests are skipped, loudly, or fail if
//! `KMS_TEST_REQUIRE` names `aws`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod aws;
