//! A worker's open WebSockets, and what is said to them from outside: that the gateway stops, or that the configuration
//! has changed.
//!
//! A socket outlives the request that opened it, and over HTTP/2 its connection too, which knows nothing of it; so the
//! worker keeps a bell for each until both sides have parted.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::task::{Context, Waker};

use tokio::sync::Notify;

/// Something that a socket has to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// Another generation serves.
    Swapped,
    /// The gateway stops.
    Stopping,
}

#[derive(Default)]
pub struct Sockets {
    next_id: Cell<u64>,
    open: Rc<RefCell<HashMap<u64, Rc<Bell>>>>,
    /// Told of each that has ended.
    ended: Rc<Notify>,
}

/// What was said to one socket.
#[derive(Default)]
struct Bell {
    notice: Cell<Option<Notice>>,
    waker: RefCell<Option<Waker>>,
}

/// A socket's place among the open ones, given up when dropped.
pub struct Listener {
    id: u64,
    bell: Rc<Bell>,
    open: Rc<RefCell<HashMap<u64, Rc<Bell>>>>,
    ended: Rc<Notify>,
}

impl Sockets {
    pub fn listen(&self) -> Listener {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        let bell = Rc::<Bell>::default();
        self.open.borrow_mut().insert(id, bell.clone());
        Listener { id, bell, open: self.open.clone(), ended: self.ended.clone() }
    }

    pub fn are_closed(&self) -> bool {
        self.open.borrow().is_empty()
    }

    /// Resolves when one has ended since this was last asked.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    pub fn tell(&self, notice: Notice) {
        for bell in self.open.borrow().values() {
            // That the gateway stops is the last word.
            if bell.notice.get() != Some(Notice::Stopping) {
                bell.notice.set(Some(notice));
            }
            if let Some(waker) = bell.waker.borrow_mut().take() {
                waker.wake();
            }
        }
    }
}

impl Listener {
    /// What was said since this was last asked; registers for more.
    pub fn heard(&self, cx: &Context<'_>) -> Option<Notice> {
        let mut waker = self.bell.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
        self.bell.notice.take()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.open.borrow_mut().remove(&self.id);
        self.ended.notify_one();
    }
}
