//! The key rings and keys, and the methods on them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::client::CloudKmsPermission;
use super::name::check_id;
use super::refusal::{Answer, Refusal};
use super::values::{enumeration, field, timestamp};
use super::versions::Version;

/// How long a version stays restorable where its key does not say: 30 days, as the service has it.
const DESTROY_SCHEDULED: TimeDelta = TimeDelta::days(30);

/// Everything that the fake keeps, by full name.
#[derive(Default)]
pub(super) struct Keys {
    rings: BTreeMap<String, DateTime<Utc>>,
    keys: BTreeMap<String, CryptoKey>,
    denied: BTreeMap<String, BTreeSet<CloudKmsPermission>>,
}

pub(super) struct CryptoKey {
    pub(super) name: String,
    pub(super) purpose: &'static str,
    pub(super) algorithm: &'static str,
    pub(super) protection: &'static str,
    pub(super) primary: Option<u32>,
    pub(super) destroy_scheduled: TimeDelta,
    /// Version `n` is at `n - 1`; versions are never removed.
    pub(super) versions: Vec<Version>,
    created: DateTime<Utc>,
    labels: Option<Value>,
}

impl Keys {
    pub(super) fn create_ring(&mut self, location: &str, id: &str) -> Answer {
        check_id("keyRingId", id)?;
        let name = format!("{location}/keyRings/{id}");
        if self.rings.contains_key(&name) {
            return Err(Refusal::already_exists("KeyRing", &name));
        }
        self.rings.insert(name.clone(), Utc::now());
        self.ring(&name)
    }

    pub(super) fn ring(&self, name: &str) -> Answer {
        let created = self
            .rings
            .get(name)
            .ok_or_else(|| Refusal::not_found("KeyRing", name))?;
        Ok(json!({ "name": name, "createTime": timestamp(*created) }))
    }

    pub(super) fn rings(&self, location: &str, page: &Page) -> Answer {
        let prefix = format!("{location}/keyRings/");
        let names = self.rings.keys().filter(|name| name.starts_with(&prefix));
        let rings = names
            .map(|name| self.ring(name))
            .collect::<Result<_, _>>()?;
        page.of("keyRings", rings)
    }

    pub(super) fn create_key(
        &mut self,
        ring: &str,
        id: &str,
        skip_initial_version: bool,
        body: &Value,
    ) -> Answer {
        check_id("cryptoKeyId", id)?;
        self.ring(ring)?;
        let name = format!("{ring}/cryptoKeys/{id}");
        if self.keys.contains_key(&name) {
            return Err(Refusal::already_exists("CryptoKey", &name));
        }
        let mut key = CryptoKey::new(name.clone(), body)?;
        if !skip_initial_version {
            key.add_version();
            key.primary = key.encrypts().then_some(1);
        }
        let answer = key.to_json();
        self.keys.insert(name, key);
        Ok(answer)
    }

    pub(super) fn keys(&self, ring: &str, page: &Page) -> Answer {
        self.ring(ring)?;
        let prefix = format!("{ring}/cryptoKeys/");
        let keys = self
            .keys
            .values()
            .filter(|key| key.name.starts_with(&prefix))
            .map(CryptoKey::to_json)
            .collect();
        page.of("cryptoKeys", keys)
    }

    pub(super) fn key(&self, name: &str) -> Result<&CryptoKey, Refusal> {
        self.keys
            .get(name)
            .ok_or_else(|| Refusal::not_found("CryptoKey", name))
    }

    pub(super) fn key_mut(&mut self, name: &str) -> Result<&mut CryptoKey, Refusal> {
        self.keys
            .get_mut(name)
            .ok_or_else(|| Refusal::not_found("CryptoKey", name))
    }

    /// Any version of a key other than this, for an answer that is about another key.
    pub(super) fn another_than(&self, name: &str) -> String {
        self.keys
            .keys()
            .find(|other| *other != name)
            .map_or_else(|| format!("{name}-another"), Clone::clone)
            + "/cryptoKeyVersions/1"
    }

    pub(super) fn deny(&mut self, key: String, permissions: BTreeSet<CloudKmsPermission>) {
        self.denied.insert(key, permissions);
    }

    pub(super) fn deny_nothing(&mut self) {
        self.denied.clear();
    }

    /// Refuses what was denied. A denied caller isn't told whether the key exists.
    pub(super) fn check(&self, key: &str, permission: CloudKmsPermission) -> Result<(), Refusal> {
        if self.allows(key, permission) {
            Ok(())
        } else {
            Err(Refusal::permission_denied(permission.name(), key))
        }
    }

    /// The permissions of the request that the caller has: all but those denied, and none on a key that isn't there.
    pub(super) fn test_permissions(&self, key: &str, body: &Value) -> Answer {
        let asked = field(body, "permissions").and_then(Value::as_array);
        let granted: Vec<&Value> = asked
            .into_iter()
            .flatten()
            .filter(|name| {
                CloudKmsPermission::ALL
                    .into_iter()
                    .find(|permission| *name == permission.name())
                    .is_none_or(|permission| self.allows(key, permission))
            })
            .collect();
        if granted.is_empty() || !self.keys.contains_key(key) {
            return Ok(json!({}));
        }
        Ok(json!({ "permissions": granted }))
    }

    fn allows(&self, key: &str, permission: CloudKmsPermission) -> bool {
        self.denied
            .get(key)
            .is_none_or(|denied| !denied.contains(&permission))
    }
}

impl CryptoKey {
    fn new(name: String, body: &Value) -> Result<Self, Refusal> {
        let missing = |field: &str| Refusal::invalid_argument(format!("{field} must be set."));
        let purpose = enumeration(body, "purpose")?.ok_or_else(|| missing("purpose"))?;
        let template = field(body, "versionTemplate").unwrap_or(&Value::Null);
        let algorithm = match (purpose, enumeration(template, "algorithm")?) {
            ("ENCRYPT_DECRYPT", None) => "GOOGLE_SYMMETRIC_ENCRYPTION",
            (_, None) => return Err(missing("versionTemplate.algorithm")),
            (_, Some(algorithm)) => algorithm,
        };
        if (purpose == "ENCRYPT_DECRYPT") != (algorithm == "GOOGLE_SYMMETRIC_ENCRYPTION") {
            return Err(Refusal::invalid_argument(format!(
                "Algorithm {algorithm} is not valid for purpose {purpose}."
            )));
        }
        Ok(Self {
            name,
            purpose,
            algorithm,
            protection: enumeration(template, "protectionLevel")?.unwrap_or("SOFTWARE"),
            primary: None,
            destroy_scheduled: match field(body, "destroyScheduledDuration") {
                Some(duration) => duration_of(duration)?,
                None => DESTROY_SCHEDULED,
            },
            versions: Vec::new(),
            created: Utc::now(),
            labels: field(body, "labels").cloned(),
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let mut key = json!({
            "name": self.name,
            "purpose": self.purpose,
            "createTime": timestamp(self.created),
            "versionTemplate": { "algorithm": self.algorithm, "protectionLevel": self.protection },
            "destroyScheduledDuration": format!("{}s", self.destroy_scheduled.num_seconds()),
        });
        if let Some(number) = self.primary {
            key["primary"] = self.version_json(number);
        }
        if let Some(labels) = &self.labels {
            key["labels"] = labels.clone();
        }
        key
    }

    pub(super) fn encrypts(&self) -> bool {
        self.purpose == "ENCRYPT_DECRYPT"
    }
}

/// A duration in seconds, `86400s`.
fn duration_of(value: &Value) -> Result<TimeDelta, Refusal> {
    value
        .as_str()
        .and_then(|text| text.strip_suffix('s')?.parse::<f64>().ok())
        .filter(|seconds| (0.0..1e9).contains(seconds))
        .map(|seconds| {
            #[expect(clippy::cast_possible_truncation, reason = "below 10^12")]
            TimeDelta::milliseconds((seconds * 1000.0) as i64)
        })
        .ok_or_else(|| {
            Refusal::invalid_argument(format!(
                "Invalid value at 'destroyScheduledDuration' (TYPE_DURATION), {value}"
            ))
        })
}

/// The page of a list that a request wants.
pub(super) struct Page {
    size: usize,
    /// Where it starts: what the previous page's `nextPageToken` said.
    start: usize,
}

impl Page {
    const LONGEST: usize = 1000;

    /// From the query's `pageSize` and `pageToken`.
    pub(super) fn new(size: Option<&str>, token: Option<&str>) -> Result<Self, Refusal> {
        let size = match size.map_or(Ok(0), str::parse) {
            Ok(0) => 100,
            Ok(size) => Self::LONGEST.min(size),
            Err(_) => return Err(Refusal::invalid_argument("Invalid page size.")),
        };
        let start = match token.filter(|token| !token.is_empty()) {
            None => 0,
            Some(token) => token
                .strip_prefix("after-")
                .and_then(|start| start.parse().ok())
                .ok_or_else(|| Refusal::invalid_argument("Invalid page token."))?,
        };
        Ok(Self { size, start })
    }

    pub(super) fn of(&self, field: &str, items: Vec<Value>) -> Answer {
        let total = items.len();
        let end = self.start.saturating_add(self.size);
        let page: Vec<Value> = items.into_iter().skip(self.start).take(self.size).collect();
        // Fields of the default value are left out.
        let mut answer = json!({});
        if !page.is_empty() {
            answer[field] = Value::Array(page);
        }
        if total > 0 {
            answer["totalSize"] = json!(total);
        }
        if end < total {
            answer["nextPageToken"] = json!(format!("after-{end}"));
        }
        Ok(answer)
    }
}
