//! For the tests of plugins: requests, callers and candidates with as little said as matters, and plugins configured as
//! the host would. None of it needs WebAssembly, and none of it ends up in a component.

use std::fmt::Display;

use crate::{
    Answer, Caller, Candidate, Channel, ChannelConfig, Plan, Presented, Profile, Refusal, Request, Router, Transport,
};

/// A request over HTTP without anything but a method and a path; its proxy key came as a bearer token. The rest is said
/// with `..`, or with the `with_…` functions of [`Request`].
pub fn request(method: &str, path: &str) -> Request {
    Request {
        transport: Transport::Http,
        method: method.to_owned(),
        path: path.to_owned(),
        query: None,
        presented: Presented::Authorization("bearer".to_owned()),
        headers: Vec::new(),
        model: None,
        streaming: false,
        body: Vec::new(),
    }
}

/// A client that opens a WebSocket.
pub fn socket(path: &str) -> Request {
    Request { transport: Transport::Websocket, ..request("GET", path) }
}

impl Request {
    /// For tests: with this query, without `?`.
    pub fn with_query(self, query: &str) -> Self {
        Self { query: Some(query.to_owned()), ..self }
    }

    /// For tests: with this model in its body.
    pub fn with_model(self, model: &str) -> Self {
        Self { model: Some(model.to_owned()), ..self }
    }

    /// For tests: with one more header, as the host would show it if the profile asked for it.
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// For tests: with what stands at the profile's next `body` pointer.
    pub fn with_field(mut self, value: Option<&str>) -> Self {
        self.body.push(value.map(str::to_owned));
        self
    }

    /// For tests: with the proxy key shown in another form.
    pub fn with_presented(self, presented: Presented) -> Self {
        Self { presented, ..self }
    }
}

/// A caller without tags.
pub fn caller(id: &str) -> Caller {
    Caller { id: id.to_owned(), tags: Vec::new() }
}

/// An available channel of priority 0, without a weight, of which nothing is known.
pub fn candidate(channel: &str) -> Candidate {
    Candidate { channel: channel.to_owned(), priority: 0, weight: 0, available: true, signals: Vec::new() }
}

/// A channel `test` with these settings, with one secret, `key`, and without endpoints and options.
pub fn channel_config(settings: impl Display) -> ChannelConfig {
    ChannelConfig {
        id: "test".to_owned(),
        name: "Test".to_owned(),
        settings: settings.to_string(),
        endpoints: Vec::new(),
        secrets: vec![crate::KEY.to_owned()],
        options: Vec::new(),
    }
}

/// A plugin on [`channel_config`] with these settings: a text of JSON, or a value of `serde_json`. The error is what the
/// operator would read.
pub fn configure<C: Channel>(settings: impl Display) -> Result<(C, Profile), String> {
    crate::channel::configure(&channel_config(settings))
}

/// A router with these settings.
pub fn configure_router<R: Router>(settings: impl Display) -> Result<(R, Profile), String> {
    crate::router::configure(&settings.to_string())
}

/// The plan of an answer that sends. Panics at any other.
#[track_caller]
pub fn sent(answer: Answer) -> Plan {
    match answer {
        Answer::Send(plan) => plan,
        other => panic!("expected a plan, found {other:?}"),
    }
}

/// The refusal of an answer that refuses. Panics at any other.
#[track_caller]
pub fn refused(answer: Answer) -> Refusal {
    match answer {
        Answer::Refuse(refusal) => refusal,
        other => panic!("expected a refusal, found {other:?}"),
    }
}

/// Calls a function, and gives what it logged beside its result.
#[cfg(not(target_arch = "wasm32"))]
pub fn logged<T>(call: impl FnOnce() -> T) -> (T, Vec<(crate::log::Level, String)>) {
    crate::log::native::take();
    let result = call();
    (result, crate::log::native::take())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log;

    #[test]
    fn only_the_lines_of_the_call_are_given() {
        log::info("before");
        let (result, lines) = logged(|| {
            log::warn("inside");
            7
        });
        assert_eq!(result, 7);
        assert_eq!(lines, [(log::Level::Warn, "inside".to_owned())]);
    }
}
