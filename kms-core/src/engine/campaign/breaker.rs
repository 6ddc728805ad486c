//! Giving up when a root fails for one scope after the other: the campaign if it is the engine's own, and only the
//! scopes under it if it is a named one.

use std::collections::HashMap;
use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Plan;
use crate::error::{Error, ErrorKind, Result};
use crate::root_name::RootName;

/// So many failures in a row are borne at the least, and so many for each scope that is planned at once: what is
/// under way when a connection breaks fails together.
const AT_LEAST: usize = 10;
const PER_SCOPE_AT_ONCE: usize = 2;

/// Counts the failures of each root since it last did something.
#[derive(Debug)]
pub(super) struct Breaker {
    limit: usize,
    /// Errors carry sources of the application's own. None is dropped under this lock.
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    own: Failures,
    /// Those that failed since they last did something.
    named: HashMap<RootName, Failures>,
    /// Whether any scope was planned by this run.
    worked: bool,
}

#[derive(Debug, Default)]
struct Failures {
    count: usize,
    last: Option<Error>,
}

impl Breaker {
    pub(super) fn of(concurrency: usize) -> Self {
        Self {
            limit: AT_LEAST.max(concurrency.saturating_mul(PER_SCOPE_AT_ONCE)),
            state: Mutex::default(),
        }
    }

    /// What planning a scope under this root gave.
    pub(super) fn note(&self, root: Option<&RootName>, plan: &Plan) {
        let mut state = self.state();
        let before = match plan {
            Ok(Some(_)) => {
                state.worked = true;
                match root {
                    None => mem::take(&mut state.own).last,
                    Some(name) => state.named.remove(name).and_then(|failures| failures.last),
                }
            }
            // Nothing was asked of the root.
            Ok(None) => None,
            Err(error) if is_of_the_service(error.kind()) => {
                let failures = match root {
                    None => &mut state.own,
                    Some(name) => state.named.entry(name.clone()).or_default(),
                };
                failures.count += 1;
                failures.last.replace(error.clone())
            }
            // The scope's own: the root may have answered or not.
            Err(_) => None,
        };
        drop(state);
        drop(before);
    }

    /// Why no more scopes are to be planned, if so.
    pub(super) fn error(&self) -> Option<Error> {
        let state = self.state();
        if state.own.count < self.limit {
            return None;
        }
        let error = Error::new(ErrorKind::CampaignSuspended)
            .with_detail(format!("{} failures in a row", state.own.count));
        Some(match &state.own.last {
            Some(last) => error.with_source(last.clone()),
            None => error,
        })
    }

    /// Fails for a scope under a named root that is to be asked no more.
    pub(super) fn admit(&self, root: Option<&RootName>) -> Result<()> {
        let state = self.state();
        let Some((name, failures)) = root.and_then(|name| state.named.get_key_value(name)) else {
            return Ok(());
        };
        match &failures.last {
            Some(last) if failures.count >= self.limit => Err(Error::new(last.kind())
                .with_detail(format!(
                    "not asked, after {} failures of this root in a row",
                    failures.count
                ))
                .with_context("root", name)
                .with_source(last.clone())),
            _ => Ok(()),
        }
    }

    /// Scopes that failed are to be tried again: so are the named roots that are asked no more.
    pub(super) fn forgive_named(&self) {
        let forgiven = mem::take(&mut self.state().named);
        drop(forgiven);
    }

    /// Whether any root did something for this run.
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
            | ErrorKind::UnknownRootName
            | ErrorKind::RootNotResolved
    )
}
