//! The paths under `/_fake/`, by which tests say what goes wrong.

use std::collections::BTreeSet;

use axum::http::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::CloudKmsPermission;
use super::fault::{CloudKmsFault, Faults};
use super::name::{Target, parse};
use super::refusal::{Answer, Refusal};
use super::server::Service;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Denial {
    key: String,
    denied: BTreeSet<CloudKmsPermission>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Destruction {
    version: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Demand {
    token: String,
}

pub(super) fn answer(service: &Service, method: &Method, path: &str, body: &[u8]) -> Answer {
    let mut state = service.lock();
    match (method.as_str(), path) {
        ("POST", "faults") => state.faults.add(read::<CloudKmsFault>(body)?),
        ("GET", "faults") => return Ok(json!(state.faults.all())),
        ("DELETE", "faults") => state.faults = Faults::default(),
        ("GET", "calls") => return Ok(json!(state.calls.all())),
        ("DELETE", "calls") => state.calls = super::calls::Calls::default(),
        ("POST", "denials") => {
            let denial: Denial = read(body)?;
            state.keys.deny(denial.key, denial.denied);
        }
        ("DELETE", "denials") => state.keys.deny_nothing(),
        ("POST", "destructions") => {
            let version = read::<Destruction>(body)?.version;
            let Some((Target::Version { key, number }, None)) = parse(&version) else {
                return Err(Refusal::invalid_argument("not the name of a key version"));
            };
            return state.keys.key_mut(&key)?.finish_destruction(number);
        }
        ("POST", "token") => state.token = Some(read::<Demand>(body)?.token),
        ("DELETE", "token") => state.token = None,
        _ => {
            return Err(Refusal::unimplemented(format!(
                "there is no {method} /_fake/{path}"
            )));
        }
    }
    Ok(Value::Object(serde_json::Map::new()))
}

fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::invalid_argument(error.to_string()))
}
