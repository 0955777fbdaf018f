//! The bindings generated from `wit/plugin.wit`. Exports only in the component: elsewhere their symbols do not link.
#![allow(unsafe_code, reason = "generated")]
#![allow(clippy::pedantic, clippy::all, reason = "generated")]

wit_bindgen::generate!({ path: "../../../wit", world: "router-plugin" });

#[cfg(target_arch = "wasm32")]
export!(Marshal with_types_in self);

#[cfg(target_arch = "wasm32")]
use crate::Marshal;
