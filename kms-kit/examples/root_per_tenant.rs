//! A tenant whose root of trust is its own: the application keeps a URL for each such tenant in a table of its own.
//!
//! `cargo run -p kms-kit --example root_per_tenant` tells the story with local keys in files; with a customer's AWS KMS
//! or Vault nothing differs but the URL. docs/root-per-tenant.md has the policies that the customer sets.

#![allow(clippy::print_stdout, reason = "it shows what it did")]

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use diesel::connection::SimpleConnection as _;
use diesel::prelude::*;
use kms_kit::core::KeyBytes;
use kms_kit::prelude::*;
use kms_kit::{
    AeadWrapper, ErrorKind, NamedRootLimits, ResolverError, RootName, RootResolver, RootWrapper,
    SqliteRepository, migrations,
};

const NOTES: Purpose = Purpose::from_static("notes");

/// How late a customer's disabled key is noticed. In production minutes, which is one call of the customer's KMS for
/// each process in that time.
const RECHECK: Duration = Duration::from_millis(200);

diesel::table! {
    /// The application's own.
    customer_root (name) {
        /// What the tenant's root is called.
        name -> Text,
        /// Where it is.
        url -> Text,
    }
}

/// Looks the URL of a root up in the application's own table.
#[derive(Debug)]
struct CustomerRoots {
    database: String,
}

#[async_trait]
impl RootResolver for CustomerRoots {
    async fn resolve(&self, name: &RootName) -> Result<Option<Arc<dyn Wrapper>>, ResolverError> {
        let (database, name) = (self.database.clone(), name.clone());
        let find = move || -> Result<Option<String>, ResolverError> {
            let mut connection = SqliteConnection::establish(&database)?;
            let url = customer_root::table
                .find(name.as_str())
                .select(customer_root::url)
                .first(&mut connection)
                .optional()?;
            Ok(url)
        };
        match tokio::task::spawn_blocking(find).await?? {
            Some(url) => Ok(Some(Arc::new(RootWrapper::from_url(&url)?))),
            None => Ok(None),
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let database = folder.path().join("app.sqlite3").display().to_string();
    let mut connection = SqliteConnection::establish(&database)?;
    migrations::sqlite::run(&mut connection)?;
    connection
        .batch_execute("create table customer_root (name text primary key, url text not null)")?;

    let kms = kms_kit::builder(Arc::new(SqliteRepository::builder(&database).build()?))
        .root_wrapper(Arc::new(
            AeadWrapper::builder("fleet")
                .key(KeyBytes::generate()?)
                .build()?,
        ))
        .root_resolver(Arc::new(CustomerRoots { database }))
        .named_root_limits(
            NamedRootLimits::default()
                .with_recheck(RECHECK)
                .with_keep(RECHECK),
        )
        .purposes([NOTES])
        .build()
        .await?;
    let (ours, theirs) = (ScopeId::new("o_1")?, ScopeId::new("o_2")?);
    for tenant in [&ours, &theirs] {
        kms.create_keys(tenant, &[NOTES]).await?;
    }
    let blob = kms
        .wrapper(&theirs, &NOTES)
        .await?
        .encrypt(b"a note", b"")?;

    // The customer brings a key. It is tried before anything depends on it, then the tenant's keys go under it, and
    // new ones are made that no other root ever wrapped.
    let root = RootName::new("customer-2")?;
    let url = key_in_file(folder.path(), &root)?;
    diesel::insert_into(customer_root::table)
        .values((
            customer_root::name.eq(root.as_str()),
            customer_root::url.eq(url),
        ))
        .execute(&mut connection)?;
    kms.preflight_root(&root).await?;
    kms.assign_root(&theirs, &root).await?;
    kms.rotate_keys(&theirs, Rewrap::Yes).await?;
    assert_eq!(
        kms.decrypt(&theirs, &NOTES, &blob, b"").await?.expose(),
        b"a note"
    );
    for (root, count) in &kms.census().await?.by_root {
        println!("under {root:?}: {} tenant(s)", count.scopes);
    }

    // The customer takes it away. Within the time of a recheck the tenant is closed, and no other notices.
    diesel::delete(customer_root::table.find(root.as_str())).execute(&mut connection)?;
    let error = loop {
        match kms.wrapper(&theirs, &NOTES).await {
            Ok(_) => tokio::time::sleep(RECHECK / 4).await,
            Err(error) => break error,
        }
    };
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::UnknownRootName);
    assert_eq!(error.named_root(), Some("customer-2"));
    kms.wrapper(&ours, &NOTES).await?;
    Ok(())
}

/// Stands for what a customer creates in a KMS of its own.
fn key_in_file(folder: &Path, root: &RootName) -> Result<String, Box<dyn Error>> {
    use std::os::unix::fs::PermissionsExt as _;

    let path = folder.join(root.as_str());
    let key = data_encoding::HEXLOWER.encode(KeyBytes::generate()?.expose());
    std::fs::write(&path, key)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(format!("aead:file:{}?key_id={root}", path.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_story_runs_to_its_end() {
        super::main().unwrap();
    }
}
