//! The gateway's promises, one file each, against the library's own `run` and upstreams written as closures.

mod support;

mod access_log;
mod access_log_rotation;
mod browsers;
mod commands;
mod default_plugins;
mod edits;
mod errors;
mod framing;
mod hot_swap;
mod http;
mod identity;
mod limits;
mod metrics;
mod pages;
mod pages_access;
mod plugins;
mod profile;
mod reload;
mod routing;
mod secrets;
mod shutdown;
mod soak;
mod statistics;
mod statistics_kept;
mod streaming;
mod tls;
mod trace_context;
mod upstreams;
mod websocket;
mod websocket_ends;
mod websocket_frames;
mod websocket_handshake;
mod websocket_http2;
mod websocket_tls;
