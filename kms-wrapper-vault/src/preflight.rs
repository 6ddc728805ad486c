//! Finding out at start-up what would fail at night.

use std::sync::Arc;

use kms_core::{Error, ErrorKind, KeyBytes, Result, Wrapper as _};

use crate::key_path::KeyPath;
use crate::session::Session;
use crate::wrapper::TransitWrapper;

const AAD: &[u8] = b"kms preflight";
const OTHER_AAD: &[u8] = b"kms preflight, other";

pub(crate) async fn run(
    wrapper: &TransitWrapper,
    session: &Arc<Session>,
    key: &KeyPath,
) -> Result<()> {
    let paths = [key.of("encrypt"), key.of("decrypt")];
    check_rights(session, &paths).await?;

    let probe = KeyBytes::generate()?;
    let blob = wrapper.encrypt(probe.expose(), AAD).await?;
    let back = wrapper.decrypt(&blob, AAD).await?;
    if back.expose() != probe.expose() {
        return Err(Error::new(ErrorKind::DamagedResponse)
            .with_detail("the probe came back as something else"));
    }
    match wrapper.decrypt(&blob, OTHER_AAD).await {
        Err(error) if error.kind() == ErrorKind::AuthenticationFailed => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(Error::new(ErrorKind::UnsuitableRootKey).with_detail(
            "the service ignores associated data, so nothing would be bound; use a release that knows it",
        )),
    }
}

/// Names all that is missing at once, where the token may ask for its rights (the policy `default` allows it).
async fn check_rights(session: &Arc<Session>, paths: &[String; 2]) -> Result<()> {
    let asked = session.limits().run(|| session.capabilities(paths)).await?;
    let Some(capabilities) = asked else {
        return Ok(());
    };
    let missing: Vec<String> = paths
        .iter()
        .filter(|path| !capabilities.allow(path, "update"))
        .map(|path| format!("update on {path}"))
        .collect();
    if !missing.is_empty() {
        return Err(Error::new(ErrorKind::Denied).with_context("permission", missing.join(", ")));
    }
    if capabilities.allow(&paths[0], "create") {
        tracing::warn!(
            path = paths[0],
            "the Vault token may create a missing key; the capability `update` is enough here"
        );
    }
    Ok(())
}
