//! Any provider with an OpenAI-compatible API, from configuration alone.
//!
//! What a provider does differently from OpenAI is said in the channel's settings (see [`config`]), so that adding one
//! needs no code. An answer depends on method, path, query and model, on no header, and so serves every caller.

mod config;
mod edits;

use aiproxy_plugin_sdk::{
    Answer, Caller, Channel, ChannelConfig, Meter, Plan, Profile, Request, Reuse, Transport, channel_plugin,
    query_value,
};
use shared::meters;
use shared::owner::{google_verb, is_dashscope_path, is_google_request};
use shared::short::resource;

use config::{Config, Settings};

channel_plugin!(OpenAi);

const COMPATIBLE: u32 = 0;
const ANTHROPIC: u32 = 1;
const REALTIME: u32 = 2;

/// The sets, in the order of the constants above.
fn meter_sets() -> Vec<Vec<Meter>> {
    vec![meters::openai(), meters::anthropic(), meters::realtime()]
}

/// One channel to an OpenAI-compatible provider.
#[derive(Debug)]
pub struct OpenAi {
    config: Config,
}

impl Channel for OpenAi {
    type Settings = Settings;

    fn configure(_channel: &ChannelConfig, settings: Settings) -> Result<(Self, Profile), String> {
        let profile = Profile {
            reads_model: true,
            socket_model: vec!["/session/model".to_owned()],
            meters: meter_sets(),
            reuse: Reuse::AnyCaller,
            ..Profile::default()
        };
        Ok((Self { config: settings.into() }, profile))
    }

    fn decide(&self, request: Request, _caller: Caller) -> Answer {
        let config = &self.config;
        let rewritten = config.rewrites.apply(request.transport, &request.path, request.query.as_deref());
        let (path, query) = match rewritten {
            Some(rewritten) => rewritten,
            None => match upstream_path(&request, &config.prefix) {
                Some(path) => (path, request.query.clone()),
                None => return Answer::Decline,
            },
        };
        let asked = request.model.as_deref().or_else(|| query_value(query.as_deref(), "model"));
        if asked.is_some_and(|model| !config.serves(model)) {
            return Answer::Decline;
        }
        let alias = request.model.as_deref().and_then(|model| config.alias(model));
        let model = alias.or(asked);

        let mut plan = Plan::to(path);
        plan.meters = meters_of(&request, &plan.path);
        plan.headers.clone_from(&config.headers);
        plan.body = edits::of(&request, alias, config);
        plan.credentials.extend(config.key.clone());
        if model != request.model.as_deref() {
            plan.model = model.map(str::to_owned);
        }
        plan.query = query;
        plan.into()
    }
}

/// Where a request goes; none if only another provider has a place for it.
fn upstream_path(request: &Request, prefix: &str) -> Option<String> {
    let path = request.path.as_str();
    let has_prefix = path.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'));
    // A prefix of the provider's own is as good as a rewrite; `/v1` is what every client writes for anybody.
    if has_prefix && !matches!(prefix, "" | "/v1") && google_verb(request).is_none() {
        return Some(path.to_owned());
    }
    if is_google_request(request) || is_dashscope_path(path) {
        return None;
    }
    Some(resource(path).map_or_else(|| path.to_owned(), |resource| format!("{prefix}/{resource}")))
}

/// The set for a request; none where no usage is reported.
fn meters_of(request: &Request, path: &str) -> Option<u32> {
    match request.transport {
        Transport::Websocket => Some(REALTIME),
        // A stored response carries its usage again when it is read.
        Transport::Http if request.method != "POST" || path.ends_with("/count_tokens") => None,
        Transport::Http if path.ends_with("/messages") && !path.contains("/threads/") => Some(ANTHROPIC),
        Transport::Http => Some(COMPATIBLE),
    }
}

#[cfg(test)]
mod tests;
