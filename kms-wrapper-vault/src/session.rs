//! Calls with a token: which one, what to do when it is refused.

use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use kms_core::service::damaged;
use kms_core::{CallLimits, Error, ErrorKind, Result};
use rustify::endpoint::Endpoint;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use vaultrs::api::AuthInfo;

use crate::auth::{Auth, Method};
use crate::credential::Hidden;
use crate::failure::ServiceError;
use crate::key_path::KeyPath;
use crate::request::{self, Capabilities, Known, Request};
pub(crate) use crate::session::refusal::Operation;
use crate::session::refusal::Refused;
use crate::session::token::{Lease, Token};
use crate::session::turn::Turn;
use crate::transport::{Answer, Transport};

mod refusal;
mod renewal;
mod token;
mod turn;

/// A wrapper's standing with the service.
///
/// One token is in use at a time. Getting and renewing it is done by one caller, while the others wait for the
/// outcome: any number of tasks that find their token revoked log in once.
#[derive(Debug)]
pub(crate) struct Session {
    transport: Transport,
    auth: Auth,
    limits: CallLimits,
    renews: bool,
    current: RwLock<Option<Arc<Token>>>,
    /// Held while a token is fetched or renewed.
    turn: Turn,
    /// How fetching failed last.
    failure: Mutex<Option<Failure>>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Failure {
    at: Instant,
    error: Error,
}

/// What is known about a token that was refused.
enum Standing {
    /// It lives, and this is what it may do.
    Alive(Capabilities),
    /// The service does not know it (any more).
    Dead,
    /// The service doesn't tell.
    Unclear,
}

impl Session {
    pub(crate) fn new(transport: Transport, auth: Auth, limits: CallLimits, renews: bool) -> Self {
        Self {
            transport,
            auth,
            limits,
            renews,
            current: RwLock::new(None),
            turn: Turn::new(limits.attempt_timeout()),
            failure: Mutex::new(None),
            keeper: Mutex::new(None),
        }
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn limits(&self) -> &CallLimits {
        &self.limits
    }

    /// One attempt of an operation with the key, which needs the capability `update` on its path.
    ///
    /// A token that the service no longer takes is replaced, and the call repeated, once.
    pub(crate) async fn call<E: Endpoint + Known>(
        self: &Arc<Self>,
        request: &Request<E>,
        key: &KeyPath,
        operation: Operation,
    ) -> Result<E::Response> {
        let path = &key.of(operation.name());
        let mut token = self.token().await?;
        let mut replaced = false;
        loop {
            let refusal = match self.transport.send(request, token.sent()).await? {
                Ok(answer) => {
                    token.worked();
                    return answer.data.ok_or_else(|| damaged("it has no data"));
                }
                Err(message) if matches!(message.status(), 401 | 403) => message,
                Err(message) => return Err(message.into_error()),
            };
            match self.standing(&token, &refusal, path).await? {
                Standing::Alive(capabilities) => {
                    let refused = Refused {
                        refusal,
                        capabilities,
                    };
                    return Err(self.explain(refused, &token, key, operation).await);
                }
                Standing::Unclear if !self.may_replace(&token) => return Err(refusal.into_error()),
                Standing::Dead | Standing::Unclear if replaced => return Err(refusal.into_error()),
                Standing::Dead | Standing::Unclear => {
                    token = self.replace(&token, refusal).await?;
                    replaced = true;
                }
            }
        }
    }

    /// What the current token may do on these paths; `None` if it may not even ask.
    pub(crate) async fn capabilities(
        self: &Arc<Self>,
        paths: &[String],
    ) -> Result<Option<Capabilities>> {
        let token = self.token().await?;
        let asked = request::capabilities(paths);
        let answer = self.transport.send(&asked, token.sent()).await?;
        Ok(answer.ok().and_then(|answer| answer.data))
    }

    /// Nothing in the background any more.
    pub(crate) fn close(&self) {
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keeper) = keeper.take() {
            keeper.abort();
        }
    }

    /// A token to use, renewed or fetched where that is due.
    async fn token(self: &Arc<Self>) -> Result<Arc<Token>> {
        let token = match self.current() {
            // What is known about the end of a token that can't be had anew is no reason not to try it.
            Some(token) if token.is_over() && self.auth.logs_in() => {
                self.fetch(Some(&token)).await?
            }
            Some(token) => self.refreshed(token).await,
            None => self.fetch(None).await?,
        };
        self.see_to_keeper();
        Ok(token)
    }

    /// Whether another token is to be had for one that was refused for a reason unknown. Reading a file again
    /// costs nothing; a login does.
    fn may_replace(&self, token: &Token) -> bool {
        match self.auth.method() {
            Method::Agent => false,
            _ => self.auth.is_kept_by_others() || token.may_have_died(),
        }
    }

    /// A token in place of one that the service refused.
    async fn replace(&self, dead: &Arc<Token>, refusal: ServiceError) -> Result<Arc<Token>> {
        let fresh = match self.auth.method() {
            Method::Agent => {
                return Err(Error::new(ErrorKind::Denied)
                    .with_detail("the agent adds no token that the service takes; see to its login")
                    .with_source(refusal));
            }
            Method::Token(_) if !self.auth.is_kept_by_others() => None,
            _ => Some(self.fetch(Some(dead)).await?),
        };
        match fresh {
            Some(fresh) if fresh.text() != dead.text() => Ok(fresh),
            _ => Err(Error::new(ErrorKind::Denied)
                .with_detail("the token has expired, was revoked, or is not one of this service; a new one is needed")
                .with_source(refusal)),
        }
    }

    /// Another token than `old`: one that somebody else has just fetched, or one fetched now.
    async fn fetch(&self, old: Option<&Arc<Token>>) -> Result<Arc<Token>> {
        let asked = Instant::now();
        let _held = self.turn.wait().await;
        let current = self.current();
        if let Some(current) = &current
            && old.is_none_or(|old| old.text() != current.text())
        {
            return Ok(Arc::clone(current));
        }
        if let Some(failure) = &*self.failure.lock().unwrap_or_else(PoisonError::into_inner)
            && failure.at >= asked
        {
            return Err(failure.error.clone());
        }
        match self.fetch_now().await {
            Ok(token) => Ok(self.exchange(current.as_ref(), token)),
            Err(error) => {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(Failure {
                    at: Instant::now(),
                    error: error.clone(),
                });
                Err(error)
            }
        }
    }

    async fn fetch_now(&self) -> Result<Token> {
        let mount = self.auth.login_mount();
        let answer = match self.auth.method() {
            Method::Token(token) => {
                let lease = if self.auth.is_kept_by_others() {
                    Lease::Endless
                } else {
                    Lease::Unknown
                };
                return Ok(Token::new(token.read("token").await?, lease));
            }
            Method::Agent => return Ok(Token::none()),
            Method::AppRole { role_id, secret_id } => {
                let secret_id = match secret_id {
                    Some(secret_id) => Some(secret_id.read("secret_id").await?),
                    None => None,
                };
                let login = request::app_role_login(mount, role_id, secret_id.as_ref());
                self.transport.send(&login, None).await
            }
            Method::Jwt { role, jwt, .. } => {
                let jwt = jwt.read("jwt").await?;
                let login = request::jwt_login(mount, role, &jwt);
                self.transport.send(&login, None).await
            }
            Method::Certificate { role } => {
                let login = request::certificate_login(mount, role.as_deref());
                self.transport.send(&login, None).await
            }
            #[cfg(feature = "aws")]
            Method::Aws(login) => {
                let signed = login.sign().await?;
                let login = request::aws_login(mount, &login.role, &signed);
                self.transport.send(&login, None).await
            }
        };
        let token = answer.and_then(|answer| match answer {
            Ok(answer) => logged_in(answer.auth),
            Err(message) => Err(message.into_login_error()),
        });
        token.map_err(|error| error.with_context("login", format!("auth/{mount}/login")))
    }

    async fn standing(
        &self,
        token: &Token,
        refusal: &ServiceError,
        path: &str,
    ) -> Result<Standing> {
        if refusal.is_about_the_token() {
            return Ok(Standing::Dead);
        }
        let asked = request::capabilities(&[path.to_owned()]);
        let answer: Answer<Capabilities> = self.transport.send(&asked, token.sent()).await?;
        Ok(match answer {
            Ok(answer) => answer.data.map_or(Standing::Unclear, Standing::Alive),
            Err(message) if message.is_about_the_token() => Standing::Dead,
            Err(_) => Standing::Unclear,
        })
    }

    fn current(&self) -> Option<Arc<Token>> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Uses `new` from now on, if `old` is what was used until now; else somebody was faster, and theirs stays.
    fn exchange(&self, old: Option<&Arc<Token>>, new: Token) -> Arc<Token> {
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        match &*current {
            Some(other) if old.is_none_or(|old| !Arc::ptr_eq(old, other)) => Arc::clone(other),
            _ => {
                let new = Arc::new(new);
                *current = Some(Arc::clone(&new));
                new
            }
        }
    }
}

fn logged_in(auth: Option<AuthInfo>) -> Result<Token> {
    let auth = auth.ok_or_else(|| damaged("a login without a token"))?;
    let text = Hidden::new(auth.client_token);
    if !text.is_sound() {
        return Err(damaged("a login without a token"));
    }
    let lease = Lease::granted(auth.lease_duration, auth.renewable);
    Ok(Token::new(text, lease))
}

/// How long to wait before a renewal that failed is tried again.
fn pause_after_failure(left: Duration) -> Duration {
    (left / 4).clamp(Duration::from_secs(1), Duration::from_secs(30))
}
