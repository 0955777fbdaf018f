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
}

/// The process's signals, as commands, from now on.
pub fn signals() -> anyhow::Result<Commands> {
    let (handle, commands) = channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let received = {
        let _context = runtime.enter();
        [SignalKind::hangup(), SignalKind::terminate(), SignalKind::interrupt()].map(signal)
    };
    let [hangup, terminate, interrupt] = received;
    let (mut hangup, mut terminate, mut interrupt) = (hangup?, terminate?, interrupt?);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async move {
            loop {
                tokio::select! {
                    Some(()) = hangup.recv() => handle.reload(),
                    Some(()) = terminate.recv() => handle.stop(),
                    Some(()) = interrupt.recv() => handle.stop(),
                    else => return,
                }
            }
        });
    })?;
    Ok(commands)
}
