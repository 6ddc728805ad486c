//! The quickstart, told to its end.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "the example is a whole program")]

mod support;

#[path = "../examples/quickstart/main.rs"]
mod quickstart;

use kms_kit::{KeyVersionId, Prepared, Receipt};
use quickstart::database::{Client, Database as Application};
use quickstart::{Result, setup, story};
use support::Database;

/// Fails in step 8 of the story, after the row was tampered with.
struct Interrupted(Box<dyn Application>);

impl Application for Interrupted {
    fn migrate(&mut self) -> Result<Vec<String>> {
        self.0.migrate()
    }
    fn found(&mut self, id: &str, keys: &Prepared, client: &Client) -> Result<Vec<Receipt>> {
        self.0.found(id, keys, client)
    }
    fn insert_client(&mut self, client: &Client) -> Result<()> {
        self.0.insert_client(client)
    }
    fn client(&mut self, id: &str) -> Result<Client> {
        self.0.client(id)
    }
    fn replace_secret(&mut self, client: &Client) -> Result<()> {
        self.0.replace_secret(client)
    }
    fn copy_wrapped_key(&mut self, from: &KeyVersionId, to: &KeyVersionId) -> Result<()> {
        self.0.copy_wrapped_key(from, to)?;
        Err("interrupted".into())
    }
    fn delete_organization(&mut self, id: &str) -> Result<()> {
        self.0.delete_organization(id)
    }
    fn organizations(&mut self) -> Result<Vec<String>> {
        self.0.organizations()
    }
}

/// Each step of the story asserts what it tells.
async fn the_story_can_be_told_again_also_after_an_interruption(database_url: Option<&str>) {
    let folder = tempfile::tempdir().unwrap();
    let prepare = || setup::prepare(folder.path(), database_url).unwrap();
    story::tell(prepare()).await.unwrap();
    let mut setup = prepare();
    setup.database = Box::new(Interrupted(setup.database));
    let error = story::tell(setup).await.unwrap_err();
    assert_eq!(error.to_string(), "interrupted");
    let left = prepare().database.organizations().unwrap();
    assert_eq!(left.len(), 2, "{left:?}");
    story::tell(prepare()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_on_sqlite() {
    the_story_can_be_told_again_also_after_an_interruption(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_quickstart_on_postgres() {
    if let Some(database) = Database::empty_postgres() {
        let Database::Postgres { url, .. } = &database else {
            unreachable!()
        };
        the_story_can_be_told_again_also_after_an_interruption(Some(url)).await;
    }
}
