//! Write plugins for `aiproxy-host` in Rust.
//!
//! A plugin decides how one request is sent to a provider; the gateway does the rest. It is given plain data (method,
//! path, the headers it asked for, the model, who calls) and answers with plain data (path, edits, which secret goes
//! where). It holds no key, opens no socket and waits for nothing: so it is a function, and tested like one.
//!
//! # A plugin
//!
//! One `impl` of [`Channel`], and one macro line that makes a component of it:
//!
//! ```
//! use aiproxy_plugin_sdk::{
//!     Answer, Caller, Channel, ChannelConfig, Credential, Meter, Plan, Profile, Request, Reuse, channel_plugin, log,
//! };
//! use serde::Deserialize;
//!
//! /// What the operator writes in the channel's `settings`.
//! #[derive(Deserialize)]
//! struct Settings {
//!     #[serde(default = "default_prefix")]
//!     prefix: String,
//!     models: Option<Vec<String>>,
//! }
//!
//! fn default_prefix() -> String {
//!     "/v1".into()
//! }
//!
//! /// One channel to the provider.
//! struct MyPlugin {
//!     settings: Settings,
//! }
//!
//! channel_plugin!(MyPlugin);
//!
//! impl Channel for MyPlugin {
//!     type Settings = Settings;
//!
//!     fn configure(channel: &ChannelConfig, settings: Settings) -> Result<(Self, Profile), String> {
//!         if !settings.prefix.starts_with('/') {
//!             return Err(format!("settings.prefix: `{}` does not begin with `/`", settings.prefix));
//!         }
//!         log::info(format!("{} serves under {}", channel.id, settings.prefix));
//!         let profile = Profile {
//!             headers: vec!["x-tenant".into()],
//!             reads_model: true,
//!             meters: vec![vec![Meter::last("input", &[&["/usage/prompt_tokens"], &["/usage/input_tokens"]])]],
//!             reuse: Reuse::SameCaller,
//!             ..Profile::default()
//!         };
//!         Ok((Self { settings }, profile))
//!     }
//!
//!     fn decide(&self, request: Request, caller: Caller) -> Answer {
//!         let Some(resource) = request.path.strip_prefix("/v1/") else { return Answer::Decline };
//!         if let (Some(models), Some(model)) = (&self.settings.models, &request.model)
//!             && !models.contains(model)
//!         {
//!             return Answer::refuse(404, "model_not_found", format!("the model `{model}` is not served here"));
//!         }
//!         let mut plan = Plan::to(format!("{}/{resource}", self.settings.prefix))
//!             .with_query(request.query.clone())
//!             .with_credential(Credential::bearer())
//!             .with_meters(0)
//!             .set_header("x-client", &caller.id)
//!             .remove_header("x-tenant");
//!         if let Some(tenant) = request.header("x-tenant") {
//!             plan = plan.set_header("x-organization", tenant);
//!         }
//!         plan.into()
//!     }
//! }
//!
//! // In `#[test]`s, natively: neither WebAssembly nor a gateway is needed.
//! use aiproxy_plugin_sdk::testing::{caller, configure, request, sent};
//!
//! let (plugin, _) = configure::<MyPlugin>(r#"{"prefix": "/api/v1"}"#).unwrap();
//! let request = request("POST", "/v1/chat").with_model("m").with_header("x-tenant", "acme");
//! let plan = sent(plugin.decide(request, caller("alice")));
//! assert_eq!(plan.path, "/api/v1/chat");
//! assert_eq!(plan.credentials, [Credential::bearer()]);
//!
//! // What the operator reads who misspells a setting.
//! let error = configure::<MyPlugin>(r#"{"prefx": "/v1"}"#).err().unwrap();
//! assert_eq!(error, "settings: unknown setting `prefx`; did you mean `prefix`? (known: prefix, models)");
//! ```
//!
//! The crate's type is `cdylib`, and `cargo build --release --target wasm32-wasip2` makes the component, which is deployed
//! by copying it into the gateway's folder `plugins`.
//!
//! # What is where
//!
//! - [`Channel`] and [`channel_plugin!`], [`Router`] and [`router_plugin!`]: a plugin is one or the other.
//! - [`settings`]: reading settings through serde, with errors for operators.
//! - [`Plan`], [`Credential`], [`Meter`], [`Request`], [`Candidate`]: the interface's plain data, with functions to build
//!   and read it. All fields are public: a struct literal is as good.
//! - [`log`]: lines in the gateway's log.
//! - [`testing`]: requests, callers and configured plugins for tests.
//!
//! # What a plugin can rely on, and what not
//!
//! - One value serves one channel, one call at a time. Several instances live at once, and any of them may be replaced
//!   between two requests: state is for speed, not for meaning.
//! - A call has a deadline of milliseconds and a bounded memory. A panic ends the exchange that asked, throws the instance
//!   away, and its text stands in the gateway's log.
//! - Answers are checked by the host like a stranger's input: no control bytes, no hop-by-hop headers, no secrets or
//!   endpoints that the channel's configuration does not name.
//! - With [`Reuse`] other than `Never`, the host may give an earlier answer to an equal request: decide by the request (and
//!   the caller, with `SameCaller`) alone.
//! - There are no files, no network, no environment. Clocks and random numbers work.

#[doc(hidden)]
pub mod bindings;
pub mod channel;
pub mod log;
mod plan;
mod profile;
mod request;
pub mod router;
pub mod settings;
pub mod testing;

pub use bindings::channel::aiproxy::plugin::types::{
    BodyEdit, Caller, Credential, Field, Fold, HeaderEdit, Meter, Placement, Plan, Presented, Profile, Refusal,
    Request, Reuse, Signature, Transport,
};
pub use bindings::channel::exports::aiproxy::plugin::channel::{Answer, ChannelConfig};
pub use bindings::router::exports::aiproxy::plugin::router::Candidate;
pub use channel::Channel;
pub use plan::KEY;
pub use request::query_value;
pub use router::Router;
