//! The same against AWS KMS as LocalStack plays it: its own latency, and as much at once as it manages.

use aws_sdk_kms::config::{BehaviorVersion, Credentials, Region};

use super::*;

/// Scopes of a case.
const SCOPES: usize = 100;

/// Measures with a key on this LocalStack, with one call at a time and with eight. Since LocalStack serves one at a
/// time, eight take as long as one after the other, and the ratio tells how many were waiting there all the while.
///
/// # Errors
///
/// Those of the engine; if the service is not there.
pub async fn localstack(
    endpoint: &str,
    make: impl Fn() -> Result<Database>,
    run: &mut Run,
) -> Result<()> {
    let root = root(endpoint).await?;
    for concurrency in [1, 8] {
        let distance = Distance {
            root: Arc::clone(&root),
            name: format!("localstack_x{concurrency}"),
            latency: Duration::ZERO,
            concurrency,
            scopes: SCOPES,
        };
        let database = make()?;
        distance
            .measure(database.kind(), database.repository()?, run)
            .await?;
    }
    Ok(())
}

async fn root(endpoint: &str) -> Result<Arc<dyn Wrapper>> {
    let config = aws_sdk_kms::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .endpoint_url(endpoint)
        .credentials_provider(Credentials::new("test", "test", None, None, "test"));
    let made = aws_sdk_kms::Client::from_conf(config.build())
        .create_key()
        .send()
        .await
        .context("a key on LocalStack")?;
    let arn = made
        .key_metadata
        .and_then(|key| key.arn)
        .context("the key's ARN")?;
    let root = kms_kit::aws::builder(&arn)
        .credentials("test", "test")
        .endpoint(endpoint)
        .build()?;
    Ok(Arc::new(root))
}
