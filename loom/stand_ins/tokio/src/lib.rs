//! What `pipeline/mesh.rs` uses of tokio, over loom's locks.

/// `tokio::sync`.
pub mod sync {
    use std::future::poll_fn;
    use std::task::{Poll, Waker};

    use loom::sync::Mutex;

    /// `tokio::sync::Notify` for one waiter, which is what a shard is. Two calls before the waiter runs are one
    /// wake-up here and may be two in tokio: the model wakes less, never more.
    #[derive(Debug, Default)]
    pub struct Notify(Mutex<State>);

    #[derive(Debug, Default)]
    struct State {
        permit: bool,
        waiting: Option<Waker>,
    }

    impl Notify {
        /// Wakes the waiter, or lets the next one pass.
        pub fn notify_one(&self) {
            let waiting = {
                let mut state = self.0.lock().unwrap();
                state.permit = true;
                state.waiting.take()
            };
            waiting.iter().for_each(Waker::wake_by_ref);
        }

        /// Resolves at the next call of `notify_one`, or at once if there was one.
        pub async fn notified(&self) {
            poll_fn(|context| {
                let mut state = self.0.lock().unwrap();
                if std::mem::take(&mut state.permit) {
                    return Poll::Ready(());
                }
                state.waiting = Some(context.waker().clone());
                Poll::Pending
            })
            .await;
        }
    }
}
