//! Real services in tests: where they are, and one of a test's own that it may stop.

mod localstack;
#[cfg(feature = "services")]
mod softhsm;
#[cfg(feature = "services")]
mod vault;

pub use localstack::LocalStack;
#[cfg(feature = "services")]
pub use softhsm::SoftHsm;
#[cfg(feature = "services")]
pub use vault::{Vault, VaultAnswer, VaultListener, VaultProcess};

/// Comma-separated services without which tests fail instead of being skipped.
const REQUIRE: &str = "KMS_TEST_REQUIRE";

/// What the variable says that tells tests of a service where it is; `None`, and a line that says the test was
/// skipped, if it is not set.
///
/// # Panics
///
/// If it is not set, and `KMS_TEST_REQUIRE` names the service.
#[must_use]
pub fn variable(service: &str, name: &str) -> Option<String> {
    if let Some(value) = std::env::var(name).ok().filter(|value| !value.is_empty()) {
        return Some(value);
    }
    let required = std::env::var(REQUIRE).unwrap_or_default();
    assert!(
        !required
            .split(',')
            .any(|required| required.trim() == service),
        "{service} is required, and {name} is not set"
    );
    eprintln!("skipped: {service} ({name} is not set)");
    None
}
