//! A channel to a provider with an OpenAI-compatible API.
//!
//! It leads `/v1/…` to the provider's own prefix, refuses models that the channel is not for, tells the provider who
//! calls, and puts the channel's key where the provider reads it. The key itself never comes in here.

use aiproxy_plugin_sdk::{
    Answer, Caller, Channel, ChannelConfig, Credential, Meter, Plan, Profile, Request, Reuse,
    channel_plugin, log,
};
use serde::Deserialize;

channel_plugin!(MyPlugin);

/// What the operator writes in the channel's `settings`.
#[derive(Deserialize)]
#[serde(default)]
pub struct Settings {
    /// Where the provider keeps what clients call `/v1`.
    prefix: Prefix,
    /// The models that this channel is for; none: all.
    models: Option<Vec<String>>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            prefix: Prefix("/v1".into()),
            models: None,
        }
    }
}

/// A path: what is wrong with it is said as the settings are read, with its place.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.starts_with('/') && !text.contains(char::is_whitespace) {
            return Ok(Self(text));
        }
        Err(format!(
            "expected a path that begins with `/` and has no spaces, found `{text}`"
        ))
    }
}

/// One channel. The gateway makes one for each of its instances of this component.
pub struct MyPlugin {
    settings: Settings,
}

impl Channel for MyPlugin {
    type Settings = Settings;

    /// Called once, first. An error refuses this version of the plugin with its text.
    fn configure(_channel: &ChannelConfig, settings: Settings) -> Result<(Self, Profile), String> {
        log::info(format!("serving under {}", settings.prefix.0));
        let profile = Profile {
            // Only these headers are shown to `decide`; credentials and cookies never are.
            headers: vec!["x-tenant".into()],
            // `decide` wants to know the model, so the gateway looks for it in the body.
            reads_model: true,
            // Where replies say what was used; the first of the pointers that is there counts.
            meters: vec![vec![
                Meter::last(
                    "input",
                    &[&["/usage/prompt_tokens"], &["/usage/input_tokens"]],
                ),
                Meter::last(
                    "output",
                    &[&["/usage/completion_tokens"], &["/usage/output_tokens"]],
                ),
            ]],
            // The plan names the caller: it may be used again for equal requests of the same one.
            reuse: Reuse::SameCaller,
            ..Profile::default()
        };
        Ok((Self { settings }, profile))
    }

    /// Called for each request, with its head alone.
    fn decide(&self, request: Request, caller: Caller) -> Answer {
        let Some(resource) = request.path.strip_prefix("/v1/") else {
            return Answer::Decline;
        };
        if let (Some(models), Some(model)) = (&self.settings.models, &request.model)
            && !models.contains(model)
        {
            let message = format!("the model `{model}` is not served by this channel");
            return Answer::refuse(404, "model_not_found", message);
        }
        let prefix = self.settings.prefix.0.trim_end_matches('/');
        let mut plan = Plan::to(format!("{prefix}/{resource}"))
            .with_query(request.query.clone())
            .with_credential(Credential::bearer())
            .with_meters(0)
            .set_header("x-client", &caller.id)
            .remove_header("x-tenant");
        if let Some(tenant) = request.header("x-tenant") {
            plan = plan.set_header("x-organization", tenant);
        }
        // Only where the body surely is JSON: the gateway refuses to edit any other.
        if request.method == "POST" && request.model.is_some() {
            plan = plan.default_field("/user", caller.id);
        }
        plan.into()
    }
}

#[cfg(test)]
mod tests;
