//! What each subcommand does: joins the rooms below into a process.

pub mod check;
pub mod demo;
pub mod explain;
pub mod init;
pub mod serve;
