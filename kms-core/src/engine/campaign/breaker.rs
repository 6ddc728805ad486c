//! Giving up when the root wrapper fails for one scope after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Plan;
use crate::error::{Error, ErrorKind};

/// So many failures in a row are borne at the least, and so many for each scope that is planned at once: what is
/// under way when a connection breaks fails together.
const AT_LEAST: usize = 10;
const PER_SCOPE_AT_ONCE: usize = 2;

/// Counts the failures of the root wrapper since it last did something.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    failures: usize,
    last: Option<Error>,
    /// Whether any scope was planned by this run.
    worked: bool,
}

impl Breaker {
    pub(super) fn of(concurrency: usize) -> Self {
        Self {
            limit: AT_LEAST.max(concurrency.saturating_mul(PER_SCOPE_AT_ONCE)),
            state: Mutex::default(),
        }
    }

    pub(super) fn note(&self, plan: &Plan) {
        let mut state = self.state();
        match plan {
            Ok(Some(_)) => {
                *state = State {
                    worked: true,
                    ..State::default()
                }
            }
            // Nothing was asked of the root wrapper.
            Ok(None) => {}
            Err(error) if is_of_the_service(error.kind()) => {
                state.failures += 1;
                state.last = Some(error.clone());
            }
            // The scope's own: the root wrapper may have answered or not.
            Err(_) => {}
        }
    }

    /// Why no more scopes are to be planned, if so.
    pub(super) fn error(&self) -> Option<Error> {
        let state = self.state();
        if state.failures < self.limit {
            return None;
        }
        let error = Error::new(ErrorKind::CampaignSuspended)
            .with_detail(format!("{} failures in a row", state.failures));
        Some(match &state.last {
            Some(last) => error.with_source(last.clone()),
            None => error,
        })
    }

    /// Whether the root wrapper did something for this run.
    pub(super) fn worked(&self) -> bool {
        self.state().worked
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a failure says something about the service as a whole, not about one scope's keys.
fn is_of_the_service(kind: ErrorKind) -> bool {
    matches!(
        kind,
        ErrorKind::Unreachable
            | ErrorKind::TimedOut
            | ErrorKind::Throttled
            | ErrorKind::Denied
            | ErrorKind::UnknownRootKey
            | ErrorKind::RootKeyDisabled
            | ErrorKind::UnsuitableRootKey
            | ErrorKind::CertificateExpired
            | ErrorKind::ServiceSealed
            | ErrorKind::ServiceStandby
            | ErrorKind::DamagedResponse
    )
}
