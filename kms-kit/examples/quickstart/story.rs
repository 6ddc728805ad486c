//! The story itself, top down.

use std::sync::Arc;

use kms_kit::prelude::*;
use kms_kit::{CampaignOptions, ErrorKind, KeyKind, KeyVersionId, PooledWrapper};
use tokio::task::block_in_place;

use super::Result;
use super::database::{Client, Database};
use super::setup::Setup;

const OIDC: Purpose = Purpose::from_static("oidc");
const SESSIONS: Purpose = Purpose::from_static("sessions");
const GLOBEX: &str = "globex";

struct Story {
    setup: Setup,
    kms: Kms,
    /// Different in every run, so that it can run again on the same database.
    run: String,
}

pub(crate) async fn tell(mut setup: Setup) -> Result<()> {
    println!(
        "An application keeps secrets of its organizations in its own database, encrypted. Each organization\n\
         is a scope: it has a root key (kek), and under it a data key (dek) per purpose. The root keys\n\
         are wrapped by a key outside the database, here root-2026, from a file.\n\n\
         Database: {}\n",
        setup.place
    );

    match block_in_place(|| setup.database.migrate())?.len() {
        0 => println!("1. Migrated: the database had all migrations from an earlier run."),
        ran => println!("1. Migrated: {ran} migrations ran, ours and the application's."),
    }
    delete_what_was_tampered_with(&mut *setup.database)?;

    let kms = engine(&setup, Arc::clone(&setup.old_root)).await?;
    let run = KeyVersionId::Data(kms_kit::DataKeyVersionId::generate()).to_string();
    let run = run.trim_start_matches("kdkv_").to_lowercase();
    let mut story = Story { setup, kms, run };

    let acme = story.found("acme").await?;
    story.show_keys(&acme).await?;
    let first = story.read_back("acme", b"acme's secret").await?;
    let second = story.rotate(&acme, &first).await?;
    story.revocation_is_refused(&first).await?;
    story.re_encrypt_and_revoke(&acme, &first, &second).await?;
    story.change_the_root(&acme).await?;
    story.a_copied_key_does_not_open(&acme).await?;
    story.delete(&acme).await?;
    println!(
        "\nEach step was checked by an assertion. Run it again: it goes on with the same database."
    );
    Ok(())
}

/// A run that was interrupted in step 8 leaves an organization whose key opens nowhere.
fn delete_what_was_tampered_with(database: &mut dyn Database) -> Result<()> {
    for organization in block_in_place(|| database.organizations())? {
        if organization.starts_with(GLOBEX) {
            block_in_place(|| database.delete_organization(&organization))?;
        }
    }
    Ok(())
}

async fn engine(setup: &Setup, root: Arc<dyn Wrapper>) -> Result<Kms> {
    let builder = kms_kit::builder(Arc::clone(&setup.repository));
    Ok(builder
        .root_wrapper(root)
        .purposes([OIDC, SESSIONS])
        .build()
        .await?)
}

impl Story {
    fn database(&mut self) -> &mut dyn Database {
        &mut *self.setup.database
    }

    fn id(&self, name: &str) -> String {
        format!("{name}-{}", self.run)
    }

    /// An organization, its keys and an encrypted row, in one transaction.
    async fn found(&mut self, name: &str) -> Result<ScopeId> {
        let scope = ScopeId::new(self.id(name))?;
        // Key generation and the root wrapper come first; no transaction is open yet.
        let keys = self
            .kms
            .prepare_create_keys(&scope, &[OIDC, SESSIONS])
            .await?;
        let wrapper = keys.wrapper(&OIDC)?;
        let secret = format!("{name}'s secret");
        let client = Client {
            id: self.id(&format!("client-of-{name}")),
            organization_id: scope.to_string(),
            secret: wrapper
                .encrypt(secret.as_bytes(), scope.as_str().as_bytes())?
                .encode(),
            key_version_id: wrapper.key_version_id().to_string(),
        };
        let receipts = block_in_place(|| self.database().found(scope.as_str(), &keys, &client))?;
        self.kms.accept(&receipts);
        Ok(scope)
    }

    async fn show_keys(&self, scope: &ScopeId) -> Result<()> {
        println!(
            "2. Inserted in one transaction: organization {scope}, a client with an encrypted secret, and these keys:"
        );
        for key in self.kms.list_keys(scope).await? {
            for version in &key.versions {
                println!(
                    "     {} {} ({}), version {}: {}",
                    key.kind, key.id, key.purpose, version.version, version.id
                );
            }
        }
        Ok(())
    }

    async fn read_back(&mut self, name: &str, expected: &[u8]) -> Result<Client> {
        let id = self.id(&format!("client-of-{name}"));
        let client = block_in_place(|| self.database().client(&id))?;
        assert_eq!(self.open(&client).await?, expected);
        println!("3. Read the row of {id} back and decrypted its secret.");
        Ok(client)
    }

    async fn rotate(&mut self, scope: &ScopeId, first: &Client) -> Result<Client> {
        self.kms.rotate_keys(scope, Rewrap::Yes).await?;
        let wrapper = self.kms.wrapper(scope, &OIDC).await?;
        let second = Client {
            id: self.id("second-client"),
            organization_id: scope.to_string(),
            secret: wrapper
                .encrypt(b"second", scope.as_str().as_bytes())?
                .encode(),
            key_version_id: wrapper.key_version_id().to_string(),
        };
        block_in_place(|| self.database().insert_client(&second))?;
        assert_ne!(second.key_version_id, first.key_version_id);
        assert_eq!(self.open(&second).await?, b"second");
        assert_eq!(self.open(first).await?, b"acme's secret");
        println!(
            "4. Rotated the keys: the new row of {} is encrypted with version 2, {};\n     \
             the old row of {} still opens with version 1, {}.",
            second.id, second.key_version_id, first.id, first.key_version_id
        );
        Ok(second)
    }

    async fn revocation_is_refused(&mut self, first: &Client) -> Result<()> {
        let version: KeyVersionId = first.key_version_id.parse()?;
        let error = self
            .kms
            .revoke_key_version(&version)
            .await
            .expect_err("it has to be refused");
        assert_eq!(error.kind(), ErrorKind::InUse);
        assert!(
            error
                .context("table")
                .is_some_and(|table| table.contains("oidc_client"))
        );
        println!("5. Revoking version 1 is refused, since a row needs it:\n     {error}");
        Ok(())
    }

    async fn re_encrypt_and_revoke(
        &mut self,
        scope: &ScopeId,
        first: &Client,
        second: &Client,
    ) -> Result<()> {
        let secret = self.open(first).await?;
        let wrapper = self.kms.wrapper(scope, &OIDC).await?;
        let anew = Client {
            secret: wrapper
                .encrypt(&secret, scope.as_str().as_bytes())?
                .encode(),
            key_version_id: wrapper.key_version_id().to_string(),
            ..first.clone()
        };
        assert_eq!(anew.key_version_id, second.key_version_id);
        block_in_place(|| self.database().replace_secret(&anew))?;
        let version: KeyVersionId = first.key_version_id.parse()?;
        self.kms.revoke_key_version(&version).await?;
        let error = self.open(first).await.expect_err("it has to be refused");
        assert!(error.to_string().contains("no such key version"), "{error}");
        println!(
            "6. Re-encrypted the row of {} with version 2. Nothing needs {version} any more:\n     \
             now it is revoked, and what it encrypted before is unreadable.",
            anew.id
        );
        Ok(())
    }

    async fn change_the_root(&mut self, scope: &ScopeId) -> Result<()> {
        let pool = PooledWrapper::new(Arc::clone(&self.setup.new_root))
            .with_decrypting(Arc::clone(&self.setup.old_root))?;
        self.kms = engine(&self.setup, Arc::new(pool)).await?;
        // Every time this story is told is a round of its own. A job gives no id, or `CampaignId::monthly()`.
        let campaign = CampaignOptions::new(self.id("move-to-root-2027"));
        let outcome = self
            .kms
            .rewrap_all(&campaign, RewrapKeys::All, |_| {})
            .await?;
        let report = outcome.report().ok_or("it was finished before")?;
        assert!(report.failures.is_empty(), "{:?}", report.failures);
        let census = self.kms.census().await?;
        assert_eq!(census.not_current, 0);

        self.kms = engine(&self.setup, Arc::clone(&self.setup.new_root)).await?;
        let client = self.id("client-of-acme");
        let client = block_in_place(|| self.database().client(&client))?;
        assert_eq!(self.open(&client).await?, b"acme's secret");
        println!(
            "7. Moved to another root key: a pool of both rewrapped the keys of all scopes ({}, {scope} among them).\n     \
             Root key versions by root key are now {:?}, and with root-2027 alone the secret still opens.",
            report.done, census.by_root_key
        );
        Ok(())
    }

    async fn a_copied_key_does_not_open(&mut self, acme: &ScopeId) -> Result<()> {
        let globex = self.found(GLOBEX).await?;
        let (from, to) = (self.newest(acme).await?, self.newest(&globex).await?);
        block_in_place(|| self.database().copy_wrapped_key(&from, &to))?;
        // A process that starts now finds only the copy.
        let kms = engine(&self.setup, Arc::clone(&self.setup.new_root)).await?;
        let error = kms
            .wrapper(&globex, &OIDC)
            .await
            .expect_err("it has to be refused");
        assert_eq!(error.kind(), ErrorKind::TamperedKey);
        println!(
            "8. Another organization, {globex}. Somebody who can write to the database copies acme's wrapped key\n     \
             {from} into globex's row {to}. There it does not open:\n     {error}"
        );
        block_in_place(|| self.database().delete_organization(globex.as_str()))?;
        Ok(())
    }

    async fn delete(&mut self, scope: &ScopeId) -> Result<()> {
        let keys = self.kms.list_keys(scope).await?;
        block_in_place(|| self.database().delete_organization(scope.as_str()))?;
        let error = self
            .kms
            .list_keys(scope)
            .await
            .expect_err("it has to be refused");
        assert_eq!(error.kind(), ErrorKind::UnknownScope);
        let versions: Vec<_> = keys.iter().flat_map(|key| &key.versions).collect();
        for version in &versions {
            let gone = self.kms.revoke_key_version(&version.id).await;
            let error = gone.expect_err("it has to be refused");
            assert_eq!(error.kind(), ErrorKind::UnknownKeyVersion);
        }
        let client = self.id("client-of-acme");
        assert!(block_in_place(|| self.database().client(&client)).is_err());
        println!(
            "9. Deleted organization {scope}, in one statement: its {} keys with their {} versions are gone,\n     \
             and so are its clients.",
            keys.len(),
            versions.len()
        );
        Ok(())
    }

    async fn newest(&self, scope: &ScopeId) -> Result<KeyVersionId> {
        let keys = self.kms.list_keys(scope).await?;
        let key = keys
            .iter()
            .find(|key| key.kind == KeyKind::Dek && key.purpose == OIDC)
            .ok_or("no such key")?;
        Ok(key.versions.last().ok_or("no version")?.id.clone())
    }

    async fn open(&self, client: &Client) -> Result<Vec<u8>> {
        let scope = ScopeId::new(&client.organization_id)?;
        let blob = Blob::decode(&client.secret)?;
        let aad = client.organization_id.as_bytes();
        let secret = self.kms.decrypt(&scope, &OIDC, &blob, aad).await?;
        Ok(secret.expose().to_vec())
    }
}
