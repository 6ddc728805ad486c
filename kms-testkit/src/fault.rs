//! Faults, and when they happen.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kms_core::{Error, Result};

use crate::gate::Gate;

/// What goes wrong with a call.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// It fails, and took no effect.
    FailBefore(Error),
    /// It took effect, and then the answer is this error: lost, say
    /// ([`ErrorKind::OutcomeUnknown`](kms_core::ErrorKind::OutcomeUnknown)).
    FailAfter(Error),
    /// Of [`Repository::apply`](kms_core::Repository::apply): nothing is applied, and the outcome of each
    /// change set is this error. Of any other call the same as [`FailBefore`](Self::FailBefore).
    Refuse(Error),
    /// It waits at the gate before it does anything.
    PauseBefore(Gate),
    /// It did all it does, and waits at the gate with its answer.
    PauseAfter(Gate),
    /// It takes this much longer, by tokio's clock.
    Delay(Duration),
}

/// Which calls a fault happens to, counted from when it was injected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next call of the method.
    Next,
    /// The call of the method with this number; 1 is the next.
    Nth(u64),
    /// Every call of the method, until the faults are cleared.
    Always,
}

/// The faults that are still to happen to calls of methods `M`.
#[derive(Debug)]
pub(crate) struct Script<M> {
    plans: Mutex<Vec<Plan<M>>>,
}

#[derive(Debug)]
struct Plan<M> {
    method: M,
    /// Calls of the method until the fault, this one included; `None` for always.
    left: Option<u64>,
    fault: Fault,
}

impl<M: Copy + PartialEq> Script<M> {
    pub(crate) fn new() -> Self {
        Self {
            plans: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn inject(&self, method: M, when: When, fault: Fault) {
        let left = match when {
            When::Next => Some(1),
            When::Nth(number) => {
                assert!(number > 0, "calls are counted from 1");
                Some(number)
            }
            When::Always => None,
        };
        self.plans().push(Plan {
            method,
            left,
            fault,
        });
    }

    pub(crate) fn clear(&self) {
        self.plans().clear();
    }

    pub(crate) fn pending(&self) -> usize {
        self.plans().len()
    }

    /// Makes the call, with what the script holds for it.
    pub(crate) async fn run<T>(
        &self,
        method: M,
        call: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        self.run_or_refuse(method, call, Err).await
    }

    /// The same for a call that has a way of its own to refuse.
    pub(crate) async fn run_or_refuse<T>(
        &self,
        method: M,
        call: impl Future<Output = Result<T>>,
        refuse: impl FnOnce(Error) -> Result<T>,
    ) -> Result<T> {
        let faults = self.due(method);
        for fault in &faults {
            match fault {
                Fault::FailBefore(error) => return Err(error.clone()),
                Fault::Refuse(error) => return refuse(error.clone()),
                Fault::PauseBefore(gate) => gate.pass().await,
                Fault::Delay(by) => tokio::time::sleep(*by).await,
                Fault::FailAfter(_) | Fault::PauseAfter(_) => {}
            }
        }
        let answer = call.await;
        for fault in &faults {
            match fault {
                // What failed by itself took no effect, and its answer is not lost.
                Fault::FailAfter(error) if answer.is_ok() => return Err(error.clone()),
                Fault::PauseAfter(gate) => gate.pass().await,
                _ => {}
            }
        }
        answer
    }

    /// Counts a call, and takes out what is due for it.
    fn due(&self, method: M) -> Vec<Fault> {
        let mut due = Vec::new();
        self.plans().retain_mut(|plan| {
            if plan.method != method {
                return true;
            }
            let Some(left) = &mut plan.left else {
                due.push(plan.fault.clone());
                return true;
            };
            *left -= 1;
            let keep = *left > 0;
            if !keep {
                due.push(plan.fault.clone());
            }
            keep
        });
        due
    }

    fn plans(&self) -> MutexGuard<'_, Vec<Plan<M>>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
