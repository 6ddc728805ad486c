//! Names of keys and of their versions.

use std::fmt;

use kms_core::{Error, ErrorKind, Result};

const VERSIONS: &str = "/cryptoKeyVersions/";

/// `projects/…/locations/…/keyRings/…/cryptoKeys/…`, checked.
///
/// The name becomes part of a URL, and what builds that URL would take `..` and other delimiters for what they
/// mean there: `cryptoKeys/k/../z` would reach the key `z`. So the letters are those that names can have, and
/// nothing else.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct KeyName(String);

impl KeyName {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        let wrong = if name.is_empty() {
            "no key: give its name, projects/…/locations/…/keyRings/…/cryptoKeys/…"
        } else if name.contains(VERSIONS) {
            "the name of a key version: give the key's, without /cryptoKeyVersions/…"
        } else if !is_key_name(name) {
            "not the name of a key: projects/PROJECT/locations/LOCATION/keyRings/RING/cryptoKeys/KEY"
        } else {
            return Ok(Self(name.to_owned()));
        };
        Err(Error::new(ErrorKind::InvalidConfiguration)
            .with_detail(wrong)
            .with_context("root_key_id", name))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is the name of one of the key's versions.
    pub(crate) fn has_version(&self, name: &str) -> bool {
        self.version(name).is_some()
    }

    /// The number of the key's version of this name.
    pub(crate) fn version(&self, name: &str) -> Option<u64> {
        let number = name.strip_prefix(&self.0)?.strip_prefix(VERSIONS)?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        number.parse().ok().filter(|_| digits)
    }
}

impl fmt::Debug for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

fn is_key_name(name: &str) -> bool {
    let segments: Vec<&str> = name.split('/').collect();
    let [
        "projects",
        project,
        "locations",
        location,
        "keyRings",
        ring,
        "cryptoKeys",
        key,
    ] = segments[..]
    else {
        return false;
    };
    is_project(project)
        && is_of(location, |byte| byte == b'-')
        && [ring, key]
            .iter()
            .all(|id| is_of(id, |byte| byte == b'-' || byte == b'_'))
}

/// An id or a number, with its domain in front where it has one (`example.com:app`).
fn is_project(text: &str) -> bool {
    let (domain, id) = match text.split_once(':') {
        Some((domain, id)) => (Some(domain), id),
        None => (None, text),
    };
    let is_domain = |domain: &str| {
        domain
            .split('.')
            .all(|label| is_of(label, |byte| byte == b'-'))
    };
    is_of(id, |byte| byte == b'-') && domain.is_none_or(is_domain)
}

/// 1 to 63 ASCII letters, digits and these others
/// ([resource IDs](https://cloud.google.com/kms/docs/resource-hierarchy#resource_ids)).
fn is_of(text: &str, other: impl Fn(u8) -> bool) -> bool {
    (1..=63).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || other(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "projects/acme-1/locations/europe-west3/keyRings/app_ring/cryptoKeys/Root-1";

    #[test]
    fn the_names_of_keys_are_taken() {
        for name in [
            NAME,
            "projects/123456789012/locations/global/keyRings/r/cryptoKeys/k",
            "projects/example.com:acme/locations/us/keyRings/r/cryptoKeys/k",
        ] {
            assert_eq!(KeyName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_could_mean_something_else_in_a_url_is_refused() {
        let longest = "k".repeat(63);
        let ring = "projects/p/locations/l/keyRings/r/cryptoKeys";
        KeyName::parse(&format!("{ring}/{longest}")).unwrap();
        for name in [
            "",
            "alias/app",
            "projects/p/locations/l/keyRings/r",
            "/projects/p/locations/l/keyRings/r/cryptoKeys/k",
            &format!("{ring}/"),
            &format!("{ring}/k/"),
            &format!("{ring}/k/cryptoKeyVersions/1"),
            &format!("{ring}/k/../z"),
            &format!("{ring}/.."),
            &format!("{ring}/."),
            &format!("{ring}//k"),
            &format!("{ring}/k%2e"),
            &format!("{ring}/k?x=y"),
            &format!("{ring}/k#x"),
            &format!("{ring}/k:decrypt"),
            &format!("{ring}/k\\z"),
            &format!("{ring}/k z"),
            &format!("{ring}/k\n"),
            &format!("{ring}/ключ"),
            &format!("{ring}/{longest}k"),
            "projects/../locations/l/keyRings/r/cryptoKeys/k",
            "projects/a..b:p/locations/l/keyRings/r/cryptoKeys/k",
            "projects/p/locations/../keyRings/r/cryptoKeys/k",
            "Projects/p/locations/l/keyRings/r/cryptoKeys/k",
        ] {
            let error = KeyName::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{name:?}");
        }
    }

    #[test]
    fn a_version_is_the_keys_only_if_nothing_else_could_be_meant() {
        let name = KeyName::parse(NAME).unwrap();
        assert!(name.has_version(&format!("{NAME}/cryptoKeyVersions/12")));
        for other in [
            NAME.to_owned(),
            format!("{NAME}/cryptoKeyVersions/"),
            format!("{NAME}/cryptoKeyVersions/1/2"),
            format!("{NAME}/cryptoKeyVersions/x"),
            format!("{NAME}0/cryptoKeyVersions/1"),
            format!("x{NAME}/cryptoKeyVersions/1"),
        ] {
            assert!(!name.has_version(&other), "{other}");
        }
    }
}
