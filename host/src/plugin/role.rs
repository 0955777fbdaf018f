//! What a component can be to the host: a channel's plugin, or the router.
//!
//! The two differ in the interface that they export and in what an instance is configured for; how they are loaded, kept
//! ready, bounded and found out is the same, and generic over a [`Role`].

use wasmtime::Store;
use wasmtime::component::InstancePre;

use super::bindings::{ChannelConfig, ChannelPlugin, ChannelPluginPre, RouterPlugin, RouterPluginPre, types};
use super::store::State;
use crate::config::{Channel, Router};

/// What `configure` answers: a profile, or why not; the outer error is a call that was broken off.
pub type Configured = wasmtime::Result<Result<types::Profile, String>>;

/// Implemented by what instances are configured for.
pub trait Role: PartialEq + Send + Sync + Sized + 'static {
    /// The component, linked.
    type Pre: Send + Sync;
    /// A live instance's functions.
    type Exports: Send;

    /// The interface that such a component exports, without its version.
    const INTERFACE: &'static str;
    /// Whose plugin it is, in messages.
    const WHOSE: &'static str;

    /// For log lines: the channel, or nothing.
    fn channel_id(&self) -> &str;

    fn link(pre: InstancePre<State>) -> wasmtime::Result<Self::Pre>;

    fn instance_pre(pre: &Self::Pre) -> &InstancePre<State>;

    fn instantiate(
        pre: &Self::Pre,
        store: &mut Store<State>,
    ) -> impl Future<Output = wasmtime::Result<Self::Exports>> + Send;

    fn configure(&self, exports: &Self::Exports, store: &mut Store<State>) -> impl Future<Output = Configured> + Send;
}

impl Role for Channel {
    type Pre = ChannelPluginPre<State>;
    type Exports = ChannelPlugin;

    const INTERFACE: &'static str = "aiproxy:plugin/channel";
    const WHOSE: &'static str = "The channel's plugin";

    fn channel_id(&self) -> &str {
        &self.id
    }

    fn link(pre: InstancePre<State>) -> wasmtime::Result<Self::Pre> {
        ChannelPluginPre::new(pre)
    }

    fn instance_pre(pre: &Self::Pre) -> &InstancePre<State> {
        pre.instance_pre()
    }

    async fn instantiate(pre: &Self::Pre, store: &mut Store<State>) -> wasmtime::Result<ChannelPlugin> {
        pre.instantiate_async(store).await
    }

    async fn configure(&self, exports: &ChannelPlugin, store: &mut Store<State>) -> Configured {
        exports.aiproxy_plugin_channel().call_configure(store, &channel_config(self)).await
    }
}

impl Role for Router {
    type Pre = RouterPluginPre<State>;
    type Exports = RouterPlugin;

    const INTERFACE: &'static str = "aiproxy:plugin/router";
    const WHOSE: &'static str = "The router";

    fn channel_id(&self) -> &'static str {
        ""
    }

    fn link(pre: InstancePre<State>) -> wasmtime::Result<Self::Pre> {
        RouterPluginPre::new(pre)
    }

    fn instance_pre(pre: &Self::Pre) -> &InstancePre<State> {
        pre.instance_pre()
    }

    async fn instantiate(pre: &Self::Pre, store: &mut Store<State>) -> wasmtime::Result<RouterPlugin> {
        pre.instantiate_async(store).await
    }

    async fn configure(&self, exports: &RouterPlugin, store: &mut Store<State>) -> Configured {
        exports.aiproxy_plugin_router().call_configure(store, &self.settings).await
    }
}

fn channel_config(channel: &Channel) -> ChannelConfig {
    // The key is there even while its value is missing: what a request then gets is the host's business.
    let named = channel.secrets.keys().filter(|name| *name != "key").cloned();
    ChannelConfig {
        id: channel.id.clone(),
        name: channel.name.clone(),
        settings: channel.settings.clone(),
        endpoints: channel.endpoints.keys().cloned().collect(),
        secrets: std::iter::once("key".to_owned()).chain(named).collect(),
        options: Vec::new(),
    }
}
