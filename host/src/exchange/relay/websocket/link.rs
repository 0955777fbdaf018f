//! A peer's stream as tungstenite sees it, and what is noted of the bytes that pass: whether there is somebody, and how
//! much of a message has come.

use std::io::{self, Read, Write};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::boundary::Boundary;
use crate::exchange::worker::{Reservation, Shared};

/// What a peer may have under way outside the budget: an atomic operation for each small message would cost more than
/// the bound is worth.
const UNBUDGETED_BYTES: usize = 64 << 10;
/// The budget is taken in steps of this size.
const BUDGET_STEP_BYTES: usize = 256 << 10;
/// A message that is being received must grow by so much between two looks.
const PACE_BYTES: u64 = 16 << 10;

/// The stream as tungstenite sees it, and what passes through it.
pub struct Link<S> {
    pub stream: S,
    waker: Waker,
    pub intake: Intake,
    /// Something came.
    pub is_heard: bool,
    /// Something was taken, after a wait.
    pub is_moving: bool,
    /// The stream took not all of what was last written.
    pub is_blocked: bool,
}

/// What has come and is not complete.
pub struct Intake {
    pub boundary: Boundary,
    shared: Arc<Shared>,
    budget_bytes: usize,
    pub reservation: Option<Reservation>,
    pub is_over_budget: bool,
    /// How much of a message had come when this was last asked about.
    before: u64,
}

impl Intake {
    /// Whether a message that has begun has not come on since this was last asked.
    pub fn is_stuck(&mut self) -> bool {
        let incomplete = self.boundary.incomplete_bytes();
        let before = mem::replace(&mut self.before, incomplete);
        // A message that is shorter than before is another one.
        incomplete > UNBUDGETED_BYTES as u64 && before > 0 && incomplete >= before && incomplete - before < PACE_BYTES
    }

    fn take(&mut self, bytes: &[u8]) {
        self.boundary.pass(bytes);
        let held = usize::try_from(self.boundary.incomplete_bytes()).unwrap_or(usize::MAX);
        if held <= UNBUDGETED_BYTES {
            return;
        }
        let shared = &self.shared;
        let reservation =
            self.reservation.get_or_insert_with(|| Reservation::new(shared, |shared| &shared.message_bytes));
        if held > reservation.bytes() {
            let missing = (held - reservation.bytes()).next_multiple_of(BUDGET_STEP_BYTES);
            self.is_over_budget |= !reservation.grow(missing, self.budget_bytes);
        }
    }
}

impl<S> Link<S> {
    pub fn new(stream: S, read_before: &[u8], budget_bytes: usize, shared: &Arc<Shared>) -> Self {
        let mut intake = Intake {
            boundary: Boundary::default(),
            shared: shared.clone(),
            budget_bytes,
            reservation: None,
            is_over_budget: false,
            before: 0,
        };
        intake.take(read_before);
        Self { stream, waker: Waker::noop().clone(), intake, is_heard: true, is_moving: false, is_blocked: false }
    }

    pub fn watch(&mut self, cx: &Context<'_>) {
        if !self.waker.will_wake(cx.waker()) {
            self.waker.clone_from(cx.waker());
        }
    }
}

impl<S: AsyncRead + Unpin> Read for Link<S> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.intake.is_over_budget {
            return Err(io::Error::other("the budget for messages is spent"));
        }
        let mut buffer = ReadBuf::new(bytes);
        match Pin::new(&mut self.stream).poll_read(&mut Context::from_waker(&self.waker), &mut buffer) {
            Poll::Ready(Ok(())) => {
                let read = buffer.filled();
                self.is_heard |= !read.is_empty();
                self.intake.take(read);
                Ok(read.len())
            }
            Poll::Ready(Err(error)) => Err(error),
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl<S: AsyncWrite + Unpin> Write for Link<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = Pin::new(&mut self.stream).poll_write(&mut Context::from_waker(&self.waker), bytes);
        self.took(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = Pin::new(&mut self.stream).poll_flush(&mut Context::from_waker(&self.waker));
        self.took(flushed)
    }
}

impl<S> Link<S> {
    /// Notes whether the stream took what it was given.
    fn took<T>(&mut self, taken: Poll<io::Result<T>>) -> io::Result<T> {
        match taken {
            Poll::Ready(taken) => {
                self.is_moving |= mem::take(&mut self.is_blocked);
                taken
            }
            Poll::Pending => {
                self.is_blocked = true;
                Err(io::ErrorKind::WouldBlock.into())
            }
        }
    }
}
