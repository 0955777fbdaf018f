//! The Rust face of `wit/plugin.wit`, generated: one module for each world, with one set of types for both. Nothing is
//! written here by hand.
//!
//! `wit/plugin.wit` stands inside this crate, so that a copy of the crate's folder builds anywhere.
#![allow(unsafe_code, reason = "generated: crossing the component boundary takes raw pointers")]
#![allow(clippy::pedantic, missing_docs, reason = "generated")]

/// The world `channel-plugin`.
pub mod channel {
    wit_bindgen::generate!({
        path: "wit",
        world: "channel-plugin",
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "aiproxy_plugin_sdk::bindings::channel",
    });
}

/// The world `router-plugin`.
pub mod router {
    wit_bindgen::generate!({
        path: "wit",
        world: "router-plugin",
        with: {
            "aiproxy:plugin/types@0.1.0": crate::bindings::channel::aiproxy::plugin::types,
            "aiproxy:plugin/log@0.1.0": crate::bindings::channel::aiproxy::plugin::log,
        },
        additional_derives: [PartialEq],
        pub_export_macro: true,
        default_bindings_module: "aiproxy_plugin_sdk::bindings::router",
    });
}
