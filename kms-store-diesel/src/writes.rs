//! Writing what change sets write, table by table, so that a batch takes as few statements as one change.

use diesel::result::Error as QueryError;
use kms_core::{Receipt, Refusal, Writes, Written};

use crate::dialect::Dialect;

/// Why change sets were not written, and what was is to be rolled back.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    Refused(Refusal),
    Query(QueryError),
}

impl From<QueryError> for WriteFailure {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

/// What became of each change set of these.
pub(crate) async fn write<C: Dialect>(
    connection: &mut C,
    writes: &Writes<'_>,
) -> Result<Vec<Result<Receipt, Refusal>>, WriteFailure> {
    let mut written = Written::default();
    let root_keys = writes.root_keys();
    if !root_keys.is_empty() {
        written.root_keys = connection.insert_root_keys(&root_keys).await?;
    }
    run(
        connection,
        &writes.with_root_keys(&written.root_keys),
        &mut written,
    )
    .await?;
    writes.judge(&written).map_err(WriteFailure::Refused)
}

async fn run<C: Dialect>(
    connection: &mut C,
    writes: &Writes<'_>,
    written: &mut Written,
) -> Result<(), QueryError> {
    let root_key_versions: Vec<_> = writes.root_key_versions().collect();
    if !root_key_versions.is_empty() {
        let numbers = connection
            .insert_root_key_versions(&root_key_versions)
            .await?;
        written.numbers.extend(numbers);
    }
    let data_keys: Vec<_> = writes.data_keys().collect();
    if !data_keys.is_empty() {
        connection.insert_data_keys(&data_keys).await?;
    }
    let data_key_versions: Vec<_> = writes.data_key_versions().collect();
    if !data_key_versions.is_empty() {
        let numbers = connection
            .insert_data_key_versions(&data_key_versions)
            .await?;
        written.numbers.extend(numbers);
    }
    let rewrapped: Vec<_> = writes.rewrapped_root_key_versions().collect();
    if !rewrapped.is_empty() {
        written.updated += connection.rewrap_root_key_versions(&rewrapped).await?;
    }
    let rewrapped: Vec<_> = writes.rewrapped_data_key_versions().collect();
    if !rewrapped.is_empty() {
        written.updated += connection.rewrap_data_key_versions(&rewrapped).await?;
    }
    connection.set_roots(writes).await
}
