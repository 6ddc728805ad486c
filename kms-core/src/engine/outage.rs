//! Remembering that the database can't be asked, so that not every call finds it out for itself.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::cache::Moment;
use crate::error::{Error, ErrorKind};
use crate::sync::{AtomicBool, Mutex, MutexGuard};

/// The pause after the first failure, doubled after each further one, up to the other: a database that is back is
/// noticed within a second.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_millis(900);

/// What is known of an outage. While it lasts nobody asks the database, but one caller after each pause.
#[derive(Debug, Default)]
pub(crate) struct Outage {
    /// Whether there is one: all that a call needs to look at on a quiet day.
    known: AtomicBool,
    /// Nothing foreign runs under this lock, but for an error's source that is dropped: what was replaced is dropped
    /// when it is free.
    down: Mutex<Option<Down>>,
}

#[derive(Debug)]
struct Down {
    error: Error,
    pause: Duration,
    /// Until when nobody asks.
    until: Moment,
}

impl Outage {
    /// Whether the failure says that the database can't be asked, rather than that it answered.
    pub(crate) fn is_one(error: &Error) -> bool {
        matches!(
            error.kind(),
            ErrorKind::DatabaseUnreachable | ErrorKind::DatabaseLogin | ErrorKind::DatabaseBusy
        )
    }

    fn is_known(&self) -> bool {
        self.known.load(Ordering::Acquire)
    }

    /// Its last failure, if there is one.
    pub(crate) fn error(&self) -> Option<Error> {
        if !self.is_known() {
            return None;
        }
        self.down().as_ref().map(|down| down.error.clone())
    }

    /// Whether this caller is the one that may ask now. Nobody else may until it has learned more, or until so much
    /// time has passed.
    pub(crate) fn may_ask(&self, now: Moment, patience: Duration) -> bool {
        if !self.is_known() {
            return true;
        }
        match &mut *self.down() {
            None => true,
            Some(down) if now >= down.until => {
                down.until = now.saturating_add(patience);
                true
            }
            Some(_) => false,
        }
    }

    /// A query failed in this way, or has not been answered for long.
    pub(crate) fn failed(&self, error: Error, now: Moment) {
        let mut down = self.down();
        let pause = down
            .as_ref()
            .map_or(FIRST_PAUSE, |down| (down.pause * 2).min(LONGEST_PAUSE));
        let replaced = down.replace(Down {
            error,
            pause,
            until: now.saturating_add(pause),
        });
        self.known.store(true, Ordering::Release);
        drop(down);
        if let Some(before) = &replaced {
            tracing::debug!(pause = ?before.pause, "the database still can't be asked");
        } else {
            tracing::warn!("the database can't be asked");
        }
    }

    /// The database answered.
    pub(crate) fn is_over(&self) {
        if self.is_known() {
            let mut down = self.down();
            let ended = down.take();
            self.known.store(false, Ordering::Release);
            drop(down);
            if ended.is_some() {
                tracing::info!("the database answers again");
            }
        }
    }

    fn down(&self) -> MutexGuard<'_, Option<Down>> {
        self.down.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_after_each_pause_asks_and_nobody_else() {
        let outage = Outage::default();
        let second = Duration::from_secs(1);
        assert!(outage.may_ask(Moment::ZERO, second));
        outage.failed(ErrorKind::DatabaseUnreachable.into(), Moment::ZERO);
        assert!(outage.error().is_some());
        assert!(!outage.may_ask(FIRST_PAUSE / 2, second));

        assert!(outage.may_ask(FIRST_PAUSE, second));
        assert!(
            !outage.may_ask(FIRST_PAUSE, second),
            "somebody asks already"
        );
        assert!(outage.error().is_some());
        assert!(
            outage.may_ask(FIRST_PAUSE + second, second),
            "it came to nothing"
        );

        outage.is_over();
        assert!(outage.error().is_none());
        assert!(outage.may_ask(Moment::ZERO, second));
    }

    #[test]
    fn pauses_grow_but_stay_below_a_second() {
        let outage = Outage::default();
        let mut now = Moment::ZERO;
        let mut longest = Duration::ZERO;
        for _ in 0..10 {
            outage.failed(ErrorKind::DatabaseBusy.into(), now);
            let before = now;
            while !outage.may_ask(now, Duration::ZERO) {
                now += Duration::from_millis(1);
            }
            longest = longest.max(now - before);
        }
        assert!(longest > FIRST_PAUSE && longest < Duration::from_secs(1));
    }
}
