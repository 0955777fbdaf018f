//! A router, as a value: [`Router`], and the macro that makes a component of it.

use serde::de::DeserializeOwned;

use crate::{Caller, Candidate, Profile, Refusal, Request, settings};

/// A router: it orders the channels that could take a request. One value lives in one instance of the component.
///
/// It is asked after the channels' plugins: its candidates are the channels whose plugin sends the request.
///
/// ```
/// use aiproxy_plugin_sdk::{Caller, Candidate, Profile, Refusal, Request, Router, router_plugin};
///
/// /// Available channels only, the quickest first.
/// struct Quickest;
///
/// router_plugin!(Quickest);
///
/// impl Router for Quickest {
///     type Settings = ();
///
///     fn configure(_settings: ()) -> Result<(Self, Profile), String> {
///         Ok((Self, Profile::default()))
///     }
///
///     fn route(&self, _: Request, _: Caller, mut candidates: Vec<Candidate>) -> Result<Vec<String>, Refusal> {
///         candidates.retain(|candidate| candidate.available);
///         if candidates.is_empty() {
///             return Err(Refusal::new(503, "all_are_down", "no channel is available; try again later"));
///         }
///         let latency = |candidate: &Candidate| candidate.signal("latency-ms").unwrap_or(0.0);
///         candidates.sort_by(|left, right| latency(left).total_cmp(&latency(right)));
///         Ok(candidates.into_iter().map(|candidate| candidate.channel).collect())
///     }
/// }
///
/// use aiproxy_plugin_sdk::testing::{caller, candidate, configure_router, request};
///
/// let (router, _) = configure_router::<Quickest>("{}").unwrap();
/// let slow = Candidate { signals: vec![("latency-ms".into(), 900.0)], ..candidate("slow") };
/// let down = Candidate { available: false, ..candidate("down") };
/// let order = router.route(request("POST", "/v1/x"), caller("alice"), vec![slow, down, candidate("new")]);
/// assert_eq!(order.unwrap(), ["new", "slow"]);
/// ```
pub trait Router: Sized {
    /// What the operator writes in the router's `settings`; `()` for a router that takes none. [`settings`] says how it
    /// is read.
    type Settings: DeserializeOwned;

    /// Makes the value and says what it wants to see of requests; `meters` and `socket_model` are of no use to a router.
    /// An error refuses this version of the router: it names the setting and the remedy.
    fn configure(settings: Self::Settings) -> Result<(Self, Profile), String>;

    /// The ids of channels, best first: the order of attempts. Those left out are not tried.
    fn route(&self, request: Request, caller: Caller, candidates: Vec<Candidate>) -> Result<Vec<String>, Refusal>;
}

/// Reads settings and configures a router with them, as the component does it.
pub fn configure<R: Router>(settings: &str) -> Result<(R, Profile), String> {
    R::configure(settings::from_json(settings)?)
}

impl Candidate {
    /// What is known under a name: `in-flight`, `latency-ms`, `error-rate`; none where it is unknown.
    pub fn signal(&self, name: &str) -> Option<f64> {
        self.signals.iter().find(|(known, _)| known == name).map(|(_, value)| *value)
    }
}

/// Makes a component of a [`Router`]: `router_plugin!(MyRouter);`, once in a crate.
///
/// On other targets than wasm32 this is nothing, so that the same code is tested natively.
#[macro_export]
macro_rules! router_plugin {
    ($router:ty) => {
        #[cfg(target_arch = "wasm32")]
        #[allow(unsafe_code, reason = "generated: exported symbols")]
        const _: () = {
            ::std::thread_local! {
                // Not a plain static: the value need not be `Sync`, and there is one thread. It lives as long as the
                // instance, so nothing is to be dropped.
                static ROUTER: ::std::cell::Cell<::std::option::Option<&'static $router>> =
                    const { ::std::cell::Cell::new(::std::option::Option::None) };
            }

            struct AiproxyComponent;

            impl $crate::bindings::router::exports::aiproxy::plugin::router::Guest for AiproxyComponent {
                fn configure(
                    settings: ::std::string::String,
                ) -> ::std::result::Result<$crate::Profile, ::std::string::String> {
                    let (value, profile) = $crate::router::configure::<$router>(&settings)?;
                    let value = ::std::boxed::Box::leak(::std::boxed::Box::new(value));
                    if ROUTER.replace(::std::option::Option::Some(value)).is_some() {
                        return ::std::result::Result::Err("configure was called twice".into());
                    }
                    ::std::result::Result::Ok(profile)
                }

                fn route(
                    request: $crate::Request,
                    caller: $crate::Caller,
                    candidates: ::std::vec::Vec<$crate::Candidate>,
                ) -> ::std::result::Result<::std::vec::Vec<::std::string::String>, $crate::Refusal> {
                    let router = ROUTER.get().expect("configure comes before route");
                    $crate::Router::route(router, request, caller, candidates)
                }
            }

            $crate::bindings::router::export! { AiproxyComponent with_types_in $crate::bindings::router }
        };
    };
}

#[cfg(test)]
mod tests {
    use crate::Candidate;
    use crate::testing::candidate;

    #[test]
    fn a_signal_that_is_absent_is_unknown_and_not_zero() {
        let known = Candidate { signals: vec![("in-flight".into(), 0.0)], ..candidate("a") };
        assert_eq!((known.signal("in-flight"), known.signal("latency-ms")), (Some(0.0), None));
    }
}
