//! A transit key in HashiCorp Vault or OpenBao as the root of trust.
//!
//! ```sh
//! vault secrets enable transit
//! vault write -f transit/keys/app
//! export VAULT_ADDR=https://vault.example.com:8200 VAULT_TOKEN=…
//! cargo run -p kms-kit --features vault --example vault_root -- --key app
//! ```
//!
//! `VAULT_NAMESPACE`, `VAULT_CACERT`, `VAULT_CLIENT_CERT` and the like are read too. `cargo xtask up vault` starts a
//! server to try it on, and says its address and token as `KMS_TEST_VAULT_ADDR` and `KMS_TEST_VAULT_TOKEN`.

#![allow(clippy::print_stdout, reason = "it shows what it did")]

use std::sync::Arc;

use clap::Parser;
use kms_kit::core::MemoryRepository;
use kms_kit::prelude::*;
use kms_kit::vault::{Auth, TransitWrapper};

const OIDC: Purpose = Purpose::from_static("oidc");

#[derive(Parser)]
struct Arguments {
    /// The key's name.
    #[arg(long)]
    key: String,
    /// Where the transit engine is mounted.
    #[arg(long, default_value = "transit")]
    mount: String,
    /// A file that an agent keeps a token in, instead of `VAULT_TOKEN`.
    #[arg(long)]
    token_file: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();

    // Address, namespace, certificates and token are the environment's; nothing is asked yet.
    let mut root = TransitWrapper::from_env()
        .mount_path(arguments.mount)
        .key_name(arguments.key)
        // Tells this key's blobs from those of other transit keys. Choose one and keep it.
        .key_id_prefix("vault-app-");
    if let Some(file) = arguments.token_file {
        root = root.auth(Auth::token_file(file));
    }
    let root = root.build()?;

    // Names the path and the capability that the token lacks.
    root.preflight().await?;
    println!("The root key is {}.", root.key_id().unwrap_or_default());

    // A real application gives a repository on its own database here.
    let kms = kms_kit::builder(Arc::new(MemoryRepository::new()))
        .root_wrapper(Arc::new(root))
        .purposes([OIDC])
        .build()
        .await?;
    let tenant = ScopeId::new("o_1")?;
    kms.create_keys(&tenant, &[OIDC]).await?;

    let wrapper = kms.wrapper(&tenant, &OIDC).await?;
    let blob = wrapper.encrypt(b"secret", b"client:7")?;
    kms.rotate_keys(&tenant, Rewrap::Yes).await?;
    let secret = kms.decrypt(&tenant, &OIDC, &blob, b"client:7").await?;
    assert_eq!(secret.expose(), b"secret");
    println!("A secret of tenant {tenant} survived the rotation of its keys.");
    Ok(())
}
