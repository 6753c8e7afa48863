//! What the tasks of a shard share: boxed futures of one thread, and the signal that Hydrant stops.

use std::pin::Pin;

use tokio::sync::watch;

/// A boxed future of the shard's own thread.
pub type LocalFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How far the signal is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    Go,
    Stop,
    HandOver,
}

/// Sets the signal.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Signal>);

/// Sees the signal; clones see the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Receiver<Signal>);

/// A signal that is not set yet.
pub fn pair() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(Signal::Go);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Sets it, for good.
    pub fn stop(&self) {
        self.0.send_replace(Signal::Stop);
    }

    /// Sets it, for good, and says that senders wait for the process that takes over: nothing may take long.
    pub fn hand_over(&self) {
        self.0.send_replace(Signal::HandOver);
    }
}

impl Stop {
    /// Whether it is set.
    pub fn is_set(&self) -> bool {
        *self.0.borrow() != Signal::Go
    }

    /// Whether it is set because another process takes over.
    pub fn is_hand_over(&self) -> bool {
        *self.0.borrow() == Signal::HandOver
    }

    /// Resolves when it is set, or when nobody is left to set it.
    pub async fn wait(&self) {
        let mut receiver = self.0.clone();
        // An error means that the stopper is gone, which is a stop as well.
        let _ = receiver.wait_for(|signal| *signal != Signal::Go).await;
    }
}
