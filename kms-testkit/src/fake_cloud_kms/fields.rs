//! The fields that requests may have: the service refuses any other, and names it.

use std::collections::HashMap;

use serde_json::Value;

use super::calls::CloudKmsMethod;
use super::refusal::Refusal;
use super::values::snake_case;

/// A message: its fields by their JSON names, and those of the fields that are messages.
struct Message {
    fields: &'static [&'static str],
    inner: &'static [(&'static str, Message)],
}

impl Message {
    const fn of(fields: &'static [&'static str]) -> Self {
        Self { fields, inner: &[] }
    }
}

const NAME: Message = Message::of(&["name"]);
const KEY_RING: Message = Message::of(&["name", "createTime"]);
const CRYPTO_KEY: Message = Message {
    fields: &[
        "name",
        "primary",
        "purpose",
        "createTime",
        "nextRotationTime",
        "rotationPeriod",
        "versionTemplate",
        "labels",
        "importOnly",
        "destroyScheduledDuration",
        "cryptoKeyBackend",
        "keyAccessJustificationsPolicy",
    ],
    inner: &[
        (
            "versionTemplate",
            Message::of(&["protectionLevel", "algorithm"]),
        ),
        ("primary", VERSION),
    ],
};
const VERSION: Message = Message::of(&[
    "name",
    "state",
    "protectionLevel",
    "algorithm",
    "attestation",
    "createTime",
    "generateTime",
    "destroyTime",
    "destroyEventTime",
    "importJob",
    "importTime",
    "importFailureReason",
    "generationFailureReason",
    "externalDestructionFailureReason",
    "externalProtectionLevelOptions",
    "reimportEligible",
]);
const ENCRYPT: Message = Message::of(&[
    "name",
    "plaintext",
    "plaintextCrc32c",
    "additionalAuthenticatedData",
    "additionalAuthenticatedDataCrc32c",
]);
const DECRYPT: Message = Message::of(&[
    "name",
    "ciphertext",
    "ciphertextCrc32c",
    "additionalAuthenticatedData",
    "additionalAuthenticatedDataCrc32c",
]);

/// Query parameters of the methods, and those of any method.
const PARAMETERS: &[&str] = &[
    "keyRingId",
    "cryptoKeyId",
    "skipInitialVersionCreation",
    "updateMask",
    "pageSize",
    "pageToken",
    "filter",
    "orderBy",
    "view",
    "versionView",
    "$.xgafv",
    "$alt",
    "$userProject",
    "access_token",
    "alt",
    "callback",
    "fields",
    "key",
    "oauth_token",
    "prettyPrint",
    "quotaUser",
    "uploadType",
    "upload_protocol",
];

/// Refuses a request with a field or a parameter that the method does not have.
pub(super) fn check(
    method: CloudKmsMethod,
    query: &HashMap<String, String>,
    body: &Value,
) -> Result<(), Refusal> {
    let (path, message) = body_of(method);
    let mut unknown = Vec::new();
    match body {
        Value::Object(_) => look_at(body, &message, path, &mut unknown),
        _ => unknown.push("Unknown name \"\": Root element must be a message.".to_owned()),
    }
    let mut parameters: Vec<_> = query
        .keys()
        .filter(|name| !is_of(PARAMETERS, name))
        .collect();
    parameters.sort();
    unknown.extend(parameters.into_iter().map(|name| {
        format!(
            "Unknown name \"{name}\": Cannot bind query parameter. Field '{name}' could not be found in request message."
        )
    }));
    if unknown.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = unknown
        .iter()
        .map(|what| format!("Invalid JSON payload received. {what}"))
        .collect();
    Err(Refusal::bad_request(&lines))
}

/// The message that a method's body is, and the field of the request that it stands for.
fn body_of(method: CloudKmsMethod) -> (&'static str, Message) {
    use CloudKmsMethod as M;
    match method {
        M::CreateKeyRing => ("key_ring", KEY_RING),
        M::CreateCryptoKey => ("crypto_key", CRYPTO_KEY),
        M::CreateCryptoKeyVersion | M::UpdateCryptoKeyVersion => ("crypto_key_version", VERSION),
        M::Encrypt => ("", ENCRYPT),
        M::Decrypt => ("", DECRYPT),
        M::UpdateCryptoKeyPrimaryVersion => ("", Message::of(&["name", "cryptoKeyVersionId"])),
        M::TestIamPermissions => ("", Message::of(&["resource", "permissions"])),
        M::DestroyCryptoKeyVersion | M::RestoreCryptoKeyVersion => ("", NAME),
        // What is read has no body.
        _ => ("", Message::of(&[])),
    }
}

fn look_at(body: &Value, message: &Message, path: &str, unknown: &mut Vec<String>) {
    for (name, value) in body.as_object().into_iter().flatten() {
        if !is_of(message.fields, name) {
            let at = match path {
                "" => String::new(),
                path => format!(" at '{path}'"),
            };
            unknown.push(format!("Unknown name \"{name}\"{at}: Cannot find field."));
        }
        let inner = message
            .inner
            .iter()
            .find(|(field, _)| is_of(&[field], name));
        if let Some((field, inner)) = inner {
            look_at(
                value,
                inner,
                &format!("{path}.{}", snake_case(field)),
                unknown,
            );
        }
    }
}

/// Whether the name is one of these, or as it stands in the proto file.
fn is_of(fields: &[&str], name: &str) -> bool {
    fields
        .iter()
        .any(|field| *field == name || snake_case(field) == name)
}
