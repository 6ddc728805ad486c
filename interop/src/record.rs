//! What one side encrypts and the other is to read.

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Sizes that are written after each operation.
pub(crate) const SMALL: &[usize] = &[1, 15, 16, 1000];
/// Sizes that are written once by each side on each database.
pub(crate) const ALL: &[usize] = &[0, 1, 2, 15, 16, 17, 1 << 10, 16 << 10, 1 << 20];

/// A blob and what it must decrypt to.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) scope: String,
    pub(crate) purpose: String,
    pub(crate) aad: Bytes,
    pub(crate) plaintext: Bytes,
    pub(crate) blob: Bytes,
}

/// Bytes as Go's JSON has them: base64, or null for none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bytes(pub(crate) Vec<u8>);

impl Bytes {
    /// Random ones, for plaintexts.
    pub(crate) fn random(length: usize) -> Self {
        let mut bytes = vec![0; length];
        rand::fill(&mut bytes);
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
        let bytes = BASE64.decode(text.as_bytes());
        bytes.map(Self).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Bytes;

    #[test]
    fn no_bytes_are_null_or_empty_in_go() {
        for none in ["null", "\"\""] {
            let bytes: Bytes = serde_json::from_str(none).unwrap();
            assert_eq!(bytes, Bytes::default());
        }
        let text = serde_json::to_string(&Bytes::from(&b"\0\xff"[..])).unwrap();
        assert_eq!(text, "\"AP8=\"");
    }
}
