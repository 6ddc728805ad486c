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
            .flat_map(ScopeRows::wrapped_keys)
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

/// Whether the ciphertext stands anywhere in the wrapped key.
fn holds(key: &[u8], ciphertext: &[u8]) -> bool {
    !ciphertext.is_empty() && key.windows(ciphertext.len()).any(|part| part == ciphertext)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::id::{RootKeyId, RootKeyVersionId};
    use crate::memory::MemoryRepository;
    use crate::rows::RootKeyVersionRow;

    #[tokio::test]
    async fn what_is_looked_up_page_by_page_is_found_on_every_page() {
        let repository = MemoryRepository::new();
        let now = SystemTime::now();
        repository.tamper(|scopes| {
            scopes.extend((0..2 * PAGE).map(|number| ScopeRows {
                scope: ScopeId::from_stored(&format!("o_{number:04}")),
                root_key: RootKeyId::generate(),
                root: None,
                create_time: now,
                root_key_versions: vec![RootKeyVersionRow {
                    id: RootKeyVersionId::generate(),
                    version: 1,
                    key: format!("<{number}>").into_bytes(),
                    create_time: now,
                }],
                data_keys: Vec::new(),
            }));
        });
        let everything = ScopeFilter::default();
        let count = repository.count_scopes(&everything).await.unwrap();
        assert_eq!(count, 2 * PAGE as u64);
        let purpose = [Purpose::from_static("database")];
        let missing = repository.missing(&purpose, None).await.unwrap();
        assert_eq!(missing.len(), 2 * PAGE);
        let other = ScopeId::from_stored("other");
        for number in [0, PAGE - 1, PAGE, 2 * PAGE - 1] {
            let ciphertext = format!("<{number}>").into_bytes();
            let copies = repository.copies(&other, &[ciphertext]).await.unwrap();
            assert_eq!(copies.len(), 1, "{number}");
        }
    }
}
