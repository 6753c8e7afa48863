//! How far one partition is done: `batches given, batches done in any order -> the offset to commit`.
//!
//! A commit says "everything before this offset is done" (Kafka protocol, OffsetCommit), so that it may never pass a
//! batch that is still open, whatever came back behind it.

use std::collections::VecDeque;

/// The books of one partition, for one stay of it with us.
#[derive(Debug, Default)]
pub(super) struct Mark {
    /// Batches that are not done, and done ones behind them, in the order of their offsets.
    open: VecDeque<Open>,
    /// Everything before this offset is done.
    done: Option<i64>,
    /// What the group was last asked to remember.
    asked: Option<i64>,
}

#[derive(Debug)]
struct Open {
    batch: u64,
    /// One past its last offset here.
    next: i64,
    is_done: bool,
}

impl Mark {
    /// A mark at an offset that the group knows already, if it knows any.
    pub(super) fn at(committed: Option<i64>) -> Self {
        Self { open: VecDeque::new(), done: committed, asked: committed }
    }

    /// Nothing before `offset` is wanted, which the group does not know yet.
    pub(super) fn from(offset: i64) -> Self {
        Self { open: VecDeque::new(), done: Some(offset), asked: None }
    }

    /// A batch has gone on its way that has the records of this partition up to `next`.
    pub(super) fn given(&mut self, batch: u64, next: i64) {
        self.open.push_back(Open { batch, next, is_done: false });
    }

    /// A batch is done. One that has nothing of this partition changes nothing.
    pub(super) fn done(&mut self, batch: u64) {
        // Numbers ascend, and the oldest is done first as a rule.
        if let Ok(index) = self.open.binary_search_by_key(&batch, |open| open.batch)
            && let Some(open) = self.open.get_mut(index)
        {
            open.is_done = true;
        }
        while let Some(open) = self.open.pop_front_if(|open| open.is_done) {
            self.done = Some(open.next);
        }
    }

    /// Whether nothing is on its way.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// The offset to commit, if the group was not asked to remember it yet.
    pub(super) fn take_commit(&mut self) -> Option<i64> {
        let commit = self.done.filter(|_| self.done != self.asked);
        self.asked = self.done;
        commit
    }

    /// The group did not take what it was asked to remember: it is asked again.
    pub(super) fn was_refused(&mut self) {
        self.asked = None;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_commit_waits_for_the_oldest_batch() {
        let mut mark = Mark::at(Some(10));
        assert_eq!(mark.take_commit(), None);
        mark.given(1, 20);
        mark.given(4, 30);
        mark.given(5, 40);
        mark.done(5);
        mark.done(2);
        assert_eq!(mark.take_commit(), None);
        mark.done(1);
        assert_eq!((mark.take_commit(), mark.take_commit(), mark.is_idle()), (Some(20), None, false));
        mark.done(4);
        assert_eq!((mark.take_commit(), mark.is_idle()), (Some(40), true));
        mark.was_refused();
        assert_eq!(mark.take_commit(), Some(40));
    }

    #[test]
    fn a_partition_without_a_commit_gets_its_first() {
        assert_eq!(Mark::at(None).take_commit(), None);
        assert_eq!(Mark::from(7).take_commit(), Some(7));
    }

    proptest! {
        #[test]
        fn a_commit_never_passes_an_open_batch(order in Just((0..40u64).collect::<Vec<_>>()).prop_shuffle()) {
            let mut mark = Mark::at(None);
            (0..40).for_each(|batch| mark.given(batch, batch as i64 * 10 + 10));
            let mut done = [false; 40];
            let mut last = None;
            for batch in order {
                mark.done(batch);
                done[batch as usize] = true;
                let before = done.iter().take_while(|done| **done).count() as i64 * 10;
                last = mark.take_commit().or(last);
                prop_assert_eq!(last.unwrap_or(0), before);
            }
            prop_assert!(mark.is_idle());
        }
    }
}
