//! Where the example keeps its database and its root keys.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use diesel::Connection as _;
use kms_kit::core::KeyBytes;
use kms_kit::{AeadWrapper, Repository, Wrapper};

use super::Result;
use super::database::Database;

pub(crate) struct Setup {
    /// Says which database it is.
    pub(crate) place: String,
    /// The application's own connection.
    pub(crate) database: Box<dyn Database>,
    /// Where the engine keeps keys: the same database, through a pool of its own.
    pub(crate) repository: Arc<dyn Repository>,
    pub(crate) old_root: Arc<dyn Wrapper>,
    pub(crate) new_root: Arc<dyn Wrapper>,
}

/// The same in every run.
pub(crate) fn folder() -> Result<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/quickstart");
    fs::create_dir_all(&folder)?;
    Ok(folder.canonicalize()?)
}

pub(crate) fn prepare(folder: &Path, database_url: Option<&str>) -> Result<Setup> {
    let (place, database, repository) = match database_url {
        None => sqlite(&folder.join("app.sqlite3"))?,
        Some(url) => postgres(url)?,
    };
    Ok(Setup {
        place,
        database,
        repository,
        old_root: root(folder, "root-2026")?,
        new_root: root(folder, "root-2027")?,
    })
}

type Storage = (String, Box<dyn Database>, Arc<dyn Repository>);

#[cfg(feature = "sqlite")]
fn sqlite(file: &Path) -> Result<Storage> {
    use diesel::connection::SimpleConnection as _;

    let path = file.to_str().ok_or("the path is not UTF-8")?;
    let mut connection = diesel::SqliteConnection::establish(path)?;
    // SQLite enforces foreign keys only where this was said.
    connection.batch_execute("pragma busy_timeout = 5000; pragma foreign_keys = on;")?;
    let repository = kms_kit::SqliteRepository::builder(path).build()?;
    Ok((
        format!("SQLite, {path}"),
        Box::new(connection),
        Arc::new(repository),
    ))
}

#[cfg(not(feature = "sqlite"))]
fn sqlite(_: &Path) -> Result<Storage> {
    Err("SQLite is not compiled in: add --features sqlite, or give --database-url".into())
}

#[cfg(feature = "postgres")]
fn postgres(url: &str) -> Result<Storage> {
    let connection = diesel::PgConnection::establish(url)?;
    let repository = kms_kit::PostgresRepository::builder(url).build()?;
    Ok((
        "Postgres, at the given URL".into(),
        Box::new(connection),
        Arc::new(repository),
    ))
}

#[cfg(not(feature = "postgres"))]
fn postgres(_: &str) -> Result<Storage> {
    Err("Postgres is not compiled in: add --features postgres".into())
}

/// A local root key from a file that only its owner may read; made on the first run.
fn root(folder: &Path, id: &str) -> Result<Arc<dyn Wrapper>> {
    let file = folder.join(format!("{id}.key"));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(&file) {
        Ok(mut new) => new.write_all(KeyBytes::generate()?.expose())?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error.into()),
    }
    let wrapper = AeadWrapper::builder(id).key_from_file(&file).build()?;
    Ok(Arc::new(wrapper))
}
