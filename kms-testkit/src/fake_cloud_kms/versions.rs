//! Key versions: what state each is in, and what may follow.

use chrono::{DateTime, Utc};
use kms_core::{KeyBytes, LocalKey};
use serde_json::{Value, json};

use super::keys::{CryptoKey, Page};
use super::refusal::{Answer, Refusal};
use super::values::{enumeration, field, timestamp};

/// A version of a key. Its material is gone once it is destroyed.
pub(super) struct Version {
    pub(super) state: State,
    /// What its ciphertexts begin with.
    pub(super) mark: [u8; Self::MARK_LEN],
    pub(super) material: Option<LocalKey>,
    created: DateTime<Utc>,
    destroy: Option<DateTime<Utc>>,
    destroyed: Option<DateTime<Utc>>,
}

/// The [states](https://cloud.google.com/kms/docs/key-states) that a version of this fake can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Enabled,
    Disabled,
    DestroyScheduled,
    Destroyed,
}

impl State {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Enabled => "ENABLED",
            Self::Disabled => "DISABLED",
            Self::DestroyScheduled => "DESTROY_SCHEDULED",
            Self::Destroyed => "DESTROYED",
        }
    }
}

impl Version {
    pub(super) const MARK_LEN: usize = 8;

    fn new(name: &str) -> Self {
        let mut mark = [0; Self::MARK_LEN];
        mark.copy_from_slice(&KeyBytes::generate().unwrap().expose()[..Self::MARK_LEN]);
        let aead = kms_wrapper_aead::fastest();
        Self {
            state: State::Enabled,
            mark,
            material: Some(LocalKey::new(&*aead, &KeyBytes::generate().unwrap(), name)),
            created: Utc::now(),
            destroy: None,
            destroyed: None,
        }
    }

    /// Makes a destruction happen whose time has come.
    fn settle(&mut self, now: DateTime<Utc>) {
        if self.state == State::DestroyScheduled && self.destroy.is_some_and(|time| time <= now) {
            self.state = State::Destroyed;
            self.destroyed = self.destroy.take();
            self.material = None;
        }
    }
}

impl CryptoKey {
    /// Adds a version, which becomes the primary one only when that is asked for.
    pub(super) fn add_version(&mut self) -> u32 {
        let number = u32::try_from(self.versions.len()).unwrap() + 1;
        self.versions.push(Version::new(&self.version_name(number)));
        number
    }

    pub(super) fn version_name(&self, number: u32) -> String {
        format!("{}/cryptoKeyVersions/{number}", self.name)
    }

    pub(super) fn version(&mut self, number: u32) -> Result<&mut Version, Refusal> {
        let name = self.version_name(number);
        let version = (number as usize)
            .checked_sub(1)
            .and_then(|position| self.versions.get_mut(position))
            .ok_or_else(|| Refusal::not_found("CryptoKeyVersion", &name))?;
        version.settle(Utc::now());
        Ok(version)
    }

    pub(super) fn create_version(&mut self) -> Answer {
        let number = self.add_version();
        Ok(self.version_json(number))
    }

    pub(super) fn get_version(&mut self, number: u32) -> Answer {
        self.version(number)?;
        Ok(self.version_json(number))
    }

    pub(super) fn list_versions(&mut self, page: &Page) -> Answer {
        let count = u32::try_from(self.versions.len()).unwrap();
        let versions = (1..=count)
            .map(|number| self.get_version(number))
            .collect::<Result<_, _>>()?;
        page.of("cryptoKeyVersions", versions)
    }

    /// Enables or disables a version: the only field that can be updated is `state`.
    pub(super) fn update_version(
        &mut self,
        number: u32,
        mask: Option<&str>,
        body: &Value,
    ) -> Answer {
        if mask != Some("state") {
            return Err(Refusal::invalid_argument(
                "update_mask must be set to 'state'.",
            ));
        }
        let wanted = match enumeration(body, "state")? {
            Some("ENABLED") => State::Enabled,
            Some("DISABLED") => State::Disabled,
            other => {
                return Err(Refusal::invalid_argument(format!(
                    "A version can't be updated to state {}.",
                    other.unwrap_or("CRYPTO_KEY_VERSION_STATE_UNSPECIFIED")
                )));
            }
        };
        self.change_state(number, &[State::Enabled, State::Disabled], |version, _| {
            version.state = wanted;
        })
    }

    pub(super) fn destroy_version(&mut self, number: u32) -> Answer {
        let wait = self.destroy_scheduled;
        self.change_state(
            number,
            &[State::Enabled, State::Disabled],
            |version, now| {
                version.state = State::DestroyScheduled;
                version.destroy = Some(now + wait);
            },
        )
    }

    /// A restored version is disabled, and has to be enabled.
    pub(super) fn restore_version(&mut self, number: u32) -> Answer {
        self.change_state(number, &[State::DestroyScheduled], |version, _| {
            version.state = State::Disabled;
            version.destroy = None;
        })
    }

    /// Lets the time pass until a scheduled destruction happens.
    pub(super) fn finish_destruction(&mut self, number: u32) -> Answer {
        self.change_state(number, &[State::DestroyScheduled], |version, now| {
            version.destroy = Some(now);
            version.settle(now);
        })
    }

    /// Any version can be the primary one, also one that is not enabled.
    pub(super) fn set_primary(&mut self, body: &Value) -> Answer {
        if !self.encrypts() {
            return Err(self.incorrect_purpose(None));
        }
        let number = field(body, "cryptoKeyVersionId")
            .and_then(Value::as_str)
            .and_then(|id| id.parse().ok())
            .ok_or_else(|| Refusal::invalid_argument("crypto_key_version_id must be set."))?;
        self.version(number)?;
        self.primary = Some(number);
        Ok(self.to_json())
    }

    pub(super) fn version_json(&self, number: u32) -> Value {
        let version = &self.versions[number as usize - 1];
        let mut json = json!({
            "name": self.version_name(number),
            "state": version.state.name(),
            "protectionLevel": self.protection,
            "algorithm": self.algorithm,
            "createTime": timestamp(version.created),
            "generateTime": timestamp(version.created),
        });
        if let Some(time) = version.destroy {
            json["destroyTime"] = json!(timestamp(time));
        }
        if let Some(time) = version.destroyed {
            json["destroyEventTime"] = json!(timestamp(time));
        }
        json
    }

    pub(super) fn incorrect_purpose(&self, number: Option<u32>) -> Refusal {
        let subject = number.map_or_else(|| self.name.clone(), |n| self.version_name(n));
        Refusal::failed_precondition(
            format!(
                "Operation requested for Key {subject} has incorrect key purpose: {}",
                self.purpose
            ),
            "KEY_PURPOSE_INCORRECT",
            &subject,
        )
    }

    pub(super) fn not_enabled(&self, number: u32, state: State) -> Refusal {
        let name = self.version_name(number);
        let state = state.name();
        Refusal::failed_precondition(
            format!("{name} is not enabled, current state is: {state}."),
            &format!("KEY_{state}"),
            &name,
        )
    }

    fn change_state(
        &mut self,
        number: u32,
        from: &[State],
        change: impl FnOnce(&mut Version, DateTime<Utc>),
    ) -> Answer {
        let name = self.version_name(number);
        let version = self.version(number)?;
        if !from.contains(&version.state) {
            let state = version.state.name();
            return Err(Refusal::failed_precondition(
                format!("The request cannot be fulfilled. {name} has state {state}."),
                &format!("KEY_{state}"),
                &name,
            ));
        }
        change(version, Utc::now());
        Ok(self.version_json(number))
    }
}
