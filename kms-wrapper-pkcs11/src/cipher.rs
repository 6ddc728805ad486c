//! What the token computes with the key.

use cryptoki::error::Error as TokenError;
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::types::Ulong;
use kms_core::{Error, ErrorKind, KeyBytes, NONCE_LEN, Result, SecretBytes};
use zeroize::Zeroize as _;

use crate::failure::{explain, is_vague};
use crate::token::Opened;

const TAG_BITS: Ulong = Ulong::new(128);

/// The bytes of a fresh key that were wrapped: the key's own and a check of eight (RFC 3394).
pub(crate) const WRAPPED_LEN: usize = 32 + 8;

impl Opened {
    /// AES-GCM on the token (`CKM_AES_GCM`). Returns the nonce and the ciphertext with its tag.
    pub(crate) fn encrypt(
        &self,
        plaintext: &[u8],
        aad: &[u8],
    ) -> Result<([u8; NONCE_LEN], Vec<u8>)> {
        let mut nonce = nonce()?;
        let params = GcmParams::new(&mut nonce, aad, TAG_BITS).map_err(explain)?;
        let ciphertext = self
            .session
            .encrypt(&Mechanism::AesGcm(params), self.key, plaintext)
            .map_err(explain)?;
        // Tokens that insist on a nonce of their own have put it in the place of ours.
        Ok((nonce, ciphertext))
    }

    pub(crate) fn decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<SecretBytes> {
        self.gcm_decrypt(nonce, ciphertext, aad)
            .map_err(|failure| self.judged(failure, Self::passes_gcm))
    }

    /// AES key wrap on the token (`CKM_AES_KEY_WRAP`, RFC 3394): the key is a session's object meanwhile.
    pub(crate) fn wrap(&self, fresh: &KeyBytes) -> Result<Vec<u8>> {
        let mut template = Self::fresh_key().to_vec();
        template.push(Attribute::Value(fresh.expose().to_vec()));
        let object = self.session.create_object(&template);
        wipe(&mut template);
        let object = object.map_err(explain)?;
        let wrapped = self
            .session
            .wrap_key(&Mechanism::AesKeyWrap, self.key, object);
        self.forget(object);
        wrapped.map_err(explain)
    }

    pub(crate) fn unwrap(&self, wrapped: &[u8]) -> Result<KeyBytes> {
        self.key_unwrap(wrapped)
            .map_err(|failure| self.judged(failure, Self::passes_wrap))?
            .ok_or_else(|| Error::new(ErrorKind::AuthenticationFailed))
    }

    fn gcm_decrypt(
        &self,
        nonce: &[u8; NONCE_LEN],
        ciphertext: &[u8],
        aad: &[u8],
    ) -> Result<SecretBytes, TokenError> {
        let mut nonce = *nonce;
        let params = GcmParams::new(&mut nonce, aad, TAG_BITS)?;
        self.session
            .decrypt(&Mechanism::AesGcm(params), self.key, ciphertext)
            .map(SecretBytes::new)
    }

    /// The key, unless it has another length than those that are wrapped here.
    fn key_unwrap(&self, wrapped: &[u8]) -> Result<Option<KeyBytes>, TokenError> {
        let object = self.session.unwrap_key(
            &Mechanism::AesKeyWrap,
            self.key,
            wrapped,
            &Self::fresh_key(),
        )?;
        let read = self.session.get_attributes(object, &[AttributeType::Value]);
        self.forget(object);
        let mut read = read?;
        let key = read.iter().find_map(|attribute| match attribute {
            Attribute::Value(value) => KeyBytes::from_slice(value).ok(),
            _ => None,
        });
        wipe(&mut read);
        Ok(key)
    }

    fn fresh_key() -> [Attribute; 5] {
        [
            Attribute::Class(ObjectClass::SECRET_KEY),
            Attribute::KeyType(KeyType::AES),
            Attribute::Token(false),
            Attribute::Sensitive(false),
            Attribute::Extractable(true),
        ]
    }

    /// It goes with its session at the latest.
    fn forget(&self, object: ObjectHandle) {
        let _ = self.session.destroy_object(object);
    }

    /// What a failure to decrypt means. Where the code alone does not say whose fault it was, a probe does: if the
    /// key opens what it made just now, it was the blob's.
    fn judged(&self, failure: TokenError, passes: impl Fn(&Self) -> bool) -> Error {
        if is_vague(&failure) && passes(self) {
            return Error::new(ErrorKind::AuthenticationFailed);
        }
        explain(failure)
    }

    fn passes_gcm(&self) -> bool {
        let made = self.encrypt(b"probe", b"");
        made.is_ok_and(|(nonce, ciphertext)| self.gcm_decrypt(&nonce, &ciphertext, b"").is_ok())
    }

    fn passes_wrap(&self) -> bool {
        let made = KeyBytes::generate().and_then(|fresh| self.wrap(&fresh));
        made.is_ok_and(|wrapped| self.key_unwrap(&wrapped).is_ok())
    }
}

/// Random bits of the operating system's, as keys are.
fn nonce() -> Result<[u8; NONCE_LEN]> {
    let random = KeyBytes::generate()?;
    let (nonce, _) = random
        .expose()
        .split_first_chunk()
        .expect("a key is longer than a nonce");
    Ok(*nonce)
}

fn wipe(attributes: &mut [Attribute]) {
    for attribute in attributes {
        if let Attribute::Value(value) = attribute {
            value.zeroize();
        }
    }
}
