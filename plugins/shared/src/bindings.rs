//! The Rust face of `wit/plugin.wit`, generated; nothing is written here by hand.
#![allow(unsafe_code, reason = "generated: crossing the component boundary takes raw pointers")]
#![allow(clippy::pedantic, reason = "generated")]

wit_bindgen::generate!({
    path: "../../wit",
    world: "channel-plugin",
    additional_derives: [PartialEq],
    pub_export_macro: true,
    default_bindings_module: "shared::bindings",
});
