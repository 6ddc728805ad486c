//! `vault+https:` — a transit key in Vault or OpenBao.

use std::sync::Arc;

use kms_core::{Result, Wrapper};
use kms_wrapper_vault::{Auth, TransitWrapper};

use super::super::address::{Address, misconfigured};

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    let (server, path) = server_and_path(&mut address)?;
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
    if let Some(namespace) = address.take("login_namespace") {
        builder = builder.login_namespace(namespace);
    }
    if let Some(file) = address.take("ca") {
        builder = builder.ca_bundle_file(file);
    }
    if let Some(proxy) = address.take("proxy") {
        if proxy.contains('@') {
            return Err(misconfigured(
                "a proxy in a URL holds no credentials; put it with them into HTTPS_PROXY",
            ));
        }
        builder = builder.proxy(proxy);
    }
    match (address.take("client_cert"), address.take("client_key")) {
        (Some(certificate), Some(key)) => {
            builder = builder.client_certificate_files(certificate, key);
        }
        (None, None) => {}
        _ => return Err(misconfigured("`client_cert` and `client_key` go together")),
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
fn server_and_path(address: &mut Address) -> Result<(String, String)> {
    if address.url().scheme() == "vault+unix" {
        let socket = address.take("socket").ok_or_else(|| {
            misconfigured("a vault+unix URL names its socket: vault+unix:///transit/keys/app?socket=/run/vault.sock")
        })?;
        if address.url().host_str().is_some_and(|host| !host.is_empty()) {
            return Err(misconfigured("a vault+unix URL has no host, so three slashes"));
        }
        let path = address.url().path().trim_start_matches('/').to_owned();
        return Ok((format!("unix://{socket}"), path));
    }
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
    let agent = match address.take("agent").as_deref() {
        Some("true") => Some(Auth::agent()),
        None => None,
        Some(_) => return Err(misconfigured("`agent` is `true` or not there")),
    };
    let kubernetes = address.take("kubernetes_role").map(Auth::kubernetes);
    let certificate = address.take("cert_role").map(Auth::certificate_of_role);
    let google = address.take("gcp_role").map(Auth::gcp_instance);
    let app_role = match (address.take("role_id"), address.take("secret_id_file")) {
        (Some(id), Some(file)) => Some(Auth::app_role_with_secret_file(id, file)),
        (None, None) => None,
        _ => return Err(misconfigured("`role_id` and `secret_id_file` go together")),
    };
    let only_role_id = address
        .take("role_id_alone")
        .map(Auth::app_role_without_secret);
    let jwt = match (address.take("jwt_role"), address.take("jwt_file")) {
        (Some(role), Some(file)) => Some(Auth::jwt_file(role, file)),
        (None, None) => None,
        _ => return Err(misconfigured("`jwt_role` and `jwt_file` go together")),
    };
    let amazon = amazon(address)?;
    let ways = [
        token_file,
        agent,
        kubernetes,
        certificate,
        google,
        app_role,
        only_role_id,
        jwt,
        amazon,
    ];
    let mut ways = ways.into_iter().flatten();
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

/// The login by AWS IAM, which needs the feature `aws` too.
#[cfg(feature = "aws")]
fn amazon(address: &mut Address) -> Result<Option<Auth>> {
    use kms_wrapper_vault::AwsIam;

    let (region, id) = (address.take("aws_region"), address.take("aws_server_id"));
    let Some(role) = address.take("aws_role") else {
        return match (region, id) {
            (None, None) => Ok(None),
            _ => Err(misconfigured("`aws_region` and `aws_server_id` go with `aws_role`")),
        };
    };
    let login = region.into_iter().fold(AwsIam::role(role), AwsIam::region);
    let login = id.into_iter().fold(login, AwsIam::server_id);
    Ok(Some(Auth::aws_iam(login)))
}

#[cfg(not(feature = "aws"))]
fn amazon(address: &mut Address) -> Result<Option<Auth>> {
    match address.take("aws_role") {
        None => Ok(None),
        Some(_) => Err(misconfigured(
            "`aws_role` needs the feature `aws` of kms-kit",
        )),
    }
}
