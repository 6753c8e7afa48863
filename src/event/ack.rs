//! Telling a sender that its events have arrived for good.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering};

/// Held, cloned, by everything that still works on a chunk; when the last clone is dropped the [`Receipt`]
/// resolves.
#[derive(Clone, Debug)]
pub struct Acknowledgement(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    failed: AtomicBool,
    answer: Option<oneshot::Sender<bool>>,
}

impl Acknowledgement {
    /// An acknowledgement and what waits for it.
    pub fn pair() -> (Self, Receipt) {
        let (sender, receiver) = oneshot::channel();
        (Self(Arc::new(Shared { failed: AtomicBool::new(false), answer: Some(sender) })), Receipt(receiver))
    }

    /// Some of the events will not arrive (a written policy dropped them): the sender must not be told that all is well.
    pub fn fail(&self) {
        self.0.failed.store(true, Ordering::Relaxed);
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if let Some(answer) = self.answer.take() {
            // Nobody waits any more when the client has gone away.
            let _ = answer.send(!self.failed.load(Ordering::Relaxed));
        }
    }
}

/// Resolves to whether everything arrived.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<bool>);

impl Future for Receipt {
    type Output = bool;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<bool> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or(false))
    }
}
