//! What the default channel plugins have in common: the bindings, and the parts of an answer that do not depend on the
//! provider.
//!
//! A plugin implements [`Channel`] as plain functions over plain data and names its type in [`component!`], which turns
//! it into a component on wasm32 and into nothing elsewhere: so the same code is tested natively, without a runtime.
//! Nothing in here knows a provider's paths except [`owner`], which knows just enough of all of them to tell whose a
//! request surely is.

pub mod bindings;
pub mod meters;
pub mod owner;
pub mod rewrites;
pub mod settings;
pub mod short;

pub use bindings::aiproxy::plugin::log;
pub use bindings::aiproxy::plugin::types::{
    BodyEdit, Caller, Credential, Field, Fold, HeaderEdit, Meter, Placement, Plan, Presented, Profile, Refusal,
    Request, Reuse, Transport,
};
pub use bindings::exports::aiproxy::plugin::channel::{Answer, ChannelConfig};

/// The secret that every channel has: its upstream key.
pub const KEY: &str = "key";

/// One channel's plugin, as a value.
pub trait Channel: Sized {
    /// Reads the channel's configuration. The error names the setting and the remedy.
    fn configure(config: &ChannelConfig) -> Result<Configured<Self>, String>;

    /// Decides on one request. The caller is not told: no default plugin treats callers differently, and that is why
    /// their answers may be reused for any caller.
    fn decide(&self, request: Request) -> Answer;
}

/// What [`Channel::configure`] gives.
#[derive(Debug)]
pub struct Configured<C> {
    pub channel: C,
    pub profile: Profile,
    /// For the operator: what was configured and is not applied, and why.
    pub warnings: Vec<String>,
}

/// A plan that changes nothing but the path and the query.
#[must_use]
pub fn plan(path: String, query: Option<String>) -> Plan {
    Plan {
        endpoint: None,
        path,
        query,
        headers: Vec::new(),
        body: Vec::new(),
        credentials: Vec::new(),
        model: None,
        meters: None,
        options: Vec::new(),
    }
}

/// The upstream key, at `place`.
#[must_use]
pub fn key_at(place: Placement) -> Credential {
    Credential { secret: KEY.to_owned(), place }
}

/// The value of the query parameter `name`, undecoded: what is looked for (models, `alt=sse`) needs no decoding.
#[must_use]
pub fn query_value<'q>(query: Option<&'q str>, name: &str) -> Option<&'q str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Makes a component of a [`Channel`]: state is one value per instance, since one instance serves one channel.
#[macro_export]
macro_rules! component {
    ($channel:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exported symbols")]
        mod component {
            use std::sync::OnceLock;

            use $crate::bindings::exports::aiproxy::plugin::channel::Guest;
            use $crate::{Answer, Caller, Channel, ChannelConfig, Profile, Request, log};

            static CHANNEL: OnceLock<$channel> = OnceLock::new();

            struct Component;

            impl Guest for Component {
                fn configure(config: ChannelConfig) -> Result<Profile, String> {
                    let configured = <$channel>::configure(&config)?;
                    for warning in &configured.warnings {
                        log::log(log::Level::Warn, warning);
                    }
                    CHANNEL.set(configured.channel).map_err(|_| "configure was called twice".to_owned())?;
                    Ok(configured.profile)
                }

                fn decide(request: Request, _caller: Caller) -> Answer {
                    CHANNEL.get().expect("configure comes before decide").decide(request)
                }
            }

            $crate::bindings::export!(Component with_types_in $crate::bindings);
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_value_is_found_by_its_whole_name() {
        let query = Some("submodel=x&model=qwen-omni&alt=sse");
        assert_eq!(query_value(query, "model"), Some("qwen-omni"));
        assert_eq!(query_value(query, "alt"), Some("sse"));
        assert_eq!(query_value(query, "al"), None);
        assert_eq!(query_value(None, "model"), None);
    }
}
