//! Google's Gemini API: native paths go through as they came with the key in `x-goog-api-key`, short OpenAI paths are
//! led to `/v1beta/openai/…` with the key as a bearer token.
//!
//! No header is asked for, so an answer serves every caller. Nothing is translated: an OpenAI body sent to
//! `:generateContent` cannot be understood there, and a rewrite that asks for it is not applied.

mod route;
mod usage;

use shared::rewrites::{PATH_REWRITE, Rewrite, Rewrites, WEBSOCKET_ENDPOINTS};
use shared::settings::{Object, parse};
use shared::short::resource;
use shared::{Answer, Channel, ChannelConfig, Configured, Placement, Presented, Profile, Refusal, Request, Reuse};

use route::Api;

shared::component!(crate::Gemini);

/// One channel to the Gemini API.
#[derive(Debug)]
pub struct Gemini {
    rewrites: Rewrites,
}

impl Channel for Gemini {
    fn configure(config: &ChannelConfig) -> Result<Configured<Self>, String> {
        let settings = parse(&config.settings)?;
        let settings = Object::root(&settings, &[PATH_REWRITE, WEBSOCKET_ENDPOINTS])?;
        let mut rewrites = Rewrites::read(&settings, &[])?;
        let dropped = rewrites.drop_impossible(is_untranslatable);
        let profile = Profile {
            headers: Vec::new(),
            reads_model: true,
            body: Vec::new(),
            // The first message of a Live socket.
            socket_model: vec!["/setup/model".to_owned()],
            meters: usage::meters(),
            reuse: Reuse::AnyCaller,
        };
        let warnings = dropped.iter().map(why_dropped).collect();
        Ok(Configured { channel: Self { rewrites }, profile, warnings })
    }

    fn decide(&self, request: Request) -> Answer {
        let rewritten = self.rewrites.apply(request.transport, &request.path, request.query.as_deref());
        let (path, query) = match rewritten {
            Some(rewritten) => rewritten,
            None => match route::upstream_path(&request) {
                Some(path) => (path, request.query.clone()),
                None => return Answer::Decline,
            },
        };
        let mut plan = shared::plan(path, query);
        match Api::of(&plan.path) {
            Api::OpenAi => plan.credentials.push(shared::key_at(Placement::Authorization("Bearer".to_owned()))),
            Api::Native => plan.credentials.push(shared::key_at(Placement::Header("x-goog-api-key".to_owned()))),
            // An ephemeral token is a credential of the client's own, bound to constraints that our key would lift: so
            // our key stays out, and the token goes through beside the proxy key.
            Api::Constrained => {
                let has_token = shared::query_value(plan.query.as_deref(), "access_token").is_some();
                if matches!(request.presented, Presented::Authorization(_)) && !has_token {
                    return Answer::Refuse(token_missing());
                }
            }
        }
        plan.meters = usage::of(&request, &plan.path);
        plan.model = route::model(&plan.path, request.model.as_deref()).map(str::to_owned);
        Answer::Send(plan)
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
    Refusal {
        status: 400,
        code: "ephemeral_token_missing".to_owned(),
        message: "BidiGenerateContentConstrained takes an ephemeral token: show the proxy key as `x-goog-api-key` or \
                  `?key=`, and the token as `Authorization: Token auth_tokens/…` or `?access_token=`"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests;
