//! Our engine, as the checks need it.

use std::sync::Arc;

use anyhow::Result;
use data_encoding::HEXLOWER;
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, Binding, KmsBuilder, Repository};

pub(crate) const DATABASE: Purpose = Purpose::from_static("database");
pub(crate) const OIDC: Purpose = Purpose::from_static("oidc");
pub(crate) const SESSIONS: Purpose = Purpose::from_static("sessions");
pub(crate) static PURPOSES: [Purpose; 3] = [DATABASE, OIDC, SESSIONS];

/// A local root key that both sides hold.
#[derive(Clone, Debug)]
pub(crate) struct LocalRoot {
    hex: String,
}

impl LocalRoot {
    pub(crate) fn generate() -> Self {
        let mut key = [0_u8; 32];
        rand::fill(&mut key);
        Self {
            hex: HEXLOWER.encode(&key),
        }
    }

    pub(crate) fn from_hex(hex: &str) -> Self {
        Self {
            hex: hex.to_owned(),
        }
    }

    pub(crate) fn hex(&self) -> &str {
        &self.hex
    }

    /// As the Go program takes it.
    pub(crate) fn go(&self) -> String {
        format!("aead:{}", self.hex)
    }

    pub(crate) fn wrapper(&self) -> Result<Arc<dyn Wrapper>> {
        self.wrapper_named("root")
    }

    pub(crate) fn wrapper_named(&self, id: &str) -> Result<Arc<dyn Wrapper>> {
        Ok(Arc::new(
            AeadWrapper::builder(id).key_text(&self.hex).build()?,
        ))
    }
}

/// An engine that looks at the database for every call, so that what Go changed is seen at once.
pub(crate) async fn engine(
    repository: Arc<dyn Repository>,
    root: Arc<dyn Wrapper>,
    binding: Binding,
) -> Result<Kms> {
    Ok(builder(repository, root, binding).build().await?)
}

pub(crate) fn builder(
    repository: Arc<dyn Repository>,
    root: Arc<dyn Wrapper>,
    binding: Binding,
) -> KmsBuilder {
    kms_kit::builder(repository)
        .root_wrapper(root)
        .purposes(PURPOSES.clone())
        .binding(binding)
        .freshness(Freshness::Always)
}
