//! What ties a wrapped key to its row.

use crate::id::{DataKeyId, DataKeyVersionId, RootKeyId, RootKeyVersionId};
use crate::scope::{Purpose, ScopeId};

/// Whether wrapped keys are bound to their rows, so that whoever can write to the database can't move
/// one tenant's key into another's row.
///
/// A mode that reads unbound keys accepts one that was moved or replayed. Rewrapping turns unbound keys
/// into bound ones and refuses copies; rotate after it, so that what is encrypted from then on is
/// encrypted with a key that was bound from its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Binding {
    /// Writes bound keys and opens nothing else.
    #[default]
    Required,
    /// Writes bound keys and opens both. From its first write Go kms can't read that scope any more.
    Migrating,
    /// Writes unbound keys, as Go kms does, and opens both: for every process while Go and Rust share a
    /// database.
    GoCompatible,
}

impl Binding {
    /// Whether keys are written bound.
    pub(crate) fn binds(self) -> bool {
        self != Self::GoCompatible
    }
}

const FORMAT: &str = "kms-binding-v1";

/// The AAD of a root key version's wrapped key.
pub(crate) fn root_key_version(
    scope: &ScopeId,
    key: &RootKeyId,
    id: &RootKeyVersionId,
    version: i64,
) -> Vec<u8> {
    encode([
        FORMAT,
        "root",
        scope.as_str(),
        Purpose::ROOT_KEY,
        key.as_str(),
        id.as_str(),
        &version.to_string(),
        "",
    ])
}

/// The AAD of a data key version's wrapped key.
pub(crate) fn data_key_version(
    scope: &ScopeId,
    purpose: &Purpose,
    key: &DataKeyId,
    id: &DataKeyVersionId,
    version: i64,
    wrapped_by: &RootKeyVersionId,
) -> Vec<u8> {
    encode([
        FORMAT,
        "data",
        scope.as_str(),
        purpose.as_str(),
        key.as_str(),
        id.as_str(),
        &version.to_string(),
        wrapped_by.as_str(),
    ])
}

/// Each field as its length in bytes (32 bits, big-endian) and then its bytes, so that no two lists of
/// fields give the same bytes.
fn encode(fields: [&str; 8]) -> Vec<u8> {
    let capacity = fields.iter().map(|field| 4 + field.len()).sum();
    let mut bytes = Vec::with_capacity(capacity);
    for field in fields {
        let length = u32::try_from(field.len())
            .expect("scopes and purposes have 255 bytes at most, or what a database column holds");
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(field.as_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_the_one_written_down() {
        let aad = data_key_version(
            &ScopeId::from_stored("o_1"),
            &Purpose::from_stored("oidc"),
            &DataKeyId::from_stored("kdk_a"),
            &DataKeyVersionId::from_stored("kdkv_b"),
            12,
            &RootKeyVersionId::from_stored("krkv_c"),
        );
        assert_eq!(
            aad,
            b"\0\0\0\x0ekms-binding-v1\0\0\0\x04data\0\0\0\x03o_1\0\0\0\x04oidc\0\0\0\x05kdk_a\0\0\0\x06kdkv_b\0\0\0\x0212\0\0\0\x06krkv_c"
        );
        let aad = root_key_version(
            &ScopeId::from_stored("o_1"),
            &RootKeyId::from_stored("krk_a"),
            &RootKeyVersionId::from_stored("krkv_b"),
            1,
        );
        assert_eq!(
            aad,
            b"\0\0\0\x0ekms-binding-v1\0\0\0\x04root\0\0\0\x03o_1\0\0\0\x07rootKey\0\0\0\x05krk_a\0\0\0\x06krkv_b\0\0\0\x011\0\0\0\0"
        );
    }

    #[test]
    fn fields_can_not_run_into_each_other() {
        assert_ne!(
            encode(["a", "bc", "", "", "", "", "", ""]),
            encode(["ab", "c", "", "", "", "", "", ""])
        );
    }
}
