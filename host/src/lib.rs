//! A gateway in front of AI providers: plugins decide, the host does the I/O.
//!
//! A request meets the modules in this order. [`server`] accepts its connection and gives it to a worker thread, on
//! which it stays. [`pages`] takes the few built-in paths; everything else is an exchange, and [`exchange`] is the one
//! file that knows the order of its stages: whose proxy key is it, what does its body say, which channel's plugin
//! sends it and how, off to the provider, and the reply streamed back. For that it asks [`plugin`] (sandboxed
//! WebAssembly components), sends through [`upstream`] (connections to providers), reads bodies with [`json`] and
//! [`multipart`], replies with [`meter`], and counts in [`stats`]. What an exchange runs on, from its first byte to its
//! last, is one immutable [`generation`] of [`config`] and plugin versions.
//!
//! Dependencies point downwards only: `main` → `commands` → `server` → `exchange` → `plugin`, `upstream`, `stats` →
//! `config`, `error`.

pub mod cli;
pub mod commands;
pub mod config;
pub mod demo;
pub mod digest;
pub mod error;
pub mod exchange;
mod gather;
pub mod generation;
pub mod json;
mod memory;
pub mod meter;
pub mod multipart;
pub mod pages;
mod path;
pub mod plugin;
pub mod server;
pub mod shutdown;
pub mod state;
pub mod stats;
mod stream;
pub mod telemetry;
pub mod upstream;
