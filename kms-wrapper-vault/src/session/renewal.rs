//! Renewing a token before its end.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use kms_core::service::damaged;
use kms_core::{ErrorKind, Result};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use crate::failure::ServiceError;
use crate::request;
use crate::session::token::{Lease, Limited, Token};
use crate::session::{Session, pause_after_failure};

impl Session {
    /// The token, renewed first if that is overdue: the keeper lives in one runtime, and that may be gone, or
    /// standing still between two `block_on`.
    pub(super) async fn refreshed(&self, token: Arc<Token>) -> Arc<Token> {
        let overdue = token.is_overdue(self.limits.attempt_timeout());
        if !overdue || self.next_due(&token).is_none() {
            return token;
        }
        // Whoever renews it already needs no company, and the token is still good if this fails.
        let Some(_held) = self.turn.now() else {
            return token;
        };
        self.close();
        let _ = self.refresh_now().await;
        self.current().unwrap_or(token)
    }

    /// Sees to it that something keeps the token, where it needs that.
    pub(super) fn see_to_keeper(self: &Arc<Self>) {
        if self
            .current()
            .is_none_or(|token| self.next_due(&token).is_none())
        {
            return;
        }
        let mut keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner);
        if keeper.as_ref().is_none_or(JoinHandle::is_finished)
            && let Ok(runtime) = Handle::try_current()
        {
            *keeper = Some(runtime.spawn(keep(Arc::downgrade(self))));
        }
    }

    /// When to do something about this token; `None` for never.
    fn next_due(&self, token: &Token) -> Option<Instant> {
        match token.lease() {
            _ if !self.renews => None,
            Lease::Endless => None,
            Lease::Unknown => Some(Instant::now()),
            Lease::Limited(lease) => {
                (lease.is_renewable() || self.auth.logs_in()).then(|| lease.due_at())
            }
        }
    }

    async fn refresh(&self) -> Result<()> {
        let _held = self.turn.wait().await;
        self.refresh_now().await
    }

    /// Looks up the current token, and renews or replaces it, where that is due. The turn is the caller's.
    async fn refresh_now(&self) -> Result<()> {
        while let Some(token) = self.current() {
            let next = match token.lease() {
                Lease::Unknown => token.with_lease(self.look_up(&token).await?),
                Lease::Limited(lease) if lease.is_due() => {
                    if lease.is_renewable() {
                        self.renewed_or_replaced(&token, lease).await?
                    } else if self.auth.logs_in() {
                        self.fetch_now().await?
                    } else {
                        return Ok(());
                    }
                }
                Lease::Endless | Lease::Limited(_) => return Ok(()),
            };
            self.exchange(Some(&token), next);
        }
        Ok(())
    }

    async fn renewed_or_replaced(&self, token: &Token, lease: &Limited) -> Result<Token> {
        let renewed = self.renew(token, lease).await;
        if !self.auth.logs_in() {
            let lease = match renewed {
                Ok(lease) if lease.is_at_its_end() => {
                    tracing::warn!(
                        seconds = lease.left().as_secs(),
                        "the Vault token can't be renewed past its maximum; give a new one before"
                    );
                    lease.not_renewable()
                }
                Ok(lease) => lease,
                Err(error) if error.kind() == ErrorKind::Denied => {
                    tracing::warn!(%error, "the Vault token may not be renewed");
                    lease.not_renewable()
                }
                Err(error) => return Err(error),
            };
            return Ok(token.with_lease(Lease::Limited(lease)));
        }
        match renewed {
            Ok(lease) if !lease.is_at_its_end() => Ok(token.with_lease(Lease::Limited(lease))),
            // A login that fails now may work later, and until then the old token does.
            Ok(lease) => Ok(self
                .fetch_now()
                .await
                .unwrap_or_else(|_| token.with_lease(Lease::Limited(lease)))),
            Err(_) => self.fetch_now().await,
        }
    }

    async fn look_up(&self, token: &Token) -> Result<Lease> {
        let asked = request::lookup_self();
        match self.transport.send(&asked, token.sent()).await? {
            Ok(answer) => {
                let found = answer.data.ok_or_else(|| damaged("it has no data"))?;
                let renewable = found.renewable.unwrap_or(false);
                Ok(Lease::found(found.ttl, found.creation_ttl, renewable))
            }
            Err(message) if matches!(message.status(), 401 | 403) => {
                tracing::warn!(
                    "the Vault token may not look itself up (the policy `default` allows it), so it is not renewed"
                );
                Ok(Lease::Endless)
            }
            Err(message) => Err(message.into_error()),
        }
    }

    async fn renew(&self, token: &Token, lease: &Limited) -> Result<Limited> {
        let asked = request::renew_self();
        let answer = self.transport.send(&asked, token.sent()).await?;
        let auth = answer
            .map_err(ServiceError::into_error)?
            .auth
            .ok_or_else(|| damaged("a renewal without a lease"))?;
        Ok(lease.renewed(auth.lease_duration, auth.renewable))
    }

    /// How long to wait after a renewal failed; `None` when there is nothing left to renew.
    fn patience(&self) -> Option<Duration> {
        match self.current()?.lease() {
            Lease::Endless => None,
            Lease::Unknown => Some(Duration::from_secs(10)),
            Lease::Limited(lease) if lease.left().is_zero() => None,
            Lease::Limited(lease) => Some(pause_after_failure(lease.left())),
        }
    }
}

/// Renews the token whenever that is due, until there is nothing more to renew or the wrapper is gone.
///
/// It holds the session only while it works, so that it does not keep a dropped wrapper alive.
async fn keep(session: Weak<Session>) {
    loop {
        let due = session.upgrade().and_then(|session| {
            let token = session.current()?;
            session.next_due(&token)
        });
        let Some(due) = due else { return };
        sleep_until(due).await;
        let Some(session) = session.upgrade() else {
            return;
        };
        let outcome = session.limits.run(|| session.refresh()).await;
        let Err(error) = outcome else { continue };
        tracing::warn!(%error, "the Vault token could not be renewed yet");
        let Some(pause) = session.patience() else {
            return;
        };
        drop(session);
        sleep(pause).await;
    }
}
