//! What makes a test read in ten lines: a gateway, upstreams that are closures, clients; all on port 0.

pub mod access_log;
pub mod ask;
pub mod binary;
pub mod captures;
pub mod client;
pub mod compiled;
pub mod conf;
pub mod dummies;
pub mod gateway;
pub mod guests;
pub mod http2;
pub mod loaded;
pub mod process;
pub mod sockets;
pub mod tls;
pub mod upstream;
pub mod wire;

pub use ask::{ask, call};
pub use client::{Answer, Raw, get, post, send};
pub use conf::{Conf, KEY, UPSTREAM_KEY, channel};
pub use gateway::Gateway;
pub use http2::Http2;
pub use process::Process;
pub use tls::{TestCa, TlsClient, TlsUpstream};
pub use upstream::{Body, Upstream, reply, stream, whole};
pub use wire::{Message, RawUpstream, request, soon};
