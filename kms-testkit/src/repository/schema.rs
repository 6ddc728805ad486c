//! The schema version.

use kms_core::{ErrorKind, SCHEMA_VERSION};

use super::fixture::{Feature, Fixture, can};

/// The expected schema validates, and says its version.
pub async fn the_expected_schema_version_validates(fixture: &dyn Fixture) {
    let found = fixture.repository().validate_schema().await.unwrap();
    assert_eq!(found, SCHEMA_VERSION);
}

/// Another schema version is an error of its own kind that names both.
pub async fn another_schema_version_is_refused_and_both_are_named(fixture: &dyn Fixture) {
    if !can(fixture, Feature::SchemaVersion) {
        return;
    }
    fixture.set_schema_version("v0.0.1").await;
    let error = fixture.repository().validate_schema().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::SchemaVersion);
    assert_eq!(error.context("expected"), Some(SCHEMA_VERSION));
    assert_eq!(error.context("found"), Some("v0.0.1"));
    fixture.set_schema_version(SCHEMA_VERSION).await;
    let _ = fixture.repository().validate_schema().await.unwrap();
}
