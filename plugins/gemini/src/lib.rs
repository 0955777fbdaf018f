//! Google's Gemini API: native paths go through as they came with the key in `x-goog-api-key`, short OpenAI paths are
//! led to `/v1beta/openai/…` with the key as a bearer token.
//!
//! No header is asked for, so an answer serves every caller. Nothing is translated: an OpenAI body sent to
//! `:generateContent` cannot be understood there, and a rewrite that asks for it is not applied.

mod route;
mod usage;

use aiproxy_plugin_sdk::{
    Answer, Caller, Channel, ChannelConfig, Credential, Plan, Presented, Profile, Refusal, Request, Reuse,
    channel_plugin, log, query_value,
};
use shared::rewrites::{Rewrite, Rewrites, Settings};
use shared::short::resource;

use route::Api;

channel_plugin!(Gemini);

/// One channel to the Gemini API.
#[derive(Debug)]
pub struct Gemini {
    rewrites: Rewrites,
}

impl Channel for Gemini {
    type Settings = Settings;

    fn configure(_channel: &ChannelConfig, settings: Settings) -> Result<(Self, Profile), String> {
        let mut rewrites = Rewrites::from(settings);
        for dropped in rewrites.drop_impossible(is_untranslatable) {
            log::warn(why_dropped(&dropped));
        }
        let profile = Profile {
            reads_model: true,
            // The first message of a Live socket.
            socket_model: vec!["/setup/model".to_owned()],
            meters: usage::meters(),
            reuse: Reuse::AnyCaller,
            ..Profile::default()
        };
        Ok((Self { rewrites }, profile))
    }

    fn decide(&self, request: Request, _caller: Caller) -> Answer {
        let rewritten = self.rewrites.apply(request.transport, &request.path, request.query.as_deref());
        let (path, query) = match rewritten {
            Some(rewritten) => rewritten,
            None => match route::upstream_path(&request) {
                Some(path) => (path, request.query.clone()),
                None => return Answer::Decline,
            },
        };
        let mut plan = Plan::to(path).with_query(query);
        match Api::of(&plan.path) {
            Api::OpenAi => plan.credentials.push(Credential::bearer()),
            Api::Native => plan.credentials.push(Credential::in_header("x-goog-api-key")),
            // An ephemeral token is a credential of the client's own, bound to constraints that our key would lift: so
            // our key stays out, and the token goes through beside the proxy key.
            Api::Constrained => {
                let has_token = query_value(plan.query.as_deref(), "access_token").is_some();
                if matches!(request.presented, Presented::Authorization(_)) && !has_token {
                    return token_missing().into();
                }
            }
        }
        plan.meters = usage::of(&request, &plan.path);
        plan.model = route::model(&plan.path, request.model.as_deref()).map(str::to_owned);
        plan.into()
    }
}

/// An OpenAI path led to a native method, as some configurations have it.
fn is_untranslatable(rewrite: &Rewrite) -> bool {
    resource(&rewrite.from).is_some() && !rewrite.from.contains(':') && route::verb(&rewrite.to).is_some()
}

fn why_dropped(rewrite: &Rewrite) -> String {
    let Rewrite { from, to, .. } = rewrite;
    format!(
        "path_rewrite[\"{from}\"] is not applied: `{to}` does not understand an OpenAI body, and bodies are not \
         translated; without it `{from}` goes to Gemini's own OpenAI-compatible path, so remove it"
    )
}

fn token_missing() -> Refusal {
    Refusal::new(
        400,
        "ephemeral_token_missing",
        "BidiGenerateContentConstrained takes an ephemeral token: show the proxy key as `x-goog-api-key` or `?key=`, and \
         the token as `Authorization: Token auth_tokens/…` or `?access_token=`",
    )
}

#[cfg(test)]
mod tests;
