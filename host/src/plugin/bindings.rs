//! The bindings generated from `wit/plugin.wit`, and nothing else: no other file names the generated modules.
//!
//! One module for each world; what they have in common is the channel plugin's. Exports are called with `async` (the only
//! way to run the asynchronous WASI, see [`super::instance`]); the imported `log` is plain.
#![allow(unsafe_code, reason = "generated: the typed functions of an instance are asserted where they were checked")]
#![allow(clippy::pedantic, reason = "generated")]

wasmtime::component::bindgen!({
    path: "../wit",
    world: "channel-plugin",
    exports: { default: async },
    additional_derives: [PartialEq, Eq, Hash],
});

mod router_world {
    wasmtime::component::bindgen!({
        path: "../wit",
        world: "router-plugin",
        exports: { default: async },
        with: {
            "aiproxy:plugin/types": super::types,
            "aiproxy:plugin/log": super::log,
        },
    });
}

pub use self::aiproxy::plugin::log;
pub use self::aiproxy::plugin::types;
pub use self::exports::aiproxy::plugin::channel::{Answer, ChannelConfig};
pub use self::router_world::exports::aiproxy::plugin::router::Candidate;
pub use self::router_world::{RouterPlugin, RouterPluginPre};
