//! What is still to happen, and what has been counted.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use crate::proxy::NetworkFault;

pub(super) struct Script {
    plans: Mutex<VecDeque<Plan>>,
    requests: watch::Sender<u64>,
    forwarded: watch::Sender<u64>,
    connections: watch::Sender<u64>,
}

struct Plan {
    /// Requests that it is still for; `None` for all.
    left: Option<u64>,
    fault: NetworkFault,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            plans: Mutex::default(),
            requests: watch::Sender::new(0),
            forwarded: watch::Sender::new(0),
            connections: watch::Sender::new(0),
        }
    }
}

impl Script {
    pub(super) fn inject(&self, left: Option<u64>, fault: NetworkFault) {
        if left != Some(0) {
            self.plans().push_back(Plan { left, fault });
        }
    }

    pub(super) fn clear(&self) {
        self.plans().clear();
    }

    /// Counts a request, and says what is to happen to it.
    pub(super) fn arrived(&self) -> Option<NetworkFault> {
        let mut plans = self.plans();
        // Counted with the plans locked, so that a test that saw the count can't change this request's fate.
        self.requests.send_modify(|count| *count += 1);
        let plan = plans.front_mut()?;
        let fault = plan.fault.clone();
        if let Some(left) = &mut plan.left {
            *left -= 1;
            if *left == 0 {
                plans.pop_front();
            }
        }
        Some(fault)
    }

    pub(super) fn count_forwarded(&self) {
        self.forwarded.send_modify(|count| *count += 1);
    }

    pub(super) fn count_connection(&self) {
        self.connections.send_modify(|count| *count += 1);
    }

    pub(super) fn requests(&self) -> u64 {
        *self.requests.borrow()
    }

    pub(super) fn forwarded(&self) -> u64 {
        *self.forwarded.borrow()
    }

    pub(super) fn connections(&self) -> u64 {
        *self.connections.borrow()
    }

    pub(super) async fn requests_reach(&self, requests: u64) {
        let mut count = self.requests.subscribe();
        // The sender is borrowed from this very script.
        let _ = count.wait_for(|count| *count >= requests).await;
    }

    fn plans(&self) -> MutexGuard<'_, VecDeque<Plan>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
