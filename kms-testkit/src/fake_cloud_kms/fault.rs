//! Faults on demand.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::calls::CloudKmsMethod;

/// Something that goes wrong with the calls to come: with all of them, unless [`of`](Self::of) or
/// [`times`](Self::times) limit it. Of several faults the first that applies is taken.
///
/// ```
/// use kms_testkit::fake_cloud_kms::{CloudKmsFault, CloudKmsMethod};
///
/// let fault = CloudKmsFault::unavailable().of(CloudKmsMethod::Encrypt).times(3);
/// assert_eq!(
///     serde_json::to_string(&fault).unwrap(),
///     r#"{"fault":"unavailable","method":"Encrypt","times":3}"#
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudKmsFault {
    #[serde(rename = "fault")]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<CloudKmsMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    /// Of `latency` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    millis: Option<u64>,
    /// Of `denied` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    Latency,
    Hang,
    Reset,
    ResourceExhausted,
    Unavailable,
    Denied,
    FlippedBit,
    AnotherKey,
    ChecksumIgnored,
    CutShort,
    NotJson,
}

impl CloudKmsFault {
    /// The answer comes this much later.
    #[must_use]
    pub fn latency(latency: Duration) -> Self {
        let millis = u64::try_from(latency.as_millis()).unwrap_or(u64::MAX);
        Self {
            millis: Some(millis),
            ..Self::new(Kind::Latency)
        }
    }

    /// No answer comes, and the connection stays open.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Kind::Hang)
    }

    /// The connection is reset instead of an answer.
    #[must_use]
    pub fn reset() -> Self {
        Self::new(Kind::Reset)
    }

    /// 429 `RESOURCE_EXHAUSTED`: the quota is used up.
    #[must_use]
    pub fn resource_exhausted() -> Self {
        Self::new(Kind::ResourceExhausted)
    }

    /// 503 `UNAVAILABLE`.
    #[must_use]
    pub fn unavailable() -> Self {
        Self::new(Kind::Unavailable)
    }

    /// 403 `PERMISSION_DENIED` of another cause than a missing permission: `SERVICE_DISABLED`, `USER_PROJECT_DENIED`,
    /// `BILLING_DISABLED`, `SECURITY_POLICY_VIOLATED`.
    #[must_use]
    pub fn denied(reason: &str) -> Self {
        Self {
            reason: Some(reason.to_owned()),
            ..Self::new(Kind::Denied)
        }
    }

    /// One bit of the ciphertext, or of the plaintext when decrypting, differs from what was made; the CRC32C is
    /// that of the original.
    #[must_use]
    pub fn flipped_bit() -> Self {
        Self::new(Kind::FlippedBit)
    }

    /// The answer to another call: `encrypt` names another key, `decrypt` gives another plaintext of 32 bytes. Their
    /// checksums are right.
    #[must_use]
    pub fn another_key() -> Self {
        Self::new(Kind::AnotherKey)
    }

    /// `encrypt` answers as if the request's checksums had not arrived.
    #[must_use]
    pub fn checksum_ignored() -> Self {
        Self::new(Kind::ChecksumIgnored)
    }

    /// The connection is cut in the middle of the answer's body.
    #[must_use]
    pub fn cut_short() -> Self {
        Self::new(Kind::CutShort)
    }

    /// 200 with a page of HTML, as of a proxy that asks to log in.
    #[must_use]
    pub fn not_json() -> Self {
        Self::new(Kind::NotJson)
    }

    /// Only with calls of this method.
    #[must_use]
    pub fn of(mut self, method: CloudKmsMethod) -> Self {
        self.method = Some(method);
        self
    }

    /// Only with so many calls.
    #[must_use]
    pub fn times(mut self, times: u32) -> Self {
        self.times = Some(times);
        self
    }

    fn new(kind: Kind) -> Self {
        Self {
            kind,
            method: None,
            times: None,
            millis: None,
            reason: None,
        }
    }
}

/// The faults to come.
#[derive(Debug, Default)]
pub(super) struct Faults(Vec<CloudKmsFault>);

/// What goes wrong with one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub(super) kind: Kind,
    pub(super) latency: Duration,
    pub(super) reason: String,
}

impl Faults {
    pub(super) fn add(&mut self, fault: CloudKmsFault) {
        self.0.push(fault);
    }

    pub(super) fn all(&self) -> &[CloudKmsFault] {
        &self.0
    }

    /// What goes wrong with this call, if anything; it counts as used.
    pub(super) fn take(&mut self, method: CloudKmsMethod) -> Option<Trouble> {
        let position = self.0.iter().position(|fault| {
            fault.method.is_none_or(|only| only == method) && fault.times != Some(0)
        })?;
        let fault = &mut self.0[position];
        let trouble = Trouble {
            kind: fault.kind,
            latency: Duration::from_millis(fault.millis.unwrap_or_default()),
            reason: fault.reason.clone().unwrap_or_default(),
        };
        if let Some(times) = &mut fault.times {
            *times -= 1;
            if *times == 0 {
                self.0.remove(position);
            }
        }
        Some(trouble)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_taken_as_often_as_said_and_only_by_its_method() {
        let mut faults = Faults::default();
        faults.add(CloudKmsFault::hang().of(CloudKmsMethod::Encrypt).times(2));
        faults.add(CloudKmsFault::reset());
        let mut kind = |method| faults.take(method).map(|trouble| trouble.kind);
        assert_eq!(kind(CloudKmsMethod::Decrypt), Some(Kind::Reset));
        assert_eq!(kind(CloudKmsMethod::Encrypt), Some(Kind::Hang));
        assert_eq!(kind(CloudKmsMethod::Encrypt), Some(Kind::Hang));
        assert_eq!(kind(CloudKmsMethod::Encrypt), Some(Kind::Reset));
    }
}
