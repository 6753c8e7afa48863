//! What the checked files use of tokio, over loom's locks.

/// `tokio::sync`.
pub mod sync {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use loom::sync::Mutex;

    /// `tokio::sync::Notify` with one waiter at a time for `notify_one`, which is what a shard is. Two calls before the
    /// waiter runs are one wake-up here and may be two in tokio: the model wakes less, never more.
    #[derive(Debug, Default)]
    pub struct Notify(Mutex<State>);

    #[derive(Debug, Default)]
    struct State {
        permit: bool,
        /// Calls of `notify_waiters`.
        round: usize,
        waiting: Vec<Waker>,
    }

    impl Notify {
        /// Nobody has been told anything.
        pub fn new() -> Self {
            Self::default()
        }

        /// Wakes the waiter, or lets the next one pass.
        pub fn notify_one(&self) {
            self.change(|state| state.permit = true);
        }

        /// Wakes those who wait and those whose future has been made.
        pub fn notify_waiters(&self) {
            self.change(|state| state.round += 1);
        }

        fn change(&self, change: impl FnOnce(&mut State)) {
            let waiting = {
                let mut state = self.0.lock().unwrap();
                change(&mut state);
                std::mem::take(&mut state.waiting)
            };
            waiting.iter().for_each(Waker::wake_by_ref);
        }

        /// Resolves at the next `notify_one`, at once if there was one, and at the first `notify_waiters` after this
        /// call.
        pub fn notified(&self) -> Notified<'_> {
            Notified { notify: self, round: self.0.lock().unwrap().round }
        }
    }

    /// `tokio::sync::futures::Notified`.
    pub struct Notified<'a> {
        notify: &'a Notify,
        round: usize,
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            let mut state = self.notify.0.lock().unwrap();
            if state.round != self.round || std::mem::take(&mut state.permit) {
                return Poll::Ready(());
            }
            state.waiting.push(context.waker().clone());
            Poll::Pending
        }
    }

    /// `tokio::sync::oneshot`.
    pub mod oneshot {
        use std::fmt;

        use super::{Context, Mutex, Pin, Poll, Waker};
        use loom::sync::Arc;

        #[derive(Debug)]
        struct Slot<T> {
            value: Option<T>,
            is_closed: bool,
            waiting: Option<Waker>,
        }

        /// The two ends.
        pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
            let slot = Arc::new(Mutex::new(Slot { value: None, is_closed: false, waiting: None }));
            (Sender(slot.clone()), Receiver(slot))
        }

        /// Sends once.
        pub struct Sender<T>(Arc<Mutex<Slot<T>>>);

        impl<T> Sender<T> {
            /// Whether the receiver is there is not modelled: nobody may rely on it.
            pub fn send(self, value: T) -> Result<(), T> {
                self.0.lock().unwrap().value = Some(value);
                Ok(())
            }
        }

        impl<T> Drop for Sender<T> {
            fn drop(&mut self) {
                let waiting = {
                    let mut slot = self.0.lock().unwrap();
                    slot.is_closed = true;
                    slot.waiting.take()
                };
                waiting.iter().for_each(Waker::wake_by_ref);
            }
        }

        impl<T> fmt::Debug for Sender<T> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("Sender")
            }
        }

        /// The sender is gone without a value.
        #[derive(Debug)]
        pub struct RecvError;

        /// Resolves to the value.
        pub struct Receiver<T>(Arc<Mutex<Slot<T>>>);

        impl<T> Future for Receiver<T> {
            type Output = Result<T, RecvError>;

            fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
                let mut slot = self.0.lock().unwrap();
                match slot.value.take() {
                    Some(value) => Poll::Ready(Ok(value)),
                    None if slot.is_closed => Poll::Ready(Err(RecvError)),
                    None => {
                        slot.waiting = Some(context.waker().clone());
                        Poll::Pending
                    }
                }
            }
        }

        impl<T> fmt::Debug for Receiver<T> {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("Receiver")
            }
        }
    }
}
