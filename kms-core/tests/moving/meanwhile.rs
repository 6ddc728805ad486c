//! A tenant is renamed while somebody deletes its keys: what is under another id was not deleted.

use kms_core::{DataKeyVersionId, Error, ErrorKind};
use kms_testkit::{Fault, Gate, InstrumentedRepository, RepositoryMethod, When};

use crate::support::{World, on, scope};
use crate::{Arc, Kms, Target, assert_opens, tenant};

/// An engine whose next change gets no answer and takes no effect; the gate stands before it looks what became of it.
async fn unanswered(world: &World) -> (Kms, Gate) {
    let repository = InstrumentedRepository::new(Arc::new(world.repository.clone()));
    let repository = Arc::new(repository);
    let builder = on(Arc::clone(&repository) as _).root_wrapper(Arc::clone(&world.root));
    let kms = builder.build().await.unwrap();
    let lost = Fault::FailBefore(Error::new(ErrorKind::OutcomeUnknown));
    repository.inject(RepositoryMethod::Apply, When::Next, lost);
    let gate = Gate::new();
    let pause = Fault::PauseBefore(gate.clone());
    repository.inject(RepositoryMethod::Resolve, When::Next, pause);
    (kms, gate)
}

#[tokio::test]
async fn a_deletion_without_an_answer_is_not_reported_as_done_while_the_keys_have_another_id() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let version = DataKeyVersionId::parse(blobs[0].key_id()).unwrap().into();
    let mut id = id;
    for number in 0..2 {
        let (kms, gate) = unanswered(&world).await;
        let deleting = async {
            match number {
                0 => kms.dangerous().delete_keys(&id).await,
                _ => kms.dangerous().revoke_key_version(&version).await,
            }
        };
        let to = scope(&format!("o_new_{number}"));
        let renaming = async {
            gate.reached().await;
            world.kms.rename_scope(&id, &to).await.unwrap();
            gate.open();
        };
        let (deleted, ()) = tokio::join!(deleting, renaming);
        assert_eq!(deleted.unwrap_err().kind(), ErrorKind::OutcomeUnknown);
        id = to;
    }
    for blob in &blobs {
        let plaintext = world.kms.decrypt(&id, &crate::OIDC, blob, b"").await;
        assert_eq!(plaintext.unwrap().expose(), b"o_1");
    }
}

#[tokio::test]
async fn keys_that_were_renamed_after_their_export_are_not_taken_for_deleted() {
    let world = World::new().await;
    let (id, blobs) = tenant(&world, "o_1").await;
    let target = Target::of(&world).await;
    let exported = world.kms.export_scope(&id).await.unwrap();
    target.kms.import_scope(&exported).await.unwrap();
    let verified = target.kms.verify_import(&exported).await.unwrap();
    world.kms.rename_scope(&id, &scope("o_new")).await.unwrap();
    let error = world.kms.delete_exported(&verified).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ImportMismatch);
    assert_eq!(error.context("renamed_to"), Some("o_new"));
    assert_opens(&target.kms, &id, &blobs).await;
}
