//! The service's ciphertext, `vault:vN:…`, read strictly: one blob, one way to write it.

use data_encoding::BASE64;

/// A ciphertext of transit, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ciphertext<'a> {
    text: &'a str,
    version: &'a str,
}

impl<'a> Ciphertext<'a> {
    /// `None` if this is not a ciphertext, or not in the form in which transit writes it.
    ///
    /// Transit itself is more lenient: it takes `vault:v01:…` and base64 whose spare last bits are set. A blob
    /// could then be altered and still open; refusing that here costs nothing.
    pub(crate) fn parse(bytes: &'a [u8]) -> Option<Self> {
        let text = str::from_utf8(bytes).ok()?;
        let (version, payload) = text.strip_prefix("vault:")?.split_once(':')?;
        let sound =
            is_version(version) && !payload.is_empty() && BASE64.decode(payload.as_bytes()).is_ok();
        sound.then_some(Self { text, version })
    }

    /// As the service writes it.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// `vN`.
    pub(crate) fn version(&self) -> &'a str {
        self.version
    }
}

/// Whether this is `v` and a number from 1, as transit numbers the versions of a key.
pub(crate) fn is_version(text: &str) -> bool {
    version_number(text).is_some()
}

/// The number of a version.
pub(crate) fn version_number(text: &str) -> Option<u32> {
    let number = text.strip_prefix('v')?;
    let sound = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    sound.then(|| number.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_transit_writes_is_taken_apart() {
        let read = Ciphertext::parse(b"vault:v12:AAECAw==").unwrap();
        assert_eq!(read.text(), "vault:v12:AAECAw==");
        assert_eq!(read.version(), "v12");
    }

    #[test]
    fn anything_else_is_refused() {
        for other in [
            "",
            "vault:",
            "vault:v1",
            "vault:v1:",
            "vault:1:AAECAw==",
            "vault:v:AAECAw==",
            "vault:v0:AAECAw==",
            "vault:v01:AAECAw==",
            "vault:v+1:AAECAw==",
            "vault:v-1:AAECAw==",
            "vault:v4294967296:AAECAw==",
            "Vault:v1:AAECAw==",
            "vault:V1:AAECAw==",
            " vault:v1:AAECAw==",
            "vault:v1:AAECAw==\n",
            "vault:v1:AAECAw",
            "vault:v1:AAE_Aw==",
            "vault:v1:AAEC:Aw==",
        ] {
            assert_eq!(Ciphertext::parse(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(Ciphertext::parse(b"vault:v1:\xff"), None);
    }

    #[test]
    fn base64_with_spare_bits_set_is_refused() {
        assert!(Ciphertext::parse(b"vault:v1:AAECAw==").is_some());
        assert!(Ciphertext::parse(b"vault:v1:AAECAx==").is_none());
    }
}
