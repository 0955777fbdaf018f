//! A channel's plugin, as a value: [`Channel`], and the macro that makes a component of it.

use serde::de::DeserializeOwned;

use crate::{Answer, Caller, ChannelConfig, Profile, Request, settings};

/// A channel's plugin. One value serves one channel, in one instance of the component.
///
/// The host makes as many instances as its workers need, throws them away when it likes and never tells one of another:
/// what a value remembers between requests (in a `Cell` or `RefCell`; there are no threads) is an optimisation, and
/// should not be seen in its answers. Credentials never come in here.
pub trait Channel: Sized {
    /// What the operator writes in the channel's `settings`: a type with `#[derive(Deserialize)]`, or `()` for a plugin
    /// that takes none. [`settings`] says how it is read.
    type Settings: DeserializeOwned;

    /// Makes the value and says what it wants to see of requests. An error refuses this version of the plugin, in the
    /// operator's hands: it names the setting and the remedy.
    ///
    /// The same configuration must always give the same profile. What may be wrong and does no harm is for
    /// [`log::warn`](crate::log::warn).
    fn configure(channel: &ChannelConfig, settings: Self::Settings) -> Result<(Self, Profile), String>;

    /// Decides on one request: send it so, decline it (the caller's next channel is asked), or refuse it.
    fn decide(&self, request: Request, caller: Caller) -> Answer;
}

/// Reads the settings out of a channel's configuration and configures a plugin with them, as the component does it.
pub fn configure<C: Channel>(channel: &ChannelConfig) -> Result<(C, Profile), String> {
    C::configure(channel, settings::from_json(&channel.settings)?)
}

/// Makes a component of a [`Channel`]: `channel_plugin!(MyPlugin);`, once in a crate.
///
/// On other targets than wasm32 this is nothing, so that the same code is tested natively.
#[macro_export]
macro_rules! channel_plugin {
    ($channel:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exported symbols")]
        const _: () = {
            ::std::thread_local! {
                // Not a plain static: the value need not be `Sync`, and there is one thread. It lives as long as the
                // instance, so nothing is to be dropped.
                static CHANNEL: ::std::cell::Cell<::std::option::Option<&'static $channel>> =
                    const { ::std::cell::Cell::new(::std::option::Option::None) };
            }

            struct AiproxyComponent;

            impl $crate::bindings::channel::exports::aiproxy::plugin::channel::Guest for AiproxyComponent {
                fn configure(
                    channel: $crate::ChannelConfig,
                ) -> ::std::result::Result<$crate::Profile, ::std::string::String> {
                    let (value, profile) = $crate::channel::configure::<$channel>(&channel)?;
                    let value = ::std::boxed::Box::leak(::std::boxed::Box::new(value));
                    if CHANNEL.replace(::std::option::Option::Some(value)).is_some() {
                        return ::std::result::Result::Err("configure was called twice".into());
                    }
                    ::std::result::Result::Ok(profile)
                }

                fn decide(request: $crate::Request, caller: $crate::Caller) -> $crate::Answer {
                    let channel = CHANNEL.get().expect("configure comes before decide");
                    $crate::Channel::decide(channel, request, caller)
                }
            }

            $crate::bindings::channel::export! { AiproxyComponent with_types_in $crate::bindings::channel }
        };
    };
}
