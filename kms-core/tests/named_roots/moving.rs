//! A tenant that moves keeps its own root.

use std::sync::Arc;

use kms_core::{ErrorKind, MemoryRepository, Repository as _};

use crate::customers::{Customers, one_of_two};
use crate::support::{OIDC, on, root, scope};

#[tokio::test]
async fn a_tenant_s_own_root_wraps_its_keys_wherever_it_moves() {
    let (_world, customer, engine) = one_of_two().await;
    let id = scope("o_1");
    let blob = engine.encrypt(&id).await.unwrap();
    engine.kms.rename_scope(&id, &scope("o_9")).await.unwrap();
    let exported = engine.kms.export_scope(&scope("o_9")).await.unwrap();
    let line = serde_json::to_string(&exported).unwrap();
    let exported = serde_json::from_str(&line).unwrap();

    let repository = MemoryRepository::new();
    // A fleet of its own, which shares this customer alone.
    let own = root("elsewhere");
    let builder = || on(Arc::new(repository.clone())).root_wrapper(Arc::clone(&own));
    let without = builder().build().await.unwrap();
    let error = without.import_scope(&exported).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoRootResolver);
    assert_eq!(error.named_root(), Some(customer.name.as_str()));
    let customers = Customers::of(&[&customer]);
    let target = builder().root_resolver(customers).build().await.unwrap();
    let _ = target.import_scope(&exported).await.unwrap();
    let rows = repository.load(&[scope("o_9")]).await.unwrap().scopes;
    assert_eq!(rows[0].root, Some(customer.name.clone()));
    let opened = target.decrypt(&scope("o_9"), &OIDC, &blob, b"").await;
    opened.unwrap();
    let verified = target.verify_import(&exported).await.unwrap();
    engine.kms.delete_exported(&verified).await.unwrap();
}
