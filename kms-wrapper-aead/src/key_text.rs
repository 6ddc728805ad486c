//! A key written as text: hex or base64, told apart by length.

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, DecodePartial, Encoding, HEXLOWER_PERMISSIVE};
use kms_core::{Error, ErrorKind, KeyBytes, Result};
use zeroize::Zeroizing;

/// Length of 32 bytes in hex.
const HEX_LEN: usize = 64;

/// Length of 32 bytes in base64, without the one `=` that may follow.
const BASE64_LEN: usize = 43;

/// The longest text that is a key.
pub(crate) const MAX_LEN: usize = HEX_LEN;

/// Reads a key. No error repeats any of the text.
pub(crate) fn decode(text: &[u8]) -> Result<KeyBytes> {
    match text.len() {
        HEX_LEN => decode_with(&HEXLOWER_PERMISSIVE, text, "not 64 hex digits"),
        BASE64_LEN => decode_base64(text),
        _ => match text.strip_suffix(b"=") {
            Some(unpadded) if unpadded.len() == BASE64_LEN => decode_base64(unpadded),
            _ => Err(invalid(format!(
                "{} characters; 64 hex digits or 43 or 44 characters of base64 are a key",
                text.len()
            ))),
        },
    }
}

fn decode_base64(text: &[u8]) -> Result<KeyBytes> {
    let url_safe = text.iter().any(|byte| matches!(byte, b'-' | b'_'));
    let encoding = if url_safe {
        &BASE64URL_NOPAD
    } else {
        &BASE64_NOPAD
    };
    decode_with(encoding, text, "not base64")
}

fn decode_with(encoding: &Encoding, text: &[u8], fault: &'static str) -> Result<KeyBytes> {
    let mut bytes = Zeroizing::new([0; KeyBytes::LEN]);
    encoding
        .decode_mut(text, bytes.as_mut_slice())
        .map_err(|DecodePartial { error, .. }| invalid(fault).with_source(error))?;
    KeyBytes::from_slice(bytes.as_slice())
}

fn invalid(detail: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidKey).with_detail(detail)
}

#[cfg(test)]
mod tests {
    use data_encoding::{BASE64, BASE64URL, HEXLOWER, HEXUPPER};

    use super::*;

    /// In base64 this key has both letters in which the alphabets differ.
    const KEY: [u8; 32] = [0xfb; 32];

    #[test]
    fn every_documented_form_gives_the_same_key() {
        for encoding in [
            HEXLOWER,
            HEXUPPER,
            BASE64,
            BASE64_NOPAD,
            BASE64URL,
            BASE64URL_NOPAD,
        ] {
            let text = encoding.encode(&KEY);
            let key = decode(text.as_bytes()).unwrap();
            assert_eq!(key.expose(), &KEY, "{text}");
        }
    }

    #[test]
    fn all_other_text_is_refused_and_not_repeated() {
        let hex = HEXLOWER.encode(&KEY);
        let base64 = BASE64.encode(&KEY);
        let mixed = format!("-{}", &base64[1..]);
        let spare_bits = format!("{}t=", &base64[..42]);
        let cases = [
            String::new(),
            hex[..62].to_owned(),
            format!("{hex}00"),
            format!("{}g", &hex[..63]),
            format!("{}\n", &hex[..63]),
            format!("{base64}="),
            base64[..42].to_owned(),
            format!(" {}", &base64[..43]),
            mixed,
            spare_bits,
            BASE64.encode(&[1; 16]),
            "ü".repeat(32),
        ];
        for text in cases {
            let error = decode(text.as_bytes()).expect_err(&text);
            assert_eq!(error.kind(), ErrorKind::InvalidKey, "{text}");
            let shown = format!("{error} {error:?}");
            assert!(text.is_empty() || !shown.contains(&text), "{shown}");
        }
    }
}
