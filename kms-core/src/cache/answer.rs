//! An answer that any number of callers wait for, whatever runtime they run in.

use tokio::sync::watch;

/// Where the answer is going to be. A clone waits for the same one.
///
/// It belongs to no runtime: whoever waits is woken by whoever publishes.
#[derive(Clone, Debug)]
pub(crate) struct Answer<T>(watch::Receiver<Option<T>>);

/// Publishes the answer. If it is dropped without, those who wait learn that none will come.
#[derive(Debug)]
pub(crate) struct Publisher<T>(watch::Sender<Option<T>>);

pub(crate) fn answer<T>() -> (Publisher<T>, Answer<T>) {
    let (publisher, answer) = watch::channel(None);
    (Publisher(publisher), Answer(answer))
}

impl<T> Answer<T> {
    /// Whether it is still being found.
    pub(crate) fn is_coming(&self) -> bool {
        self.0.borrow().is_none() && self.0.has_changed().is_ok()
    }
}

impl<T: Clone> Answer<T> {
    /// Waits for it. `None` if none will come: the runtime in which it was being found has ended.
    pub(crate) async fn wait(mut self) -> Option<T> {
        self.0.wait_for(Option::is_some).await.ok()?.clone()
    }
}

impl<T> Publisher<T> {
    /// Wakes those who wait, so no lock of ours may be held here.
    pub(crate) fn publish(self, answer: T) {
        self.0.send_replace(Some(answer));
    }
}
