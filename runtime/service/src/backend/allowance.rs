//! Output that is granted while it is made.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Tokens of output that were granted and used so far: a cell that the path and a backend share. Counts are totals, so that nothing is lost or counted
/// twice where one side looks late. The path raises what is granted ([`Allowance::raise`]) where little is left ([`Allowance::running_low`]); a backend
/// says what it used ([`Allowance::use_up_to`]) and pauses where nothing is left, until there is more ([`Allowance::more`]).
#[derive(Clone, Debug)]
pub struct Allowance(Rc<Shared>);

#[derive(Debug)]
struct Shared {
    granted: Cell<u64>,
    used: Cell<u64>,
    told: Cell<u64>,
    closed: Cell<bool>,
    /// Whoever waits on either side. Few do: one a side, or one an answer.
    waiting: RefCell<Vec<Waker>>,
}

impl Allowance {
    /// So many tokens to begin with.
    pub fn new(granted: u64) -> Allowance {
        Allowance(Rc::new(Shared {
            granted: Cell::new(granted),
            used: Cell::new(0),
            told: Cell::new(0),
            closed: Cell::new(false),
            waiting: RefCell::default(),
        }))
    }

    /// As many as there may be.
    pub fn unlimited() -> Allowance {
        Allowance::new(u64::MAX)
    }

    /// Tokens granted so far, over all answers.
    pub fn granted(&self) -> u64 {
        self.0.granted.get()
    }

    /// Tokens used so far, over all answers.
    pub fn used(&self) -> u64 {
        self.0.used.get()
    }

    /// Tokens that may still be used.
    pub fn left(&self) -> u64 {
        self.granted().saturating_sub(self.used())
    }

    /// So many are granted from now on, over the whole time. Never fewer than before.
    pub fn raise(&self, granted: u64) {
        if granted > self.granted() {
            self.0.granted.set(granted);
            self.wake();
        }
    }

    /// No more will be granted: answers that use up what there is end there, as if by `max_tokens`.
    pub fn close(&self) {
        self.0.closed.set(true);
        self.wake();
    }

    /// Whether no more will be granted.
    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// Of the tokens used so far, those whose text was told, if they have one.
    pub fn told(&self) -> u64 {
        self.0.told.get()
    }

    /// So many were used, and all of them told, over the whole time. Never fewer than before.
    pub fn use_up_to(&self, used: u64) {
        self.use_and_tell(used, used);
    }

    /// [`Allowance::use_up_to`], if fewer of them were told: the next ones make their text whole.
    pub fn use_and_tell(&self, used: u64, told: u64) {
        self.0.told.set(self.told().max(told.min(used)));
        if used > self.used() {
            self.0.used.set(used);
            self.wake();
        }
    }

    /// For a backend: ready where more than `seen` are granted, or no more will be.
    pub async fn more(&self, seen: u64) {
        poll_fn(|context| self.poll_more(seen, context)).await;
    }

    /// [`Allowance::more`], to be polled beside other things.
    pub fn poll_more(&self, seen: u64, context: &mut Context<'_>) -> Poll<()> {
        self.poll(self.granted() > seen || self.is_closed(), context)
    }

    /// For the path: ready where fewer than `margin` are left, at once or later.
    pub async fn running_low(&self, margin: u64) {
        poll_fn(|context| self.poll(self.left() < margin, context)).await;
    }

    fn poll(&self, ready: bool, context: &mut Context<'_>) -> Poll<()> {
        if ready {
            return Poll::Ready(());
        }
        let mut waiting = self.0.waiting.borrow_mut();
        if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            waiting.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Whoever still waits asks again and is noted anew.
    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.0.waiting.borrow_mut());
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::future::join;
    use futures_util::{FutureExt, pin_mut};

    #[test]
    fn each_side_hears_of_the_other() {
        let allowance = Allowance::new(10);
        assert!(allowance.more(9).now_or_never().is_some());
        assert!(allowance.more(10).now_or_never().is_none());
        assert!(allowance.running_low(10).now_or_never().is_none());
        let (path, backend) = (allowance.clone(), allowance.clone());
        let extend = async move {
            for _ in 0..3 {
                path.running_low(5).await;
                path.raise(path.granted() + 10);
            }
            path.running_low(1).await;
            path.close();
        };
        let answer = async move {
            while !backend.is_closed() {
                backend.use_up_to(backend.granted());
                backend.more(backend.used()).await;
            }
        };
        pollster::block_on(join(extend, answer));
        assert_eq!((allowance.granted(), allowance.used(), allowance.left()), (40, 40, 0));
    }

    #[test]
    fn counts_never_fall() {
        let allowance = Allowance::new(10);
        allowance.raise(5);
        allowance.use_up_to(3);
        allowance.use_up_to(2);
        assert_eq!((allowance.granted(), allowance.used()), (10, 3));
        let more = allowance.more(10);
        pin_mut!(more);
        assert!(more.as_mut().now_or_never().is_none());
        allowance.close();
        pollster::block_on(more);
    }
}
