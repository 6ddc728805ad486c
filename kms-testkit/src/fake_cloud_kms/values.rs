//! Values as [protobuf's JSON mapping](https://protobuf.dev/programming-guides/json/) has them: read leniently, as
//! the service does, and written strictly.

use chrono::{DateTime, SecondsFormat, Utc};
use data_encoding::{BASE64, BASE64_NOPAD};
use serde_json::{Value, json};

use super::refusal::Refusal;

/// The enums of the resources, with their numbers: clients ask for these with `$alt=json;enum-encoding=int`.
const ENUMS: &[(&str, &[(&str, u64)])] = &[
    (
        "purpose",
        &[
            ("CRYPTO_KEY_PURPOSE_UNSPECIFIED", 0),
            ("ENCRYPT_DECRYPT", 1),
            ("ASYMMETRIC_SIGN", 5),
            ("ASYMMETRIC_DECRYPT", 6),
            ("RAW_ENCRYPT_DECRYPT", 7),
            ("MAC", 9),
        ],
    ),
    (
        "protectionLevel",
        &[
            ("PROTECTION_LEVEL_UNSPECIFIED", 0),
            ("SOFTWARE", 1),
            ("HSM", 2),
        ],
    ),
    (
        "algorithm",
        &[
            ("CRYPTO_KEY_VERSION_ALGORITHM_UNSPECIFIED", 0),
            ("GOOGLE_SYMMETRIC_ENCRYPTION", 1),
            ("EC_SIGN_P256_SHA256", 12),
        ],
    ),
    (
        "state",
        &[
            ("CRYPTO_KEY_VERSION_STATE_UNSPECIFIED", 0),
            ("ENABLED", 1),
            ("DISABLED", 2),
            ("DESTROYED", 3),
            ("DESTROY_SCHEDULED", 4),
        ],
    ),
];

/// A field by its JSON name, or by its name in the proto file.
pub(super) fn field<'a>(body: &'a Value, name: &str) -> Option<&'a Value> {
    body.get(name)
        .or_else(|| body.get(snake_case(name)))
        .filter(|value| !value.is_null())
}

/// The name in the proto file of a field of this JSON name.
pub(super) fn snake_case(name: &str) -> String {
    name.chars().fold(String::new(), |mut snake, letter| {
        if letter.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
        snake
    })
}

/// Bytes: base64 of either alphabet, with or without padding; none are empty ones.
pub(super) fn bytes(body: &Value, name: &str) -> Result<Vec<u8>, Refusal> {
    let Some(value) = field(body, name) else {
        return Ok(Vec::new());
    };
    value
        .as_str()
        .map(|text| text.replace('-', "+").replace('_', "/"))
        .and_then(|text| {
            BASE64_NOPAD
                .decode(text.trim_end_matches('=').as_bytes())
                .ok()
        })
        .ok_or_else(|| {
            // The service repeats what it could not read.
            Refusal::invalid_argument(format!(
                "Invalid value at '{name}' (TYPE_BYTES), Base64 decoding failed for {value}"
            ))
        })
}

/// A 64-bit integer in its wrapper type: a decimal string or a number.
pub(super) fn int64(body: &Value, name: &str) -> Result<Option<i64>, Refusal> {
    field(body, name)
        .map(|value| {
            value
                .as_i64()
                .or_else(|| value.as_str()?.parse().ok())
                .ok_or_else(|| {
                    Refusal::invalid_argument(format!(
                        "Invalid value at '{name}' (TYPE_INT64), {value}"
                    ))
                })
        })
        .transpose()
}

/// A value of the enum in this field, by name or number, as its name.
pub(super) fn enumeration(body: &Value, name: &str) -> Result<Option<&'static str>, Refusal> {
    let Some(value) = field(body, name) else {
        return Ok(None);
    };
    let known = ENUMS
        .iter()
        .find(|(known, _)| *known == name)
        .and_then(|(_, values)| {
            values
                .iter()
                .find(|(text, number)| value == text || value == number)
        });
    match known {
        Some((_, 0)) => Ok(None),
        Some((text, _)) => Ok(Some(text)),
        None => Err(Refusal::invalid_argument(format!(
            "Invalid value at '{name}' (TYPE_ENUM), {value}"
        ))),
    }
}

/// Replaces the names of enums by their numbers, at any depth.
pub(super) fn number_enums(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                let values = ENUMS.iter().find(|(known, _)| known == name);
                match (values, &mut *value) {
                    (Some((_, values)), Value::String(text)) => {
                        if let Some((_, number)) = values.iter().find(|(known, _)| known == text) {
                            *value = json!(number);
                        }
                    }
                    (_, value) => number_enums(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(number_enums),
        _ => {}
    }
}

pub(super) fn base64(bytes: &[u8]) -> String {
    BASE64.encode(bytes)
}

pub(super) fn crc32c(bytes: &[u8]) -> i64 {
    i64::from(crc32c::crc32c(bytes))
}

pub(super) fn timestamp(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Nanos, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_in_either_alphabet_and_written_in_the_standard_one() {
        for text in ["+/8=", "-_8=", "+/8", "-_8"] {
            assert_eq!(
                bytes(&json!({ "data": text }), "data").unwrap(),
                [0xfb, 0xff]
            );
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
        assert!(bytes(&json!({}), "data").unwrap().is_empty());
        bytes(&json!({ "data": "?" }), "data").unwrap_err();
    }

    #[test]
    fn integers_come_as_strings_or_numbers_and_under_either_name() {
        for body in [
            json!({ "plaintextCrc32c": "7" }),
            json!({ "plaintext_crc32c": 7 }),
        ] {
            assert_eq!(int64(&body, "plaintextCrc32c").unwrap(), Some(7));
        }
        int64(&json!({ "n": "x" }), "n").unwrap_err();
    }

    #[test]
    fn enums_are_read_by_name_or_number_and_written_as_numbers_on_request() {
        for value in [json!("ENCRYPT_DECRYPT"), json!(1)] {
            let body = json!({ "purpose": value });
            assert_eq!(
                enumeration(&body, "purpose").unwrap(),
                Some("ENCRYPT_DECRYPT")
            );
        }
        let mut key = json!({ "primary": { "state": "ENABLED" }, "name": "ENABLED" });
        number_enums(&mut key);
        assert_eq!(key, json!({ "primary": { "state": 1 }, "name": "ENABLED" }));
    }
}
