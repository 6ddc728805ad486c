//! `vault+https:` — a transit key in Vault or OpenBao.

use std::sync::Arc;

use kms_core::{Result, Wrapper};
use kms_wrapper_vault::{Auth, TransitWrapper};

use super::super::address::{Address, misconfigured};

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    let (server, path) = server_and_path(&address)?;
    let (mount, name) = path.rsplit_once("/keys/").ok_or_else(|| {
        misconfigured("a Vault URL's path is MOUNT/keys/NAME: vault+https://host/transit/keys/app")
    })?;
    let mut builder = TransitWrapper::from_env()
        .address(server)
        .mount_path(mount)
        .key_name(name)
        .limits(address.take_limits()?);
    if let Some(namespace) = address.take("namespace") {
        builder = builder.namespace(namespace);
    }
    if let Some(prefix) = address.take("key_id_prefix") {
        builder = builder.key_id_prefix(prefix);
    }
    if let Some(auth) = auth(&mut address)? {
        builder = builder.auth(auth);
    }
    address.finish()?;
    Ok(Arc::new(builder.build()?))
}

/// The server's own URL, and the path of the key without its first slash.
fn server_and_path(address: &Address) -> Result<(String, String)> {
    let url = address.url();
    let scheme = url.scheme().trim_start_matches("vault+");
    let host = url
        .host_str()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| misconfigured("a Vault URL names the server: vault+https://host/…"))?;
    let port = url.port().map(|port| format!(":{port}"));
    let server = format!("{scheme}://{host}{}", port.unwrap_or_default());
    Ok((server, url.path().trim_start_matches('/').to_owned()))
}

/// How to log in, if the URL says so; else the environment does. Secrets are named by their files.
fn auth(address: &mut Address) -> Result<Option<Auth>> {
    let token_file = address.take("token_file").map(Auth::token_file);
    let kubernetes = address.take("kubernetes_role").map(Auth::kubernetes);
    let app_role = match (address.take("role_id"), address.take("secret_id_file")) {
        (Some(id), Some(file)) => Some(Auth::app_role_with_secret_file(id, file)),
        (None, None) => None,
        _ => return Err(misconfigured("`role_id` and `secret_id_file` go together")),
    };
    let mut ways = [token_file, kubernetes, app_role].into_iter().flatten();
    let way = ways.next();
    if ways.next().is_some() {
        return Err(misconfigured("more than one way to log in; give one"));
    }
    match (way, address.take("auth_mount")) {
        (Some(auth), Some(mount)) => Ok(Some(auth.mount(mount))),
        (None, Some(_)) => Err(misconfigured("`auth_mount` without a way to log in")),
        (way, None) => Ok(way),
    }
}
