//! `pkcs11:` — a key on a token, by its URI as of [RFC 7512](https://www.rfc-editor.org/rfc/rfc7512).

use std::path::Path;
use std::sync::Arc;

use kms_core::{Result, Wrapper};
use kms_wrapper_pkcs11::{Pkcs11Mode, Pkcs11WrapperBuilder};
use percent_encoding::percent_decode_str;

use super::super::address::{Address, misconfigured};

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    let mut builder = crate::pkcs11::from_env().limits(address.take_limits()?);
    let path = address.url().path().to_owned();
    let mut known = Vec::new();
    for attribute in path.split(';').filter(|attribute| !attribute.is_empty()) {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        if known.contains(&name) {
            return Err(misconfigured("an attribute is given twice").with_context("attribute", name));
        }
        known.push(name);
        builder = with_attribute(builder, name, percent_decode_str(value).collect())
            .map_err(|error| error.with_context("attribute", name))?;
    }
    if let Some(path) = address.take("module-path") {
        builder = builder.module(path);
    } else if let Some(name) = address.take("module-name") {
        builder = builder.module_name(&name);
    }
    if let Some(pin) = address.take("pin-value") {
        builder = builder.pin(pin);
    }
    if let Some(source) = address.take("pin-source") {
        builder = builder.pin_file(file(&source)?);
    }
    if let Some(count) = address.take_number("sessions")? {
        builder = builder.sessions(count);
    }
    let modes = [
        ("direct", Pkcs11Mode::Direct),
        ("envelope", Pkcs11Mode::Envelope),
    ];
    if let Some(mode) = address.take_word("mode", &modes)? {
        builder = builder.mode(mode);
    }
    address.finish()?;
    Ok(Arc::new(builder.build()?))
}

fn with_attribute(
    builder: Pkcs11WrapperBuilder,
    name: &str,
    value: Vec<u8>,
) -> Result<Pkcs11WrapperBuilder> {
    // The one attribute that is no text.
    if name == "id" {
        return Ok(builder.key_id(value));
    }
    let value = String::from_utf8(value).map_err(|_| misconfigured("it is not UTF-8"))?;
    Ok(match name {
        "token" => builder.token_label(value),
        "serial" => builder.token_serial(value),
        "manufacturer" => builder.token_manufacturer(value),
        "model" => builder.token_model(value),
        "slot-id" => builder.slot_id(
            value
                .parse()
                .map_err(|_| misconfigured("it is not a number"))?,
        ),
        "object" => builder.key_label(value),
        "type" if value == "secret-key" => builder,
        "type" => return Err(misconfigured("a root key's type is secret-key")),
        _ => {
            return Err(misconfigured(
                "no such attribute of a root key's `pkcs11` URL; there are token, serial, manufacturer, model, slot-id, \
                 object, id and type",
            ));
        }
    })
}

/// The file with the PIN: `file:/path`, `file:///path` or its path. (RFC 7512 also knows programs. None is run here.)
fn file(source: &str) -> Result<&Path> {
    let path = source.strip_prefix("file:").unwrap_or(source);
    let path = path.strip_prefix("//").unwrap_or(path);
    if !path.starts_with('/') {
        return Err(misconfigured("it is not the absolute path of a file")
            .with_context("parameter", "pin-source"));
    }
    Ok(Path::new(path))
}
