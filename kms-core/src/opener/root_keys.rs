//! Opening root key versions: from rows by the scope's root of trust.

use super::*;

impl Opener {
    /// The prepared newest root key version, taken from `known` where it is the same.
    pub(crate) async fn newest_root_key(
        &self,
        rows: &ScopeRows,
        known: Option<&KeyRing>,
    ) -> Result<(RootKeyVersionId, LocalKey)> {
        let newest = rows.newest_root_key_version()?;
        let key = match Known::of(known, rows, true).root_key(newest) {
            Some(Opened::Key(key)) => key,
            _ => self.open_root_key(rows, newest).await?,
        };
        Ok((newest.id.clone(), key.expand(newest.id.text())))
    }

    /// The bytes of every root key version, to be wrapped anew.
    pub(crate) async fn all_root_keys(
        &self,
        rows: &ScopeRows,
        parallel: usize,
    ) -> Result<HashMap<RootKeyVersionId, KeyBytes>> {
        let unwraps: Vec<_> = rows
            .root_key_versions
            .iter()
            .map(|row| async move {
                let key = self.root_key_version_of(rows, row).await?;
                Ok((row.id.clone(), key))
            })
            .collect();
        let mut opened = stream::iter(unwraps).buffered(parallel);
        let mut keys = HashMap::new();
        while let Some(result) = opened.next().await {
            let (id, key) =
                result.map_err(|error: Error| error.with_context("scope", &rows.scope))?;
            keys.insert(id, key);
        }
        Ok(keys)
    }

    /// Unwraps one root key version with the scope's root.
    pub(crate) async fn root_key_version(
        &self,
        root: Option<&RootName>,
        scope: &ScopeId,
        key: &RootKeyId,
        id: &RootKeyVersionId,
        version: i64,
        wrapped: &[u8],
    ) -> Result<KeyBytes> {
        let root = self.roots.of(root).await.map_err(|error| {
            error
                .with_context("scope", scope)
                .with_context("key_version", id)
        })?;
        self.unwrap_with(&root, scope, key, id, version, wrapped)
            .await
    }

    /// Unwraps one root key version with this root.
    pub(crate) async fn unwrap_with(
        &self,
        root: &Root,
        scope: &ScopeId,
        key: &RootKeyId,
        id: &RootKeyVersionId,
        version: i64,
        wrapped: &[u8],
    ) -> Result<KeyBytes> {
        let context = |error: Error| {
            let error = error
                .with_context("scope", scope)
                .with_context("key_version", id);
            root.names(error)
        };
        let blob = Blob::decode(wrapped).map_err(|source| context(tampered(source)))?;
        root.may_have_made(&blob).map_err(context)?;
        let aad = binding::root_key_version(scope, key, id, version);
        let mut opened = Err(Error::new(ErrorKind::AuthenticationFailed));
        for attempt in self.attempts(&blob) {
            let call = async { root.wrapper.decrypt(&blob, attempt.aad(&aad)).await };
            opened = guarded("the root wrapper panicked", call).await;
            if !could_be_otherwise_bound(&opened) {
                break;
            }
        }
        self.finish(opened, &blob).map_err(|error| {
            context(match error.kind() {
                ErrorKind::TamperedKey => error
                    .with_detail("another root key under the same id looks the same")
                    .with_context("root_key_id", blob.key_id()),
                _ => error,
            })
        })
    }

    /// Those root key versions that are needed, from what is known or by the root wrapper.
    pub(super) async fn open_root_keys(
        &self,
        rows: &ScopeRows,
        known: &Known<'_>,
        needed: &HashSet<&RootKeyVersionId>,
        opening: Opening,
    ) -> RootKeys {
        let deadline = opening.deadline;
        // The newest first: it is what most callers wait for.
        let unwraps: Vec<_> = rows
            .root_key_versions
            .iter()
            .rev()
            .filter(|row| needed.contains(&row.id))
            .map(|row| async move {
                let before = match known.root_key(row) {
                    Some(Opened::Key(key)) => return (row.id.clone(), Ok(key)),
                    Some(Opened::Failed(failure)) if !failure.is_due(opening.now) => {
                        return (row.id.clone(), Err(failure));
                    }
                    Some(Opened::Failed(failure)) => Some(failure),
                    _ => None,
                };
                let key = within(deadline, self.open_root_key(rows, row)).await;
                let failed = |error| Failure::new(error, before.as_deref(), opening.now);
                (row.id.clone(), key.map_err(failed))
            })
            .collect();
        stream::iter(unwraps)
            .buffer_unordered(opening.parallel)
            .collect()
            .await
    }

    async fn open_root_key(
        &self,
        rows: &ScopeRows,
        row: &RootKeyVersionRow,
    ) -> Result<Arc<RestingKey>> {
        let bytes = self.root_key_version_of(rows, row).await?;
        Ok(self.rest(&bytes))
    }

    /// Unwraps one root key version of these rows.
    pub(crate) async fn root_key_version_of(
        &self,
        rows: &ScopeRows,
        row: &RootKeyVersionRow,
    ) -> Result<KeyBytes> {
        let (root, scope) = (rows.root.as_ref(), &rows.scope);
        self.root_key_version(root, scope, &rows.root_key, &row.id, row.version, &row.key)
            .await
    }
}
