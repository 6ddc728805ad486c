//! Finding the token and the key, and a session in which the key works.

use cryptoki::context::Pkcs11;
use cryptoki::object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::{Slot, TokenInfo};
use kms_core::{Error, ErrorKind, Result};

use crate::failure::explain;
use crate::identity::Identity;
use crate::module::Module;
use crate::target::{KeyName, Target, TokenName};

/// A session that is logged in, and the key in it.
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) key: ObjectHandle,
    pub(crate) identity: Identity,
}

impl Opened {
    /// Finds token and key anew, and logs in.
    pub(crate) fn open(target: &Target) -> Result<Self> {
        let module = Module::of(&target.module);
        let context = module.ready(&target.module)?;
        let (slot, token) = find_token(&context, &target.token)?;
        let session = context.open_ro_session(slot).map_err(explain)?;
        module.logins(token.serial_number()).log_in(
            &context,
            slot,
            &session,
            target.pin.as_ref(),
        )?;
        let key = find_key(&session, &target.key)?;
        let identity = identify(&session, key, token.serial_number())?;
        target.learn(identity.clone())?;
        Ok(Self {
            session,
            key,
            identity,
        })
    }
}

/// The one token of this name that is there.
fn find_token(context: &Pkcs11, name: &TokenName) -> Result<(Slot, TokenInfo)> {
    let mut failure = None;
    let mut found = Vec::new();
    for slot in context.get_slots_with_token().map_err(explain)? {
        if name.slot.is_some_and(|wanted| wanted != slot.id()) {
            continue;
        }
        // A slot that is not well is no reason not to look at the others.
        match context.get_token_info(slot) {
            Ok(token) if is_named(&token, name) => found.push((slot, token)),
            Ok(_) => {}
            Err(cause) => failure = Some(explain(cause)),
        }
    }
    match found.len() {
        0 => Err(failure.unwrap_or_else(|| {
            Error::new(ErrorKind::Unreachable).with_detail("no slot has a token of this name")
        })),
        1 => Ok(found.swap_remove(0)),
        many => Err(
            Error::new(ErrorKind::InvalidConfiguration).with_detail(format!(
                "{many} tokens have this name; name the serial number too"
            )),
        ),
    }
}

fn is_named(token: &TokenInfo, name: &TokenName) -> bool {
    let fits =
        |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
    token.token_initialized()
        && fits(&name.label, token.label())
        && fits(&name.serial, token.serial_number())
        && fits(&name.manufacturer, token.manufacturer_id())
        && fits(&name.model, token.model())
}

/// The one AES key of this name.
fn find_key(session: &Session, name: &KeyName) -> Result<ObjectHandle> {
    let label = name.label.as_ref().map(|label| label.as_bytes().to_vec());
    let names: Vec<_> = label
        .map(Attribute::Label)
        .into_iter()
        .chain(name.id.clone().map(Attribute::Id))
        .chain([Attribute::Token(true)])
        .collect();
    let aes = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
    ];
    let wanted = [names.as_slice(), &aes].concat();
    let found = session.find_objects(&wanted).map_err(explain)?;
    if let [key] = found[..] {
        return Ok(key);
    }
    if found.len() > 1 {
        return Err(
            Error::new(ErrorKind::InvalidConfiguration).with_detail(format!(
                "{} AES keys on the token have this name; name label and id",
                found.len()
            )),
        );
    }
    let others = session.find_objects(&names).map_err(explain)?;
    Err(if others.is_empty() {
        Error::new(ErrorKind::UnknownRootKey).with_detail("the token has no object of this name")
    } else {
        Error::new(ErrorKind::UnsuitableRootKey)
            .with_detail("what has this name on the token is no AES key")
    })
}

fn identify(session: &Session, key: ObjectHandle, serial: &str) -> Result<Identity> {
    let wanted = [
        AttributeType::Label,
        AttributeType::Id,
        AttributeType::CheckValue,
    ];
    let mut identity = Identity {
        serial: serial.to_owned(),
        label: Vec::new(),
        id: Vec::new(),
        check_value: None,
    };
    for attribute in session.get_attributes(key, &wanted).map_err(explain)? {
        match attribute {
            Attribute::Label(label) => identity.label = label,
            Attribute::Id(id) => identity.id = id,
            Attribute::CheckValue(value) if !value.is_empty() => identity.check_value = Some(value),
            _ => {}
        }
    }
    Ok(identity)
}
