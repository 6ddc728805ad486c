//! Connections for reads that take less time than handing them to another thread does.
//!
//! A scope's rows come out of SQLite's pages within some ten microseconds; to wake a thread for that, and to be woken
//! by it, takes several times as long. So such a read is tried where it is called, on a connection that gives up at
//! once rather than wait for a lock. Whatever goes wrong, the read is then done as every other call.

use std::sync::{Mutex, TryLockError};

use diesel::QueryResult;

/// Some connections, opened one by one as they turn out to be wanted.
pub(crate) struct AtHand<C> {
    places: Box<[Mutex<Option<C>>]>,
    open: Box<dyn Fn() -> Option<C> + Send + Sync>,
}

impl<C> AtHand<C> {
    /// `open` gives a connection that waits for nothing. It may block.
    pub(crate) fn new(count: u32, open: impl Fn() -> Option<C> + Send + Sync + 'static) -> Self {
        Self {
            places: (0..count).map(|_| Mutex::default()).collect(),
            open: Box::new(open),
        }
    }

    /// What the query gives on a connection that is open and free. Never waits.
    pub(crate) fn try_read<T>(&self, query: impl FnOnce(&mut C) -> QueryResult<T>) -> Option<T> {
        for place in &self.places {
            // One whose user panicked holds nobody knows what: it is closed.
            let mut place = match place.try_lock() {
                Ok(place) => place,
                Err(TryLockError::Poisoned(poisoned)) => {
                    *poisoned.into_inner() = None;
                    continue;
                }
                Err(TryLockError::WouldBlock) => continue,
            };
            if let Some(connection) = place.as_mut() {
                let result = query(connection);
                if result.is_err() {
                    *place = None;
                }
                return result.ok();
            }
        }
        None
    }

    /// Opens one more, if one is missing. To be called where blocking is allowed.
    pub(crate) fn open_one(&self) {
        let mut free = self.places.iter().filter_map(|place| place.try_lock().ok());
        if let Some(mut place) = free.find(|place| place.is_none()) {
            *place = (self.open)();
        }
    }
}

#[cfg(test)]
mod tests {
    use diesel::result::Error;

    use super::*;

    #[test]
    fn nothing_is_read_before_a_connection_is_open() {
        let at_hand = AtHand::new(1, || Some(7));
        assert_eq!(at_hand.try_read(|connection| Ok(*connection)), None);
        at_hand.open_one();
        assert_eq!(at_hand.try_read(|connection| Ok(*connection)), Some(7));
    }

    #[test]
    fn nobody_waits_for_a_connection_that_is_in_use() {
        let at_hand = AtHand::new(2, || Some(()));
        at_hand.open_one();
        let nested = at_hand.try_read(|()| Ok(at_hand.try_read(|()| Ok(1))));
        assert_eq!(nested, Some(None));
        at_hand.open_one();
        let nested = at_hand.try_read(|()| Ok(at_hand.try_read(|()| Ok(1))));
        assert_eq!(nested, Some(Some(1)));
    }

    #[test]
    fn a_connection_that_failed_is_not_used_again() {
        let at_hand = AtHand::new(1, || Some(()));
        at_hand.open_one();
        assert_eq!(at_hand.try_read(|()| Err::<(), _>(Error::NotFound)), None);
        assert_eq!(at_hand.try_read(|()| Ok(())), None);
        at_hand.open_one();
        assert_eq!(at_hand.try_read(|()| Ok(())), Some(()));
    }
}
