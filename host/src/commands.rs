//! What each subcommand does: joins the rooms below into a process.

use std::fmt::Display;
use std::io::Write;

pub mod check;
pub mod demo;
pub mod explain;
pub mod init;
pub mod plugin;
pub mod serve;

/// Prints a line on stdout. A reader who has gone (`| head`) is no fault of the command's.
fn say(line: impl Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
