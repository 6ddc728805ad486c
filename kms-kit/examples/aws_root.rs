//! A key in AWS KMS as the root of trust.
//!
//! ```sh
//! cargo run -p kms-kit --features aws --example aws_root -- --key alias/app --region eu-west-1
//! ```
//!
//! Credentials come from where the AWS tools take them. Against LocalStack, as `cargo xtask up aws` starts it:
//!
//! ```sh
//! eval "$(cargo xtask up aws)"
//! export AWS_ACCESS_KEY_ID=test AWS_SECRET_ACCESS_KEY=test AWS_REGION=us-east-1
//! aws --endpoint-url "$KMS_TEST_AWS_ENDPOINT" kms create-key     # prints the key's id
//! cargo run -p kms-kit --features aws --example aws_root -- --key ID --endpoint "$KMS_TEST_AWS_ENDPOINT"
//! ```

#![allow(clippy::print_stdout, reason = "it shows what it did")]

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use kms_kit::core::{CallLimits, MemoryRepository};
use kms_kit::prelude::*;

const OIDC: Purpose = Purpose::from_static("oidc");

#[derive(Parser)]
struct Arguments {
    /// The key: its ARN, its id, or `alias/…`.
    #[arg(long)]
    key: String,
    #[arg(long)]
    region: Option<String>,
    /// Another address of the service than the Region's own.
    #[arg(long)]
    endpoint: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = Arguments::parse();

    // What is not given here, the environment says. Nothing is asked yet.
    let mut root = kms_kit::aws::from_env()
        .key_id(arguments.key)
        .limits(CallLimits::default().with_deadline(Duration::from_secs(5)));
    if let Some(region) = arguments.region {
        root = root.region(region);
    }
    if let Some(endpoint) = arguments.endpoint {
        root = root.endpoint(endpoint);
    }
    let root = root.build()?;

    // Encrypts and decrypts a probe: at start-up, not at night, one learns that a permission is missing.
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
