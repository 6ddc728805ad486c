//! What a suite is run on, and what is known to be weak about it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use kms_core::Wrapper;

use crate::wrapper::failing::DeadEnd;

/// A wrapper under test, with all that the properties need to know about it.
pub struct Subject {
    pub(super) wrapper: Arc<dyn Wrapper>,
    pub(super) stranger: Arc<dyn Wrapper>,
    pub(super) limit: Option<usize>,
    pub(super) secrets: Vec<Vec<u8>>,
    pub(super) former: Option<Arc<dyn Wrapper>>,
    pub(super) dead_ends: Vec<DeadEnd>,
    pub(super) bound: Duration,
    weaknesses: Vec<Weakness>,
}

/// Something that a service or an emulator does not do, so that a property can't be asked of it in full.
///
/// Declared next to the service, for each suite by name. A property that is touched by it then checks less, and
/// says so; where it can, it checks that the weakness is really there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Weakness {
    /// The service encrypts no empty plaintext: the wrapper has to refuse one.
    NoEmptyPlaintext,
    /// The service takes no `aad`: the wrapper has to refuse one that is not empty, and may not drop it.
    NoAad,
    /// Some bits of a blob mean nothing, such as the spare ones at the end of base64: a blob with such a bit
    /// flipped may open, but only to the same plaintext.
    SpareBits,
    /// The emulator's errors don't tell a damaged blob from other failures: any error that is not retryable
    /// will do where a blob must be refused.
    VagueErrors,
    /// The emulator opens blobs of all its keys, whatever key it was asked to use.
    OpensForeignBlobs,
}

impl Subject {
    /// A wrapper, and a stranger to it: one of the same kind, on the same service if there is one, with
    /// another key and another key id.
    #[must_use]
    pub fn new(wrapper: Arc<dyn Wrapper>, stranger: Arc<dyn Wrapper>) -> Self {
        Self {
            wrapper,
            stranger,
            limit: None,
            secrets: Vec::new(),
            former: None,
            dead_ends: Vec::new(),
            bound: Duration::from_secs(30),
            weaknesses: Vec::new(),
        }
    }

    /// The longest plaintext in bytes that the service takes. Longer ones must be refused.
    #[must_use]
    pub fn with_limit(mut self, bytes: usize) -> Self {
        self.limit = Some(bytes);
        self
    }

    /// Bytes that must not show in `Debug` or in errors: the key, the service's credentials.
    #[must_use]
    pub fn with_secret(mut self, secret: impl Into<Vec<u8>>) -> Self {
        self.secrets.push(secret.into());
        self
    }

    /// A wrapper of a key that the one under test decrypts with, and does not encrypt with any more. For one that takes
    /// several keys.
    #[must_use]
    pub fn with_former(mut self, former: Arc<dyn Wrapper>) -> Self {
        self.former = Some(former);
        self
    }

    /// Makes the wrapper under test, with the same key and settings, where there is no service: at two endpoints
    /// `http://127.0.0.1:port`, one of which refuses connections, while the other one takes them and never answers. For
    /// each wrapper that has a service.
    #[must_use]
    pub fn with_dead_ends(mut self, make: impl Fn(&str) -> Arc<dyn Wrapper>) -> Self {
        self.dead_ends.extend(DeadEnd::both(make));
        self
    }

    /// How long a call may take at the most, all its attempts together: 30 seconds if not set.
    #[must_use]
    pub fn with_bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// Declares a weakness.
    #[must_use]
    pub fn with_weakness(mut self, weakness: Weakness) -> Self {
        self.weaknesses.push(weakness);
        self
    }

    /// Whether this weakness was declared. Says so where the test's output can be seen.
    pub(super) fn is_weak(&self, weakness: Weakness) -> bool {
        let weak = self.weaknesses.contains(&weakness);
        if weak {
            eprintln!(
                "{}: checked less, since {weakness:?} is declared",
                self.wrapper.kind()
            );
        }
        weak
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("wrapper", &self.wrapper)
            .field("stranger", &self.stranger)
            .field("limit", &self.limit)
            .field("bound", &self.bound)
            .field("weaknesses", &self.weaknesses)
            .finish_non_exhaustive()
    }
}
