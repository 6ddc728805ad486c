//! `aead:` — a local key.

use std::sync::Arc;

use kms_core::{Result, Wrapper};
use kms_wrapper_aead::AeadWrapper;

use super::address::{Address, misconfigured};

pub(super) fn open(mut address: Address) -> Result<Arc<dyn Wrapper>> {
    let key_id = address.take("key_id");
    let key_name = address.take("key_name");
    let path = address.url().path().to_owned();
    address.finish()?;
    let (source, name) = path.split_once(':').unwrap_or((&path, ""));
    if name.is_empty() {
        return Err(misconfigured(
            "a local key's URL is aead:env:VARIABLE or aead:file:/path",
        ));
    }
    let builder = match (key_id, key_name) {
        (Some(_), Some(_)) => {
            return Err(misconfigured("give key_id or key_name, not both"));
        }
        (None, Some(name)) => AeadWrapper::named(name),
        (id, None) => AeadWrapper::builder(id.unwrap_or_else(|| name.to_owned())),
    };
    let builder = match source {
        "env" => builder.key_from_env(name),
        "file" => builder.key_from_file(name),
        _ => {
            return Err(misconfigured(
                "a local key comes from a variable or a file: aead:env:VARIABLE or aead:file:/path",
            ));
        }
    };
    Ok(Arc::new(builder.build()?))
}
