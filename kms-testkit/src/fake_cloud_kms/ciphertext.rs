//! Encrypting and decrypting.
//!
//! A ciphertext is the mark of the key version that made it, and what AES-256-GCM gave. The service's own ones name
//! their version too, in a form that it keeps to itself.

use kms_core::Blob;
use serde_json::{Value, json};

use super::keys::CryptoKey;
use super::refusal::{Answer, Refusal};
use super::values::{base64, bytes, crc32c, int64};
use super::versions::{State, Version};

/// The longest plaintext, and the longest additional authenticated data, of a key in software.
const LONGEST: usize = 64 * 1024;

/// The longest sum of both of a key in an HSM.
const LONGEST_IN_HSM: usize = 8 * 1024;

const AAD: &str = "additionalAuthenticatedData";
const AAD_CRC: &str = "additionalAuthenticatedDataCrc32c";

impl CryptoKey {
    /// Encrypts with this version, or with the primary one.
    pub(super) fn encrypt(&mut self, number: Option<u32>, body: &Value) -> Answer {
        let plaintext = bytes(body, "plaintext")?;
        let aad = bytes(body, AAD)?;
        let plaintext_verified = verified(body, "plaintext", &plaintext, "plaintextCrc32c")?;
        let aad_verified = verified(body, AAD, &aad, AAD_CRC)?;
        if !self.encrypts() {
            return Err(self.incorrect_purpose(number.or(Some(1))));
        }
        self.check_lengths(&plaintext, &aad)?;
        let Some(number) = number.or(self.primary) else {
            return Err(Refusal::failed_precondition(
                format!("CryptoKey {} has no primary version.", self.name),
                "KEY_NO_PRIMARY",
                &self.name,
            ));
        };
        let version = self.enabled(number)?;
        let sealed = material(version)
            .encrypt(&plaintext, &aad)
            .map_err(|_| Refusal::invalid_argument("The plaintext is too long."))?;
        let ciphertext = [&version.mark, sealed.ciphertext()].concat();
        let mut answer = json!({
            "name": self.version_name(number),
            "ciphertext": base64(&ciphertext),
            "ciphertextCrc32c": crc32c(&ciphertext).to_string(),
            "protectionLevel": self.protection,
        });
        // A false one is left out, as protobuf's JSON does.
        if plaintext_verified {
            answer["verifiedPlaintextCrc32c"] = json!(true);
        }
        if aad_verified {
            answer["verifiedAdditionalAuthenticatedDataCrc32c"] = json!(true);
        }
        Ok(answer)
    }

    /// Decrypts with the version that the ciphertext names.
    pub(super) fn decrypt(&mut self, body: &Value) -> Answer {
        let ciphertext = bytes(body, "ciphertext")?;
        let aad = bytes(body, AAD)?;
        verified(body, "ciphertext", &ciphertext, "ciphertextCrc32c")?;
        verified(body, AAD, &aad, AAD_CRC)?;
        if !self.encrypts() {
            return Err(self.incorrect_purpose(Some(1)));
        }
        let (mark, sealed) = ciphertext
            .split_first_chunk::<{ Version::MARK_LEN }>()
            .ok_or_else(foreign)?;
        let number = (1..)
            .zip(&self.versions)
            .find(|(_, version)| version.mark == *mark)
            .map(|(number, _)| number)
            .ok_or_else(foreign)?;
        let version = self.enabled(number)?;
        let plaintext = material(version)
            .decrypt(&Blob::new(sealed.to_vec(), ""), &aad)
            .map_err(|_| {
                Refusal::invalid_argument("Decryption failed: the ciphertext is invalid.")
            })?;
        let mut answer = json!({
            "plaintextCrc32c": crc32c(plaintext.expose()).to_string(),
            "protectionLevel": self.protection,
        });
        // An empty plaintext and a false flag are left out.
        if !plaintext.is_empty() {
            answer["plaintext"] = json!(base64(plaintext.expose()));
        }
        if self.primary == Some(number) {
            answer["usedPrimary"] = json!(true);
        }
        Ok(answer)
    }

    fn enabled(&mut self, number: u32) -> Result<&Version, Refusal> {
        let state = self.version(number)?.state;
        if state == State::Enabled {
            Ok(&self.versions[number as usize - 1])
        } else {
            Err(self.not_enabled(number, state))
        }
    }

    fn check_lengths(&self, plaintext: &[u8], aad: &[u8]) -> Result<(), Refusal> {
        let (limit, lengths) = if self.protection == "HSM" {
            (LONGEST_IN_HSM, vec![plaintext.len() + aad.len()])
        } else {
            (LONGEST, vec![plaintext.len(), aad.len()])
        };
        if lengths.into_iter().any(|length| length > limit) {
            return Err(Refusal::invalid_argument(format!(
                "The plaintext or the additional authenticated data is larger than {limit} bytes."
            )));
        }
        Ok(())
    }
}

/// What `encrypt` or `decrypt` answers when a bit of its data flips after the checksum was made.
pub(super) fn flip_a_bit(answer: &mut Value) {
    let field = if answer.get("ciphertext").is_some() {
        "ciphertext"
    } else {
        "plaintext"
    };
    let mut data = bytes(answer, field).unwrap();
    match data.last_mut() {
        Some(byte) => *byte ^= 1,
        None => data.push(1),
    }
    answer[field] = json!(base64(&data));
}

/// Whether the request has a checksum of these bytes; one of others is refused.
fn verified(body: &Value, field: &str, data: &[u8], checksum: &str) -> Result<bool, Refusal> {
    match int64(body, checksum)? {
        None => Ok(false),
        Some(value) if value == crc32c(data) => Ok(true),
        Some(_) => {
            let snake = |name: &str| {
                name.replace("Crc32c", "_crc32c").replace(
                    "additionalAuthenticatedData",
                    "additional_authenticated_data",
                )
            };
            Err(Refusal::invalid_argument(format!(
                "The checksum in field {} did not match the data in field {}.",
                snake(checksum),
                snake(field)
            )))
        }
    }
}

fn material(version: &Version) -> &kms_core::LocalKey {
    version
        .material
        .as_ref()
        .expect("only a destroyed version has no material")
}

fn foreign() -> Refusal {
    Refusal::invalid_argument(
        "Decryption failed: verify that 'name' refers to the correct CryptoKey.",
    )
}
