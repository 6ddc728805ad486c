//! What a client can ask for.

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use kms_kit::prelude::*;
use serde_json::{Value, json};

use crate::failure::Failure;
use crate::store::SecretRow;
use crate::{SECRETS, Service};

pub(crate) fn all(service: Service) -> Router {
    Router::new()
        .route("/tenants/{tenant}", put(found).delete(delete))
        .route("/tenants/{tenant}/rotate", post(rotate))
        .route("/tenants/{tenant}/secrets/{name}", get(read).put(write))
        .route("/health", get(health))
        .with_state(service)
}

/// A new tenant with its keys, in one transaction.
async fn found(
    State(service): State<Service>,
    Path(tenant): Path<String>,
) -> Result<StatusCode, Failure> {
    let scope = ScopeId::new(tenant)?;
    // The root of trust is asked here, before the transaction begins.
    let keys = service.kms.prepare_create_keys(&scope, &[SECRETS]).await?;
    let receipts = service.store.found(&scope, keys).await.map_err(taken)?;
    service.kms.accept(&receipts);
    Ok(StatusCode::CREATED)
}

/// A tenant that is there already shows in the application's table first.
fn taken(failure: Failure) -> Failure {
    use diesel::result::{DatabaseErrorKind::UniqueViolation, Error::DatabaseError};
    match failure {
        Failure::Database(DatabaseError(UniqueViolation, _)) => {
            kms_kit::Error::new(kms_kit::ErrorKind::AlreadyExists).into()
        }
        other => other,
    }
}

/// A tenant with everything of it. What it had encrypted is unreadable from then on.
async fn delete(
    State(service): State<Service>,
    Path(tenant): Path<String>,
) -> Result<StatusCode, Failure> {
    match service.store.delete(&ScopeId::new(tenant)?).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(Failure::NotFound("UnknownScope")),
    }
}

async fn rotate(
    State(service): State<Service>,
    Path(tenant): Path<String>,
) -> Result<StatusCode, Failure> {
    let scope = ScopeId::new(tenant)?;
    service.kms.rotate_keys(&scope, Rewrap::Yes).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn write(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
    secret: Bytes,
) -> Result<StatusCode, Failure> {
    let scope = ScopeId::new(tenant)?;
    let wrapper = service.kms.wrapper(&scope, &SECRETS).await?;
    // The name is bound: a secret copied to another name does not open.
    let blob = wrapper.encrypt(&secret, name.as_bytes())?;
    let row = SecretRow {
        tenant_id: scope.to_string(),
        name,
        blob: blob.encode(),
        key_version_id: wrapper.key_version_id().to_string(),
    };
    service.store.put(row).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn read(
    State(service): State<Service>,
    Path((tenant, name)): Path<(String, String)>,
) -> Result<Vec<u8>, Failure> {
    let scope = ScopeId::new(tenant)?;
    let aad = name.clone();
    let blob = service.store.get(&scope, name).await?;
    let blob = Blob::decode(&blob.ok_or(Failure::NotFound("UnknownSecret"))?)?;
    let secret = service
        .kms
        .decrypt(&scope, &SECRETS, &blob, aad.as_bytes())
        .await?;
    Ok(secret.expose().to_vec())
}

/// 200 if all is well, 503 if the database is not to be had. A root of trust that is not to be had is reported but
/// no reason to take the service away: tenants whose keys are cached are served.
async fn health(State(service): State<Service>) -> Response {
    let database = service.kms.validate_schema().await.map(drop);
    let root = service.health.root().await;
    let status = match &database {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    (
        status,
        Json(json!({ "database": said(&database), "root": said(&root) })),
    )
        .into_response()
}

fn said(outcome: &kms_kit::Result<()>) -> Value {
    match outcome {
        Ok(()) => json!("ok"),
        Err(error) => json!(error.kind().name()),
    }
}
