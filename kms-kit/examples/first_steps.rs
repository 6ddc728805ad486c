//! What the README shows.

use std::error::Error;
use std::sync::Arc;

use diesel::{Connection as _, SqliteConnection};
use kms_kit::prelude::*;
use kms_kit::{AeadWrapper, SqliteRepository, migrations};

const OIDC: Purpose = Purpose::from_static("oidc");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // The tables, in the application's own database; with your own migrations if you like.
    let mut connection = SqliteConnection::establish("app.sqlite3")?;
    migrations::sqlite::run(&mut connection)?;

    // The root of trust: 32 bytes in hex or base64. (Or in AWS KMS, Cloud KMS, Vault.)
    let root = AeadWrapper::builder("local-2027")
        .key_from_env("APP_ROOT_KEY")
        .build()?;
    let repository = SqliteRepository::builder("app.sqlite3").build()?;
    let kms = kms_kit::builder(Arc::new(repository))
        .root_wrapper(Arc::new(root))
        .purposes([OIDC])
        .build()
        .await?;

    let tenant = ScopeId::new("o_1")?;
    kms.create_keys(&tenant, &[OIDC]).await?;

    let wrapper = kms.wrapper(&tenant, &OIDC).await?; // no query while cached and fresh
    let blob = wrapper.encrypt(b"secret", b"client:7")?; // to be stored by `blob.encode()`

    kms.rotate_keys(&tenant, Rewrap::Yes).await?; // old blobs still open
    let secret = kms.decrypt(&tenant, &OIDC, &blob, b"client:7").await?;
    assert_eq!(secret.expose(), b"secret");
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::env;
    use std::process::{Command, Output};

    const ROOT_KEY: &str = "APP_ROOT_KEY";

    /// Does nothing but in the process of the next test.
    #[test]
    fn the_child() {
        if env::var_os(ROOT_KEY).is_some() {
            super::main().unwrap();
        }
    }

    #[test]
    fn they_run_and_need_a_whole_root_key() {
        let folder = tempfile::tempdir().unwrap();
        let run = |key: &str| -> Output {
            Command::new(env::current_exe().unwrap())
                .args(["--exact", "tests::the_child", "--nocapture"])
                .current_dir(folder.path())
                .env(ROOT_KEY, key)
                .output()
                .unwrap()
        };
        assert!(!run("5a").status.success());
        let whole = run(&"5a".repeat(32));
        assert!(whole.status.success(), "{whole:?}");
        assert!(folder.path().join("app.sqlite3").is_file());
    }

    #[test]
    fn the_readme_shows_them() {
        let program = include_str!("first_steps.rs");
        let (_, program) = program.split_once("\n\n").unwrap();
        let (program, _) = program.split_once("\n#[cfg(test)]").unwrap();
        let shown = format!("```rust\n{program}```\n");
        assert!(include_str!("../../README.md").contains(&shown));
    }
}
