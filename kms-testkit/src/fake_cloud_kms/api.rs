//! From a request to the method it calls.

use std::collections::HashMap;

use axum::http::Method;
use serde_json::Value;

use super::calls::CloudKmsMethod;
use super::client::CloudKmsPermission;
use super::fields;
use super::keys::{Keys, Page};
use super::name::{Target, parse};
use super::refusal::{Answer, Refusal};

/// A request of the service's API, read as far as needed to know what it calls.
pub(super) struct Call {
    pub(super) method: CloudKmsMethod,
    target: Target,
    query: HashMap<String, String>,
    body: Value,
}

impl Call {
    /// `path` is what follows `/v1/`.
    pub(super) fn read(
        method: &Method,
        path: &str,
        query: HashMap<String, String>,
        body: &[u8],
    ) -> Result<Self, Refusal> {
        let unknown = || Refusal::unimplemented(format!("The fake has no {method} /v1/{path}."));
        let (target, verb) = parse(path).ok_or_else(unknown)?;
        let method = called(method, &target, verb).ok_or_else(unknown)?;
        let body = match body {
            [] => Value::Object(serde_json::Map::new()),
            body => serde_json::from_slice(body).map_err(|error| {
                Refusal::invalid_argument(format!("Invalid JSON payload received. {error}"))
            })?,
        };
        fields::check(method, &query, &body)?;
        if let Some(name) = ["filter", "orderBy"]
            .into_iter()
            .find(|name| query.get(*name).is_some_and(|value| !value.is_empty()))
        {
            return Err(Refusal::unimplemented(format!("The fake has no {name}.")));
        }
        Ok(Self {
            method,
            target,
            query,
            body,
        })
    }

    /// The key that it is about, if it is about one.
    pub(super) fn key(&self) -> Option<&str> {
        match &self.target {
            Target::CryptoKey { key } | Target::Versions { key } | Target::Version { key, .. } => {
                Some(key)
            }
            _ => None,
        }
    }

    pub(super) fn answer(&self, keys: &mut Keys) -> Answer {
        use CloudKmsMethod as M;
        match (&self.target, self.method) {
            (Target::KeyRings { location }, M::CreateKeyRing) => {
                keys.create_ring(location, self.parameter("keyRingId"))
            }
            (Target::KeyRings { location }, _) => keys.rings(location, &self.page()?),
            (Target::KeyRing { ring }, _) => keys.ring(ring),
            (Target::CryptoKeys { ring }, M::CreateCryptoKey) => keys.create_key(
                ring,
                self.parameter("cryptoKeyId"),
                self.parameter("skipInitialVersionCreation") == "true",
                &self.body,
            ),
            (Target::CryptoKeys { ring }, _) => keys.keys(ring, &self.page()?),
            (Target::CryptoKey { key }, method) => self.of_key(keys, key, method),
            (Target::Versions { key }, M::CreateCryptoKeyVersion) => {
                keys.key_mut(key)?.create_version()
            }
            (Target::Versions { key }, _) => keys.key_mut(key)?.list_versions(&self.page()?),
            (Target::Version { key, number }, method) => {
                self.of_version(keys, key, *number, method)
            }
        }
    }

    fn of_key(&self, keys: &mut Keys, key: &str, method: CloudKmsMethod) -> Answer {
        use CloudKmsMethod as M;
        match method {
            M::Encrypt => {
                keys.check(key, CloudKmsPermission::Encrypt)?;
                keys.key_mut(key)?.encrypt(None, &self.body)
            }
            M::Decrypt => {
                keys.check(key, CloudKmsPermission::Decrypt)?;
                keys.key_mut(key)?.decrypt(&self.body)
            }
            M::UpdateCryptoKeyPrimaryVersion => keys.key_mut(key)?.set_primary(&self.body),
            M::TestIamPermissions => keys.test_permissions(key, &self.body),
            _ => {
                keys.check(key, CloudKmsPermission::Get)?;
                Ok(keys.key(key)?.to_json())
            }
        }
    }

    fn of_version(
        &self,
        keys: &mut Keys,
        key: &str,
        number: u32,
        method: CloudKmsMethod,
    ) -> Answer {
        use CloudKmsMethod as M;
        if method == M::Encrypt {
            keys.check(key, CloudKmsPermission::Encrypt)?;
        }
        let key = keys.key_mut(key)?;
        match method {
            M::Encrypt => key.encrypt(Some(number), &self.body),
            M::UpdateCryptoKeyVersion => {
                let mask = self.query.get("updateMask").map(String::as_str);
                key.update_version(number, mask, &self.body)
            }
            M::DestroyCryptoKeyVersion => key.destroy_version(number),
            M::RestoreCryptoKeyVersion => key.restore_version(number),
            _ => key.get_version(number),
        }
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn page(&self) -> Result<Page, Refusal> {
        Page::new(
            self.query.get("pageSize").map(String::as_str),
            self.query.get("pageToken").map(String::as_str),
        )
    }
}

fn called(method: &Method, target: &Target, verb: Option<&str>) -> Option<CloudKmsMethod> {
    use CloudKmsMethod as M;
    Some(match (method.as_str(), target, verb) {
        ("POST", Target::KeyRings { .. }, None) => M::CreateKeyRing,
        ("GET", Target::KeyRings { .. }, None) => M::ListKeyRings,
        ("GET", Target::KeyRing { .. }, None) => M::GetKeyRing,
        ("POST", Target::CryptoKeys { .. }, None) => M::CreateCryptoKey,
        ("GET", Target::CryptoKeys { .. }, None) => M::ListCryptoKeys,
        ("GET", Target::CryptoKey { .. }, None) => M::GetCryptoKey,
        ("POST", Target::CryptoKey { .. } | Target::Version { .. }, Some("encrypt")) => M::Encrypt,
        ("POST", Target::CryptoKey { .. }, Some("decrypt")) => M::Decrypt,
        ("POST", Target::CryptoKey { .. }, Some("updatePrimaryVersion")) => {
            M::UpdateCryptoKeyPrimaryVersion
        }
        ("POST", Target::CryptoKey { .. }, Some("testIamPermissions")) => M::TestIamPermissions,
        ("POST", Target::Versions { .. }, None) => M::CreateCryptoKeyVersion,
        ("GET", Target::Versions { .. }, None) => M::ListCryptoKeyVersions,
        ("GET", Target::Version { .. }, None) => M::GetCryptoKeyVersion,
        ("PATCH", Target::Version { .. }, None) => M::UpdateCryptoKeyVersion,
        ("POST", Target::Version { .. }, Some("destroy")) => M::DestroyCryptoKeyVersion,
        ("POST", Target::Version { .. }, Some("restore")) => M::RestoreCryptoKeyVersion,
        _ => return None,
    })
}
