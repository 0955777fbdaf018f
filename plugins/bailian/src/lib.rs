//! Alibaba Bailian (DashScope): short OpenAI and Anthropic paths get the prefix that DashScope keeps them under,
//! everything else goes through as it came, and the key goes where DashScope reads it.
//!
//! No header is asked for and none is changed: what a client says in `X-DashScope-…` is between it and DashScope. So an
//! answer depends on method, path, query and model alone, and serves every caller.

mod usage;

use aiproxy_plugin_sdk::{
    Answer, Caller, Channel, ChannelConfig, Credential, Plan, Profile, Request, Reuse, channel_plugin, query_value,
};
use shared::owner::{Family, family, is_dashscope_path, is_google_request};
use shared::rewrites::{Rewrites, Settings};
use shared::short::{first_segment, resource};

channel_plugin!(Bailian);

/// One channel to DashScope.
#[derive(Debug)]
pub struct Bailian {
    rewrites: Rewrites,
}

impl Channel for Bailian {
    type Settings = Settings;

    fn configure(_channel: &ChannelConfig, settings: Settings) -> Result<(Self, Profile), String> {
        let profile = Profile {
            reads_model: true,
            // `run-task` on `/api-ws/v1/inference`; the realtime socket has its model in the query.
            socket_model: vec!["/payload/model".to_owned()],
            meters: usage::meters(),
            reuse: Reuse::AnyCaller,
            ..Profile::default()
        };
        Ok((Self { rewrites: settings.into() }, profile))
    }

    fn decide(&self, request: Request, _caller: Caller) -> Answer {
        let rewritten = self.rewrites.apply(request.transport, &request.path, request.query.as_deref());
        let (path, query) = match rewritten {
            Some(rewritten) => rewritten,
            None => match upstream_path(&request) {
                Some(path) => (path, request.query.clone()),
                None => return Answer::Decline,
            },
        };
        let mut plan = Plan::to(path).with_query(query).with_credential(Credential::bearer());
        plan.meters = usage::of(&request, &plan.path);
        if request.model.is_none() {
            plan.model = query_value(plan.query.as_deref(), "model").map(str::to_owned);
        }
        plan.into()
    }
}

/// Where a request goes on DashScope; none if it is surely another provider's.
fn upstream_path(request: &Request) -> Option<String> {
    let path = request.path.as_str();
    if is_dashscope_path(path) || path.starts_with("/api/v1/") {
        return Some(path.to_owned());
    }
    if is_google_request(request) {
        return None;
    }
    let model = request.model.as_deref().or_else(|| request.query_value("model"));
    if matches!(model.and_then(family), Some(Family::Google | Family::OpenAi | Family::Anthropic)) {
        return None;
    }
    let Some(resource) = resource(path) else { return Some(path.to_owned()) };
    match first_segment(resource) {
        "reranks" => Some(format!("/compatible-api/v1/{resource}")),
        "messages" => Some(format!("/apps/anthropic/v1/{resource}")),
        "realtime" if request.is_websocket() => Some(format!("/api-ws/v1/{resource}")),
        _ => Some(format!("/compatible-mode/v1/{resource}")),
    }
}

#[cfg(test)]
mod tests;
