//! Which key on which token: what blobs carry.

use std::fmt;

use data_encoding::HEXUPPER;
use kms_core::Ownership;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};

/// A key as its token describes it. Its text is a URI as of RFC 7512 with one attribute more, the check value:
/// `pkcs11:serial=0123;object=root;id=%01;check-value=A1B2C3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) serial: String,
    pub(crate) label: Vec<u8>,
    pub(crate) id: Vec<u8>,
    /// `CKA_CHECK_VALUE`, three bytes of an encryption of zeros; not every token has it.
    pub(crate) check_value: Option<Vec<u8>>,
}

/// What RFC 7512 lets stand in every attribute, and no more.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

const SCHEME: &str = "pkcs11:";

impl Identity {
    /// Reads what [`Display`](fmt::Display) writes. `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut identity = Self {
            serial: String::new(),
            label: Vec::new(),
            id: Vec::new(),
            check_value: None,
        };
        for attribute in text.strip_prefix(SCHEME)?.split(';') {
            let (name, value) = attribute.split_once('=')?;
            let value: Vec<u8> = percent_decode_str(value).collect();
            match name {
                "serial" => identity.serial = String::from_utf8(value).ok()?,
                "object" => identity.label = value,
                "id" => identity.id = value,
                "check-value" => identity.check_value = Some(HEXUPPER.decode(&value).ok()?),
                _ => return None,
            }
        }
        // There is one way to write it, so that two keys are never one.
        (identity.to_string() == text).then_some(identity)
    }

    /// Whether a blob of `other` is this key's. A key may be on several tokens, and have another label there; what
    /// tells it from others is the check value, if both have one.
    pub(crate) fn made(&self, other: &Self) -> Ownership {
        // Without a check value, another key made under the same names looks the same.
        if self == other && self.check_value.is_some() {
            return Ownership::Yes;
        }
        let may_be = match (&self.check_value, &other.check_value) {
            (Some(own), Some(others)) => own == others,
            _ => self.label == other.label && self.id == other.id,
        };
        if may_be {
            Ownership::Unknown
        } else {
            Ownership::No
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{SCHEME}serial={};object={};id={}",
            percent_encode(self.serial.as_bytes(), ESCAPED),
            percent_encode(&self.label, ESCAPED),
            percent_encode(&self.id, ESCAPED),
        )?;
        match &self.check_value {
            Some(value) => write!(f, ";check-value={}", HEXUPPER.encode(value)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(serial: &str, label: &str, check_value: Option<[u8; 3]>) -> Identity {
        Identity {
            serial: serial.to_owned(),
            label: label.into(),
            id: vec![1, b'a', 0xff],
            check_value: check_value.map(Vec::from),
        }
    }

    #[test]
    fn the_text_is_a_uri_that_is_read_back() {
        let identity = key("01 23", "root;=ä", Some([1, 2, 0xab]));
        let text = identity.to_string();
        assert_eq!(
            text,
            "pkcs11:serial=01%2023;object=root%3B%3D%C3%A4;id=%01a%FF;check-value=0102AB"
        );
        assert_eq!(Identity::parse(&text), Some(identity));
        let without = key("0123", "root", None);
        assert_eq!(Identity::parse(&without.to_string()), Some(without));
    }

    #[test]
    fn any_other_text_is_none_of_ours() {
        let ours = key("0123", "root", Some([1, 2, 3])).to_string();
        for other in [
            "",
            "pkcs11:",
            "aead",
            "pkcs11:object=root",
            "pkcs11:serial=0123;object=ro%6ft;id=%01a%FF",
            &ours.replace("serial", "token"),
            &ours.to_lowercase().replace("%ff", "%fg"),
            &format!("{ours};id=%02"),
        ] {
            assert_eq!(Identity::parse(other), None, "{other}");
        }
    }

    #[test]
    fn another_key_under_the_same_name_is_told_by_its_check_value() {
        let own = key("0123", "root", Some([1, 2, 3]));
        for (other, ownership) in [
            (own.clone(), Ownership::Yes),
            (key("0123", "root", Some([9, 9, 9])), Ownership::No),
            (key("4567", "root", Some([9, 9, 9])), Ownership::No),
            // A copy of the key on another token, or under another label.
            (key("4567", "root", Some([1, 2, 3])), Ownership::Unknown),
            (key("0123", "renamed", Some([1, 2, 3])), Ownership::Unknown),
            // A token that began to tell, or no longer does.
            (key("0123", "root", None), Ownership::Unknown),
            (key("0123", "other", None), Ownership::No),
        ] {
            assert_eq!(own.made(&other), ownership, "{other}");
        }
        let untold = key("0123", "root", None);
        assert_eq!(untold.made(&untold.clone()), Ownership::Unknown);
    }
}
