//! What a repository finds out by looking at all rows, page by page.

use super::{Lack, MissingKeys, Repository, ScopeFilter};
use crate::error::Result;
use crate::id::KeyVersionId;
use crate::rows::ScopeRows;
use crate::scope::{Purpose, ScopeId};

/// Scopes that are loaded at once.
const PAGE: usize = 500;

pub(super) async fn missing<R: Repository + ?Sized>(
    repository: &R,
    purposes: &[Purpose],
    scopes: Option<&[ScopeId]>,
) -> Result<Vec<MissingKeys>> {
    let mut asked = match scopes {
        Some(scopes) => scopes.to_vec(),
        None => all(repository, &ScopeFilter::default()).await?,
    };
    asked.sort_unstable();
    asked.dedup();
    let mut missing = Vec::new();
    for page in asked.chunks(PAGE) {
        let found = repository.load(page).await?.scopes;
        missing.extend(page.iter().filter_map(|scope| {
            let rows = found.iter().find(|rows| rows.scope == *scope);
            let scope = scope.clone();
            lack(purposes, rows).map(|lack| MissingKeys { scope, lack })
        }));
    }
    Ok(missing)
}

pub(super) async fn copies<R: Repository + ?Sized>(
    repository: &R,
    scope: &ScopeId,
    ciphertexts: &[Vec<u8>],
) -> Result<Vec<KeyVersionId>> {
    let mut copies = Vec::new();
    for page in all(repository, &ScopeFilter::default()).await?.chunks(PAGE) {
        let found = repository.load(page).await?.scopes;
        let others = found.iter().filter(|rows| rows.scope != *scope);
        let holding = others
            .flat_map(wrapped_keys)
            .filter(|(_, key)| ciphertexts.iter().any(|ciphertext| holds(key, ciphertext)));
        copies.extend(holding.map(|(id, _)| id));
    }
    Ok(copies)
}

pub(super) async fn count<R: Repository + ?Sized>(
    repository: &R,
    filter: &ScopeFilter,
) -> Result<u64> {
    Ok(all(repository, filter).await?.len() as u64)
}

async fn all<R: Repository + ?Sized>(repository: &R, filter: &ScopeFilter) -> Result<Vec<ScopeId>> {
    let mut all: Vec<ScopeId> = Vec::new();
    loop {
        let page = repository.scopes(filter, all.last(), PAGE).await?;
        let last = page.len() < PAGE;
        all.extend(page);
        if last {
            return Ok(all);
        }
    }
}

fn lack(purposes: &[Purpose], rows: Option<&ScopeRows>) -> Option<Lack> {
    let Some(rows) = rows else {
        return Some(Lack::RootKey);
    };
    let missing: Vec<_> = purposes
        .iter()
        .filter(|purpose| rows.data_keys.iter().all(|key| key.purpose != **purpose))
        .cloned()
        .collect();
    (!missing.is_empty()).then_some(Lack::Purposes(missing))
}

fn wrapped_keys(rows: &ScopeRows) -> impl Iterator<Item = (KeyVersionId, &Vec<u8>)> {
    let root = rows
        .root_key_versions
        .iter()
        .map(|row| (row.id.clone().into(), &row.key));
    let data = rows
        .data_keys
        .iter()
        .flat_map(|key| &key.versions)
        .map(|row| (row.id.clone().into(), &row.key));
    root.chain(data)
}

/// Whether the ciphertext stands anywhere in the wrapped key.
fn holds(key: &[u8], ciphertext: &[u8]) -> bool {
    !ciphertext.is_empty() && key.windows(ciphertext.len()).any(|part| part == ciphertext)
}
