//! A gateway in front of AI providers: plugins decide, the host does the I/O.

pub mod config;
pub mod demo;
pub mod error;
pub mod json;
pub mod meter;
pub mod multipart;
pub mod plugin;
pub mod upstream;
