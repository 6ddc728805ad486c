//! The HTTP server: what is right, and what goes wrong on purpose.

use std::collections::HashMap;
use std::future::pending;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{ConnectInfo, Query, State};
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use futures_util::{StreamExt as _, stream};
use kms_core::KeyBytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::api::Call;
use super::calls::Calls;
use super::ciphertext::flip_a_bit;
use super::connection::{Connections, Reset};
use super::control;
use super::fault::{Faults, Kind, Trouble};
use super::keys::Keys;
use super::refusal::{Answer, Refusal};
use super::values::{base64, crc32c, number_enums};

/// What outlives a stop.
#[derive(Default)]
pub(super) struct Service(Mutex<ServiceState>);

#[derive(Default)]
pub(super) struct ServiceState {
    pub(super) keys: Keys,
    pub(super) faults: Faults,
    pub(super) calls: Calls,
    pub(super) token: Option<String>,
}

impl Service {
    pub(super) fn lock(&self) -> MutexGuard<'_, ServiceState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that listens, with the thread it runs on.
pub(super) struct Running {
    address: SocketAddr,
    /// Dropping it stops the server.
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Running {
    /// Starts a server on a thread and a runtime of its own, and waits until it listens.
    pub(super) async fn start(address: SocketAddr, service: Arc<Service>) -> Self {
        let (stop, stopping) = oneshot::channel::<()>();
        let (stopped_sender, stopped) = oneshot::channel();
        let (listening_sender, listening) = oneshot::channel();
        thread::Builder::new()
            .name("fake-cloud-kms".to_owned())
            .spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .expect("the system lets a test start a runtime");
                runtime.block_on(async {
                    let listener = TcpListener::bind(address).await;
                    let bound = listener.as_ref().map(TcpListener::local_addr);
                    let _ = listening_sender.send(match bound {
                        Ok(bound) => bound,
                        Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
                    });
                    if let Ok(listener) = listener {
                        tokio::select! {
                            _ = stopping => {}
                            _ = serve(listener, service) => {}
                        }
                    }
                });
                // Cuts the connections too: their tasks end with the runtime.
                drop(runtime);
                let _ = stopped_sender.send(());
            })
            .expect("the system lets a test start a thread");
        let address = listening
            .await
            .expect("the server's thread tells whether it listens")
            .unwrap_or_else(|error| {
                panic!("the fake Cloud KMS can't listen at {address}: {error}")
            });
        Self {
            address,
            stop,
            stopped,
        }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Stops it, and waits until its port is free.
    pub(super) async fn stop(self) {
        drop(self.stop);
        let _ = self.stopped.await;
    }
}

async fn serve(listener: TcpListener, service: Arc<Service>) -> io::Result<()> {
    let router = Router::new().fallback(handle).with_state(service);
    let service = router.into_make_service_with_connect_info::<Reset>();
    axum::serve(Connections(listener), service).await
}

async fn handle(
    State(service): State<Arc<Service>>,
    ConnectInfo(reset): ConnectInfo<Reset>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    if let Some(path) = uri.path().strip_prefix("/_fake/") {
        return respond(control::answer(&service, &method, path, &body));
    }
    let Some(path) = uri.path().strip_prefix("/v1/") else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let encoding = query.get("$alt").cloned().unwrap_or_default();
    let call = match Call::read(&method, path, query, &body) {
        Ok(call) => call,
        Err(refusal) => return respond(Err(refusal)),
    };
    let trouble = {
        let mut state = service.lock();
        state.calls.count(call.method);
        let bearer = state.token.as_ref().map(|token| format!("Bearer {token}"));
        if let Some(bearer) = bearer
            && headers
                .get(AUTHORIZATION)
                .is_none_or(|value| *value != bearer)
        {
            return respond(Err(Refusal::unauthenticated()));
        }
        state.faults.take(call.method)
    };
    let mut answer = match trouble {
        None => call.answer(&mut service.lock().keys),
        Some(trouble) => match disturbed(&service, &call, trouble, &reset).await {
            Disturbed::Answer(answer) => answer,
            Disturbed::Response(response) => return response,
        },
    };
    if let Ok(value) = &mut answer
        && encoding.contains("enum-encoding=int")
    {
        number_enums(value);
    }
    respond(answer)
}

enum Disturbed {
    Answer(Answer),
    Response(Response),
}

async fn disturbed(service: &Service, call: &Call, trouble: Trouble, reset: &Reset) -> Disturbed {
    let answer = || call.answer(&mut service.lock().keys);
    Disturbed::Answer(match trouble.kind {
        Kind::Latency => {
            tokio::time::sleep(trouble.latency).await;
            answer()
        }
        Kind::Hang => pending().await,
        Kind::Reset => {
            reset.trigger();
            pending().await
        }
        Kind::ResourceExhausted => Err(Refusal::resource_exhausted()),
        Kind::Unavailable => Err(Refusal::unavailable()),
        Kind::Denied => Err(Refusal::denied_for(&trouble.reason)),
        Kind::FlippedBit => answer().map(|mut answer| {
            flip_a_bit(&mut answer);
            answer
        }),
        Kind::AnotherKey => {
            let another = service.lock().keys.another_than(call.key().unwrap_or(""));
            answer().map(|answer| about_another_key(answer, &another))
        }
        Kind::ChecksumIgnored => answer().map(|mut answer| {
            if let Some(fields) = answer.as_object_mut() {
                fields.retain(|name, _| !name.starts_with("verified"));
            }
            answer
        }),
        Kind::CutShort => return Disturbed::Response(cut_short(&answer())),
        Kind::NotJson => {
            let page = "<html><title>Log in to the network</title></html>";
            return Disturbed::Response(([(CONTENT_TYPE, "text/html")], page).into_response());
        }
    })
}

fn about_another_key(mut answer: Value, another: &str) -> Value {
    if answer.get("ciphertext").is_some() {
        answer["name"] = json!(another);
    } else {
        let plaintext = KeyBytes::generate().unwrap();
        answer["plaintext"] = json!(base64(plaintext.expose()));
        answer["plaintextCrc32c"] = json!(crc32c(plaintext.expose()).to_string());
    }
    answer
}

/// A response whose body ends in the middle, by an error that cuts the connection.
fn cut_short(answer: &Answer) -> Response {
    let body = match answer {
        Ok(value) => value.to_string(),
        Err(refusal) => refusal.body().to_string(),
    };
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let chunks = stream::once(async { Ok(half) }).chain(stream::once(async {
        // The first half is sent while the second is waited for.
        tokio::task::yield_now().await;
        Err(io::Error::other("cut on purpose"))
    }));
    Response::builder()
        .header(CONTENT_TYPE, "application/json; charset=UTF-8")
        .header(CONTENT_LENGTH, body.len())
        .body(Body::from_stream(chunks))
        .unwrap()
}

fn respond(answer: Answer) -> Response {
    let (code, body) = match answer {
        Ok(value) => (StatusCode::OK, value),
        Err(refusal) => (refusal.code(), refusal.body()),
    };
    let content_type = [(CONTENT_TYPE, "application/json; charset=UTF-8")];
    (code, content_type, body.to_string()).into_response()
}
