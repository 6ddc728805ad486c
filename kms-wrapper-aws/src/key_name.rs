//! Names of keys: what may be configured, and what the service answers with.

use kms_core::{Error, ErrorKind, Result};

/// Longest key id of the service's API.
const MAX_LEN: usize = 2048;

/// A configured key, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KeyName {
    Arn(KeyArn),
    Id(String),
    Alias(String),
    AliasArn { text: String, place: Place },
}

impl KeyName {
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let name = if let Some(key) = KeyArn::parse(text) {
            Some(Self::Arn(key))
        } else if is_id(text) {
            Some(Self::Id(text.to_owned()))
        } else if is_alias(text) {
            Some(Self::Alias(text.to_owned()))
        } else {
            Place::parse(text)
                .filter(|(_, resource)| is_alias(resource))
                .map(|(place, _)| Self::AliasArn {
                    text: text.to_owned(),
                    place,
                })
        };
        name.filter(|_| text.len() <= MAX_LEN).ok_or_else(|| {
            Error::new(ErrorKind::InvalidConfiguration)
                .with_detail(
                    "not the name of a key in AWS KMS: give its ARN, its id, alias/NAME, or the alias' ARN",
                )
                .with_context("root_key_id", text)
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        match self {
            Self::Arn(key) => key.as_str(),
            Self::Id(text) | Self::Alias(text) | Self::AliasArn { text, .. } => text,
        }
    }

    /// The key itself, where the name says it in full.
    pub(crate) fn arn(&self) -> Option<&KeyArn> {
        match self {
            Self::Arn(key) => Some(key),
            _ => None,
        }
    }

    /// The Region that the name says.
    pub(crate) fn region(&self) -> Option<&str> {
        match self {
            Self::Arn(key) => Some(&key.place.region),
            Self::AliasArn { place, .. } => Some(&place.region),
            Self::Id(_) | Self::Alias(_) => None,
        }
    }

    /// Whether the name can be made to stand for another key.
    pub(crate) fn is_alias(&self) -> bool {
        matches!(self, Self::Alias(_) | Self::AliasArn { .. })
    }

    /// Whether this key can be the one of this name.
    pub(crate) fn may_be(&self, key: &KeyArn) -> bool {
        match self {
            Self::Arn(own) => own.is_same_key(key),
            Self::Id(id) => id.eq_ignore_ascii_case(&key.id),
            Self::Alias(_) => true,
            Self::AliasArn { place, .. } => key.could_be_in(place),
        }
    }
}

/// Where a key lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    partition: String,
    region: String,
    account: String,
}

impl Place {
    /// The place of an ARN of KMS, and the resource in it.
    fn parse(text: &str) -> Option<(Self, &str)> {
        let mut parts = text.splitn(6, ':');
        let mut next = || parts.next();
        let (arn, partition, service) = (next()?, next()?, next()?);
        let (region, account, resource) = (next()?, next()?, next()?);
        let named = |text: &str| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let valid = arn == "arn"
            && partition.starts_with("aws")
            && named(partition)
            && service == "kms"
            && named(region)
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit());
        let place = Self {
            partition: partition.to_owned(),
            region: region.to_owned(),
            account: account.to_owned(),
        };
        valid.then_some((place, resource))
    }
}

/// The ARN of a key: the name that the service gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyArn {
    text: String,
    place: Place,
    id: String,
}

impl KeyArn {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (place, resource) = Place::parse(text)?;
        let id = resource.strip_prefix("key/").filter(|id| is_id(id))?;
        Some(Self {
            text: text.to_owned(),
            place,
            id: id.to_owned(),
        })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether both are one key. The Regions' copies of a multi-Region key have one id, and the same key
    /// material: each decrypts what another encrypted.
    pub(crate) fn is_same_key(&self, other: &Self) -> bool {
        self.id == other.id && other.could_be_in(&self.place)
    }

    /// Whether the key is in this place, or a multi-Region key that may have a copy there.
    pub(crate) fn could_be_in(&self, place: &Place) -> bool {
        self.place.partition == place.partition
            && self.place.account == place.account
            && (self.place.region == place.region || is_multi_region(&self.id))
    }

    /// Whether an alias that stands for this key could at another time stand for the other one: aliases move
    /// within their account and Region.
    pub(crate) fn has_alias_in_common(&self, other: &Self) -> bool {
        other.could_be_in(&self.place)
    }
}

fn is_multi_region(id: &str) -> bool {
    id.starts_with("mrk-")
}

/// A UUID, or `mrk-` and 32 hexadecimal digits.
fn is_id(text: &str) -> bool {
    let hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    match text.strip_prefix("mrk-") {
        Some(digits) => hex(digits, 32),
        None => {
            const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
            let mut groups = text.split('-');
            GROUPS
                .into_iter()
                .all(|len| groups.next().is_some_and(|group| hex(group, len)))
                && groups.next().is_none()
        }
    }
}

fn is_alias(text: &str) -> bool {
    text.len() <= 256
        && text.strip_prefix("alias/").is_some_and(|name| {
            !name.is_empty()
                && name
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"/_-".contains(&byte))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "1234abcd-12ab-34cd-56ef-1234567890ab";
    const MRK: &str = "mrk-1234abcd12ab34cd56ef1234567890ab";

    fn arn(region: &str, account: &str, id: &str) -> KeyArn {
        KeyArn::parse(&format!("arn:aws:kms:{region}:{account}:key/{id}")).unwrap()
    }

    #[test]
    fn every_way_to_name_a_key_is_taken() {
        for name in [
            "arn:aws:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws-us-gov:kms:us-gov-west-1:111122223333:key/mrk-1234abcd12ab34cd56ef1234567890ab",
            "arn:aws-cn:kms:cn-north-1:111122223333:alias/app/root_key-1",
            UUID,
            MRK,
            "alias/app",
        ] {
            assert_eq!(KeyName::parse(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_names_no_key_is_refused() {
        for name in [
            "",
            " ",
            "app",
            "alias/",
            "alias/a b",
            "alias/a:b",
            "Alias/app",
            "mrk-1234",
            "1234abcd-12ab-34cd-56ef-1234567890a",
            "1234abcd-12ab-34cd-56ef-1234567890ab-1234",
            "1234abcd-12ab-34cd-56ef-1234567890ab\n",
            "arn:aws:kms:us-east-2:111122223333:key/",
            "arn:aws:kms:us-east-2:111122223333:key/alias/app",
            "arn:aws:kms:us-east-2:11112222333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms::111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:gcp:kms:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:s3:us-east-2:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
            "arn:aws:kms:us-east-2:111122223333:alias",
            &format!("alias/{}", "a".repeat(251)),
        ] {
            let error = KeyName::parse(name).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidConfiguration, "{name}");
        }
    }

    #[test]
    fn a_multi_region_key_is_the_same_in_every_region_and_any_other_key_is_not() {
        let key = arn("us-east-1", "111122223333", MRK);
        assert!(key.is_same_key(&arn("eu-west-1", "111122223333", MRK)));
        assert!(!key.is_same_key(&arn("us-east-1", "111122223334", MRK)));
        let key = arn("us-east-1", "111122223333", UUID);
        assert!(key.is_same_key(&arn("us-east-1", "111122223333", UUID)));
        assert!(!key.is_same_key(&arn("eu-west-1", "111122223333", UUID)));
        assert!(!key.is_same_key(&arn("us-east-1", "111122223333", MRK)));
    }

    #[test]
    fn a_name_admits_the_keys_that_it_can_stand_for() {
        let here = arn("us-east-1", "111122223333", UUID);
        let there = arn("eu-west-1", "111122223333", UUID);
        let other = arn("us-east-1", "111122223334", UUID);
        let admits = |name: &str| {
            let name = KeyName::parse(name).unwrap();
            [&here, &there, &other].map(|key| name.may_be(key))
        };
        assert_eq!(admits(here.as_str()), [true, false, false]);
        assert_eq!(
            admits("arn:aws:kms:us-east-1:111122223333:alias/app"),
            [true, false, false]
        );
        assert_eq!(admits("alias/app"), [true; 3]);
        assert_eq!(admits(UUID), [true; 3]);
        assert_eq!(admits(MRK), [false; 3]);
    }
}
