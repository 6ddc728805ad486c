//! A shared value whose users can be counted in more than one place.

use std::mem;
use std::ops::Deref;
use std::sync::Arc;

/// As an `Arc`, but [`apart`](Self::apart) gives a handle whose clones are counted separately from those of this one.
///
/// Threads that clone and drop the same `Arc` all the time write to one counter in turn, which makes several of them
/// slower together than one alone. With a handle of its own, each has a counter of its own.
#[derive(Debug)]
pub(crate) struct Counted<T>(Arc<Value<T>>);

/// What all handles share.
#[derive(Debug)]
struct Value<T>(Arc<T>);

/// What is left of a handle that was turned into another: dropping it may drop the value.
#[derive(Debug)]
pub(crate) enum Turned<T> {
    Value(#[expect(dead_code, reason = "it is held to be dropped")] Arc<T>),
    Handle(#[expect(dead_code, reason = "it is held to be dropped")] Counted<T>),
}

impl<T> Counted<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(Arc::new(Value(Arc::new(value))))
    }

    /// The same value, counted separately.
    pub(crate) fn apart(&self) -> Self {
        Self(Arc::new(Value(Arc::clone(&self.0.0))))
    }

    /// What [`apart`](Self::apart) gives of `other`, in this handle's allocation if nobody else has this handle; and
    /// what is to be dropped.
    pub(crate) fn turned_into(mut self, other: &Self) -> (Self, Turned<T>) {
        match Arc::get_mut(&mut self.0) {
            Some(value) => {
                let before = mem::replace(&mut value.0, Arc::clone(&other.0.0));
                (self, Turned::Value(before))
            }
            None => (other.apart(), Turned::Handle(self)),
        }
    }

    pub(crate) fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0.0, &other.0.0)
    }

    /// Tells whether the value is still in memory.
    #[cfg(test)]
    pub(crate) fn watch(&self) -> std::sync::Weak<T> {
        Arc::downgrade(&self.0.0)
    }
}

impl<T> Clone for Counted<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Counted<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}
