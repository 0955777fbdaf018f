//! One timer for an exchange, cheap enough for every request.
//!
//! Setting a deadline costs a timer operation only when it lies before the one that is armed: the usual case, a
//! deadline that keeps moving away, is noticed when the armed one fires. Timers are reused between exchanges, armed as
//! they are, so that a busy worker touches tokio's timer wheel about once per timeout instead of twice per request.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use tokio::time::{Instant, Sleep};

/// More than this many unused timers are not worth keeping.
const SPARE_MAX: usize = 256;

/// A worker's unused timers.
#[derive(Default)]
pub(super) struct Timers {
    spare: RefCell<Vec<Pin<Box<Sleep>>>>,
}

impl Timers {
    pub(super) fn take(self: &Rc<Self>, deadline: Instant) -> Timer {
        let spare = self.spare.borrow_mut().pop();
        let sleep = spare.unwrap_or_else(|| Box::pin(tokio::time::sleep_until(deadline)));
        let mut timer = Timer { sleep: Some(sleep), deadline, home: Rc::clone(self) };
        timer.set(deadline);
        timer
    }
}

/// A deadline that can be moved; goes back to its [`Timers`] when dropped.
pub(super) struct Timer {
    /// Present until drop.
    sleep: Option<Pin<Box<Sleep>>>,
    deadline: Instant,
    home: Rc<Timers>,
}

impl Timer {
    pub(super) fn set(&mut self, deadline: Instant) {
        self.deadline = deadline;
        if let Some(sleep) = &mut self.sleep
            && deadline < sleep.deadline()
        {
            sleep.as_mut().reset(deadline);
        }
    }

    /// Ready when the deadline has passed.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(sleep) = &mut self.sleep else { return Poll::Ready(()) };
        while sleep.as_mut().poll(cx).is_ready() {
            if Instant::now() >= self.deadline {
                return Poll::Ready(());
            }
            sleep.as_mut().reset(self.deadline);
        }
        Poll::Pending
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut spare = self.home.spare.borrow_mut();
        if let Some(sleep) = self.sleep.take()
            && spare.len() < SPARE_MAX
        {
            spare.push(sleep);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reused_timer_keeps_the_new_deadline_and_not_the_old_one() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let timers = Rc::new(Timers::default());
            let start = Instant::now();
            drop(timers.take(start + Duration::from_millis(5)));
            let mut later = timers.take(start + Duration::from_millis(60));
            assert!(timers.spare.borrow().is_empty(), "the spare timer is used");
            poll_fn(|cx| later.poll(cx)).await;
            assert!(start.elapsed() >= Duration::from_millis(60));

            later.set(Instant::now() + Duration::from_hours(1));
            let moved_closer = Instant::now() + Duration::from_millis(5);
            later.set(moved_closer);
            poll_fn(|cx| later.poll(cx)).await;
            assert!(Instant::now() >= moved_closer);
        });
    }
}
