//! Lines in the gateway's log. The host adds the plugin, its version and the request, cuts a line at 4 KiB, and passes on
//! only so many a second.
//!
//! In native tests a line goes to stderr, and to [`testing::logged`](crate::testing::logged).

pub use crate::bindings::channel::aiproxy::plugin::log::Level;

/// Logs one line.
pub fn log(level: Level, message: &str) {
    #[cfg(target_arch = "wasm32")]
    crate::bindings::channel::aiproxy::plugin::log::log(level, message);
    #[cfg(not(target_arch = "wasm32"))]
    native::log(level, message);
}

/// For whoever debugs this plugin, step by step.
pub fn trace(message: impl AsRef<str>) {
    log(Level::Trace, message.as_ref());
}

/// For whoever debugs this plugin.
pub fn debug(message: impl AsRef<str>) {
    log(Level::Debug, message.as_ref());
}

/// What the operator may want to know.
pub fn info(message: impl AsRef<str>) {
    log(Level::Info, message.as_ref());
}

/// What the operator should look at: something is configured and cannot be followed, say.
pub fn warn(message: impl AsRef<str>) {
    log(Level::Warn, message.as_ref());
}

/// What went wrong.
pub fn error(message: impl AsRef<str>) {
    log(Level::Error, message.as_ref());
}

#[cfg(not(target_arch = "wasm32"))]
pub(crate) mod native {
    //! Without a host: by thread, since each test has one of its own.

    use std::cell::RefCell;

    use super::Level;

    thread_local! {
        static LINES: RefCell<Vec<(Level, String)>> = const { RefCell::new(Vec::new()) };
    }

    pub fn log(level: Level, message: &str) {
        eprintln!("{level:?}: {message}");
        LINES.with_borrow_mut(|lines| lines.push((level, message.to_owned())));
    }

    /// Gives the lines of this thread, and forgets them.
    pub fn take() -> Vec<(Level, String)> {
        LINES.take()
    }
}
