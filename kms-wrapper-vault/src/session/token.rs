//! A token, and how long it lasts.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::credential::Hidden;

/// A token refused before it ever worked is replaced no sooner: a login for each refused call would fill the
/// service with tokens.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Token {
    text: Hidden,
    obtained: Instant,
    lease: Lease,
    worked: AtomicBool,
}

/// How long a token lasts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Lease {
    /// Nobody asked the service yet.
    Unknown,
    /// For ever, or as long as somebody else sees to it.
    Endless,
    Limited(Limited),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited {
    from: Instant,
    length: Duration,
    /// The longest that the service ever granted this token.
    longest: Duration,
    renewable: bool,
    due: Duration,
}

impl Token {
    pub(crate) fn new(text: Hidden, lease: Lease) -> Self {
        Self {
            text,
            obtained: Instant::now(),
            lease,
            worked: AtomicBool::new(false),
        }
    }

    /// No token of ours.
    pub(crate) fn none() -> Self {
        Self::new(Hidden::new(""), Lease::Endless)
    }

    /// The same token, with what is known now about its end.
    pub(crate) fn with_lease(&self, lease: Lease) -> Self {
        Self {
            text: self.text.clone(),
            obtained: self.obtained,
            lease,
            worked: AtomicBool::new(self.worked.load(Ordering::Relaxed)),
        }
    }

    pub(crate) fn text(&self) -> &Hidden {
        &self.text
    }

    /// What goes into the header, if anything does.
    pub(crate) fn sent(&self) -> Option<&Hidden> {
        (!self.text.expose().is_empty()).then_some(&self.text)
    }

    pub(crate) fn lease(&self) -> &Lease {
        &self.lease
    }

    pub(crate) fn worked(&self) {
        self.worked.store(true, Ordering::Relaxed);
    }

    /// Whether a refusal may be for the token's own sake, where the service doesn't say.
    pub(crate) fn may_have_died(&self) -> bool {
        self.worked.load(Ordering::Relaxed) || self.obtained.elapsed() > PATIENCE
    }

    /// Whether something should have been done for it already, and nobody did. Looking it up takes `moment`.
    pub(crate) fn is_overdue(&self, moment: Duration) -> bool {
        match &self.lease {
            Lease::Endless => false,
            Lease::Unknown => self.obtained.elapsed() > moment,
            Lease::Limited(lease) => lease.is_overdue(),
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        match &self.lease {
            Lease::Limited(lease) => lease.left().is_zero(),
            _ => false,
        }
    }
}

impl Lease {
    /// As granted at a login: 0 is no end.
    pub(crate) fn granted(seconds: u64, renewable: bool) -> Self {
        Self::found(seconds, seconds, renewable)
    }

    /// As told by a look-up: so many seconds are left of so many. 0 is no end.
    pub(crate) fn found(left: u64, of: u64, renewable: bool) -> Self {
        if left == 0 {
            return Self::Endless;
        }
        let length = Duration::from_secs(of.max(left));
        let mut lease = Limited::new(length, Duration::ZERO, renewable);
        let past = length - Duration::from_secs(left);
        match lease.from.checked_sub(past) {
            Some(from) => lease.from = from,
            // The token is older than the system's clock.
            None => lease = Limited::new(length - past, Duration::ZERO, renewable),
        }
        Self::Limited(lease)
    }
}

impl Limited {
    fn new(length: Duration, longest_before: Duration, renewable: bool) -> Self {
        Self {
            from: Instant::now(),
            length,
            longest: length.max(longest_before),
            renewable,
            due: length.mul_f64(share()),
        }
    }

    /// What a renewal gave. 0 is the end here.
    pub(crate) fn renewed(&self, seconds: u64, renewable: bool) -> Self {
        Self::new(Duration::from_secs(seconds), self.longest, renewable)
    }

    /// Whether renewals gain nothing any more: the service shortens them towards the token's last moment.
    pub(crate) fn is_at_its_end(&self) -> bool {
        self.length < self.longest / 2
    }

    pub(crate) fn not_renewable(mut self) -> Self {
        self.renewable = false;
        self
    }

    pub(crate) fn is_renewable(&self) -> bool {
        self.renewable
    }

    pub(crate) fn left(&self) -> Duration {
        self.length.saturating_sub(self.from.elapsed())
    }

    /// When to renew it, at about two thirds.
    pub(crate) fn due_at(&self) -> Instant {
        self.from + self.due
    }

    pub(crate) fn is_due(&self) -> bool {
        self.from.elapsed() >= self.due
    }

    /// Whether it should have been renewed already, and nobody did.
    pub(crate) fn is_overdue(&self) -> bool {
        self.left() < self.length / 5
    }
}

/// 0.6 to 0.73, so that a fleet that started together does not renew together. `RandomState` is std's source of
/// randomness, good enough for that.
fn share() -> f64 {
    let random = RandomState::new().build_hasher().finish() >> 11;
    0.6 + 0.13 * (random as f64 / (1_u64 << 53) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paused(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(test);
    }

    fn limited(seconds: u64) -> Limited {
        match Lease::granted(seconds, true) {
            Lease::Limited(lease) => lease,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lease_is_due_at_about_two_thirds_and_overdue_at_four_fifths() {
        paused(async {
            let lease = limited(100);
            tokio::time::advance(Duration::from_secs(59)).await;
            assert!(!lease.is_due() && !lease.is_overdue());
            tokio::time::advance(Duration::from_secs(15)).await;
            assert!(lease.is_due() && !lease.is_overdue());
            tokio::time::advance(Duration::from_secs(7)).await;
            assert!(lease.is_overdue() && !lease.left().is_zero());
            tokio::time::advance(Duration::from_secs(19)).await;
            assert!(lease.left().is_zero());
        });
    }

    #[test]
    fn a_token_that_was_found_has_the_rest_of_its_time() {
        paused(async {
            tokio::time::advance(Duration::from_secs(1000)).await;
            let Lease::Limited(lease) = Lease::found(20, 100, true) else {
                panic!("it has an end");
            };
            assert_eq!(lease.left().as_secs(), 20);
            assert!(lease.is_due());
            let Lease::Limited(lease) = Lease::found(90, 60, true) else {
                panic!("it has an end");
            };
            assert_eq!(lease.left().as_secs(), 90);
        });
    }

    #[test]
    fn a_fleet_does_not_renew_in_step() {
        let shares: Vec<f64> = (0..100).map(|_| share()).collect();
        assert!(shares.iter().all(|share| (0.6..0.73).contains(share)));
        assert!(shares.iter().any(|share| *share != shares[0]));
    }

    #[test]
    fn renewals_that_get_shorter_show_the_end() {
        let lease = limited(100);
        assert!(!lease.renewed(100, true).is_at_its_end());
        assert!(!lease.renewed(60, true).is_at_its_end());
        assert!(lease.renewed(60, true).renewed(40, true).is_at_its_end());
        assert!(lease.renewed(0, true).is_at_its_end());
    }

    #[test]
    fn a_token_without_an_end_is_never_over() {
        for lease in [Lease::granted(0, false), Lease::Unknown] {
            assert!(!Token::new(Hidden::new("t"), lease).is_over());
        }
    }

    #[test]
    fn a_token_refused_at_once_is_not_taken_for_a_dead_one() {
        paused(async {
            let token = Token::new(Hidden::new("t"), Lease::Unknown);
            assert!(!token.may_have_died());
            token.worked();
            assert!(token.may_have_died());
            let token = Token::new(Hidden::new("t"), Lease::Unknown);
            tokio::time::advance(PATIENCE * 2).await;
            assert!(token.may_have_died());
        });
    }
}
