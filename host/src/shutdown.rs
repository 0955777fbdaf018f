//! What the outside may ask of a running gateway, and the signals that ask it.
//!
//! SIGHUP reloads now. SIGTERM and SIGINT stop: no new connections, exchanges finish within the drain time; a second
//! one does not wait. The same commands come from tests through a [`Handle`], so that no test needs a process.

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    Reload,
    Stop,
}

/// The asking side.
#[derive(Debug, Clone)]
pub struct Handle(UnboundedSender<Command>);

/// The listening side.
pub type Commands = UnboundedReceiver<Command>;

pub fn channel() -> (Handle, Commands) {
    let (sender, receiver) = unbounded_channel();
    (Handle(sender), receiver)
}

impl Handle {
    pub fn reload(&self) {
        // A gateway that has ended needs no reload.
        let _ = self.0.send(Command::Reload);
    }

    pub fn stop(&self) {
        let _ = self.0.send(Command::Stop);
    }

    /// Passes signals on, for as long as the future is polled. Needs a tokio runtime with signals.
    pub async fn follow_signals(self) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        loop {
            tokio::select! {
                Some(()) = hangup.recv() => self.reload(),
                Some(()) = terminate.recv() => self.stop(),
                Some(()) = interrupt.recv() => self.stop(),
                else => return Ok(()),
            }
        }
    }
}
