//! Alibaba Bailian (DashScope): short OpenAI and Anthropic paths get the prefix that DashScope keeps them under,
//! everything else goes through as it came, and the key goes where DashScope reads it.
//!
//! No header is asked for and none is changed: what a client says in `X-DashScope-…` is between it and DashScope. So an
//! answer depends on method, path, query and model alone, and serves every caller.

mod usage;

use shared::owner::{Family, family, is_dashscope_path, is_google_request};
use shared::rewrites::{PATH_REWRITE, Rewrites, WEBSOCKET_ENDPOINTS};
use shared::settings::{Object, parse};
use shared::short::{first_segment, resource};
use shared::{Answer, Channel, ChannelConfig, Configured, Placement, Profile, Request, Reuse, Transport};

shared::component!(crate::Bailian);

/// One channel to DashScope.
#[derive(Debug)]
pub struct Bailian {
    rewrites: Rewrites,
}

impl Channel for Bailian {
    fn configure(config: &ChannelConfig) -> Result<Configured<Self>, String> {
        let settings = parse(&config.settings)?;
        let settings = Object::root(&settings, &[PATH_REWRITE, WEBSOCKET_ENDPOINTS])?;
        let profile = Profile {
            headers: Vec::new(),
            reads_model: true,
            body: Vec::new(),
            // `run-task` on `/api-ws/v1/inference`; the realtime socket has its model in the query.
            socket_model: vec!["/payload/model".to_owned()],
            meters: usage::meters(),
            reuse: Reuse::AnyCaller,
        };
        Ok(Configured { channel: Self { rewrites: Rewrites::read(&settings, &[])? }, profile, warnings: Vec::new() })
    }

    fn decide(&self, request: Request) -> Answer {
        let rewritten = self.rewrites.apply(request.transport, &request.path, request.query.as_deref());
        let (path, query) = match rewritten {
            Some(rewritten) => rewritten,
            None => match upstream_path(&request) {
                Some(path) => (path, request.query.clone()),
                None => return Answer::Decline,
            },
        };
        let mut plan = shared::plan(path, query);
        plan.meters = usage::of(&request, &plan.path);
        if request.model.is_none() {
            plan.model = shared::query_value(plan.query.as_deref(), "model").map(str::to_owned);
        }
        plan.credentials.push(shared::key_at(Placement::Authorization("Bearer".to_owned())));
        Answer::Send(plan)
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
    let model = request.model.as_deref().or_else(|| shared::query_value(request.query.as_deref(), "model"));
    if matches!(model.and_then(family), Some(Family::Google | Family::OpenAi | Family::Anthropic)) {
        return None;
    }
    let Some(resource) = resource(path) else { return Some(path.to_owned()) };
    match first_segment(resource) {
        "reranks" => Some(format!("/compatible-api/v1/{resource}")),
        "messages" => Some(format!("/apps/anthropic/v1/{resource}")),
        "realtime" if request.transport == Transport::Websocket => Some(format!("/api-ws/v1/{resource}")),
        _ => Some(format!("/compatible-mode/v1/{resource}")),
    }
}

#[cfg(test)]
mod tests;
