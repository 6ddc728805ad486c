//! Further processes: this test binary again, with the work that it is to do in a variable.

use std::env;
use std::process::{Command, Stdio};
use std::sync::Arc;

use kms_kit::core::KeyBytes;
use kms_kit::{AeadWrapper, KmsBuilder, Repository};

use super::{DATABASE, Database, OIDC};

const ORDER: &str = "KMS_TEST_ORDER_TO_CHILD";

/// Known to all processes.
const ROOT_KEY: [u8; 32] = [42; 32];

/// An engine under the root key that all processes know, which may be another one than the world's.
pub fn engine(database: &Database) -> KmsBuilder {
    engine_on(database.repository())
}

/// The same on another repository.
pub fn engine_on(repository: Arc<dyn Repository>) -> KmsBuilder {
    let root =
        AeadWrapper::builder("root of all processes").key(KeyBytes::from_slice(&ROOT_KEY).unwrap());
    kms_kit::builder(repository)
        .root_wrapper(Arc::new(root.build().unwrap()))
        .root_may_be_new()
        .purposes([DATABASE, OIDC])
}

/// A process that runs the test `the_child` of this binary on this database. Its words hold no blanks.
pub fn child(database: &Database, words: &[&str]) -> Command {
    let (kind, place) = match database {
        Database::Sqlite { path, .. } => ("sqlite", path),
        Database::Postgres { url, .. } => ("postgres", url),
    };
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--exact", "the_child", "--nocapture"])
        .env(ORDER, format!("{} {kind} {place}", words.join(" ")))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

/// In the child, its database and its words. In the parent, which runs `the_child` as a test among others,
/// there are none.
pub fn order<const N: usize>() -> Option<(Database, [String; N])> {
    let order = env::var(ORDER).ok()?;
    let mut words = order.splitn(N + 2, ' ').map(str::to_owned);
    let given = std::array::from_fn(|_| words.next().unwrap());
    let kind = words.next().unwrap();
    let place = words.next().unwrap();
    let database = match &*kind {
        "sqlite" => Database::borrowed_sqlite(place),
        _ => Database::borrowed_postgres(place),
    };
    Some((database, given))
}
