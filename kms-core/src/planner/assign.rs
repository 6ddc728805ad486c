//! Giving a scope another root of trust: its root key versions, encrypted anew by that root.

use super::*;

impl Planner {
    /// `None` if the scope has this root already.
    ///
    /// The scope's present root opens every version, the new one encrypts it, and opens again what it made: a root that
    /// encrypts and does not decrypt would lock the tenant out.
    pub(crate) async fn assign_root(
        &self,
        rows: &ScopeRows,
        root: Option<&RootName>,
    ) -> Result<Option<Prepared>> {
        if rows.root.as_ref() == root {
            return Ok(None);
        }
        let root = self.opener.roots.of(root).await?;
        let mut draft = Draft::new(rows.scope.clone(), rows.root_key.clone());
        draft.root = match &root.name {
            Some(name) => RootChange::Assign(name.clone()),
            None => RootChange::Unassign,
        };
        let keys = self.opener.all_root_keys(rows, self.parallel).await?;
        self.refuse_copies(rows, &keys, &HashMap::new())?;
        self.rewrap_root_keys(&mut draft, &root, rows, &keys)
            .await?;
        self.read_back(&draft, &root, rows, &keys).await?;
        Ok(Some(
            draft.finish(Operation::AssignRoot, Some(rows.clone())),
        ))
    }

    async fn read_back(
        &self,
        draft: &Draft,
        root: &Root,
        rows: &ScopeRows,
        keys: &HashMap<RootKeyVersionId, KeyBytes>,
    ) -> Result<()> {
        let wrapped: HashMap<_, _> = draft
            .update
            .root_key_versions
            .iter()
            .map(|(id, key)| (id, key))
            .collect();
        let reads: Vec<_> = rows
            .root_key_versions
            .iter()
            .map(|row| async {
                let (scope, key) = (&rows.scope, &rows.root_key);
                let back = self
                    .opener
                    .unwrap_with(root, scope, key, &row.id, row.version, wrapped[&row.id])
                    .await?;
                if back.expose() == keys[&row.id].expose() {
                    return Ok(());
                }
                let error = Error::new(ErrorKind::DamagedResponse)
                    .with_detail("the new root decrypted its own blob to something else")
                    .with_context("scope", scope);
                Err(root.names(error))
            })
            .collect();
        stream::iter(reads)
            .buffer_unordered(self.parallel)
            .try_collect::<()>()
            .await
    }
}
