//! From a path to the provider and protocol that it belongs to, with the credential that this protocol demands.
//!
//! The credential is looked at before anything else, as the providers do. A second credential beside the right one is
//! refused, which no provider does: a gateway that leaks a client's key upstream shall not look healthy.

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::Value;

use super::fault::{Fault, Shape};
use super::reply::Reply;
use super::sockets::{Endpoint, Slot};
use super::{Upstream, anthropic, dashscope, gemini, openai, ranking, sockets, text, uploads};

/// Larger than any request that a demo is shown; a provider has a limit as well.
const BODY_BYTES_MAX: usize = 32 << 20;

/// One request, read whole.
pub struct Call {
    pub method: Method,
    /// Percent-encoding untouched.
    pub path: String,
    /// Without `?`; empty where there is none.
    pub query: String,
    pub headers: HeaderMap,
    pub body: Vec<u8>,
    /// Names this exchange in the reply, in its header and in its body.
    pub request_id: String,
}

impl Call {
    /// A request without its body.
    pub fn of<B>(request: &Request<B>, request_id: String) -> Self {
        Self {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().unwrap_or_default().to_owned(),
            headers: request.headers().clone(),
            body: Vec::new(),
            request_id,
        }
    }

    /// The body as a JSON object.
    pub fn json(&self) -> Result<Value, Fault> {
        match serde_json::from_slice(&self.body) {
            Ok(value @ Value::Object(_)) => Ok(value),
            Ok(_) => Err(Fault::Body("the body must be a JSON object".into())),
            Err(error) => Err(Fault::Body(error.to_string())),
        }
    }

    /// Whether a header has this value, in any case.
    pub fn says(&self, name: &str, value: &str) -> bool {
        self.headers.get(name).is_some_and(|found| found.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    }

    /// A query parameter, percent-encoding untouched.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// The `model` of a request: one that the provider has, without its optional prefix, or one that fails on demand.
pub fn model_of<'a>(name: &'a str, families: &[&str]) -> Result<&'a str, Fault> {
    let name = name.strip_prefix("models/").unwrap_or(name);
    match name {
        "" => Err(Fault::Body("field `model` is required".into())),
        "status-429" => Err(Fault::RateLimited),
        "status-500" => Err(Fault::Internal),
        _ if families.iter().any(|family| name.starts_with(family)) => Ok(name),
        _ => Err(Fault::Model(name.into())),
    }
}

/// A path's provider and protocol.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    BailianCompatible,
    BailianRerank,
    BailianAnthropic,
    BailianNative,
    GeminiCompatible,
    GeminiNative,
    GeminiUpload,
}

/// Longest prefixes first where one begins another.
const PREFIXES: &[(&str, Family)] = &[
    ("/compatible-mode/v1/", Family::BailianCompatible),
    ("/compatible-api/v1/", Family::BailianRerank),
    ("/apps/anthropic/v1/", Family::BailianAnthropic),
    ("/api/v1/", Family::BailianNative),
    ("/v1beta/openai/", Family::GeminiCompatible),
    ("/v1beta/", Family::GeminiNative),
    ("/v1alpha/", Family::GeminiNative),
    ("/v1/", Family::GeminiNative),
    ("/upload/v1beta/", Family::GeminiUpload),
    ("/upload/v1alpha/", Family::GeminiUpload),
    ("/upload/v1/", Family::GeminiUpload),
];

impl Family {
    fn shape(self) -> Shape {
        match self {
            Self::BailianCompatible | Self::BailianRerank => Shape::Compatible,
            Self::BailianAnthropic => Shape::Anthropic,
            Self::BailianNative => Shape::DashScope,
            Self::GeminiCompatible => Shape::GeminiCompatible,
            Self::GeminiNative | Self::GeminiUpload => Shape::Gemini,
        }
    }

    fn is_gemini(self) -> bool {
        matches!(self, Self::GeminiCompatible | Self::GeminiNative | Self::GeminiUpload)
    }
}

pub async fn answer(upstream: &Upstream, slot: &Slot, request: Request<Incoming>) -> Reply {
    if let Some(endpoint) = Endpoint::of(request.uri().path()) {
        return sockets::answer(upstream, slot, endpoint, request);
    }
    let call = Call::of(&request, text::fresh_uuid());
    let Some((rest, family)) =
        PREFIXES.iter().find_map(|(prefix, family)| Some((call.path.strip_prefix(prefix)?.to_owned(), *family)))
    else {
        // Nobody's path; bailian's shape is the one with the fewest assumptions.
        let shape = if call.path.starts_with("/v1") { Shape::Gemini } else { Shape::Compatible };
        return Fault::Path.reply(shape, &call.request_id);
    };
    // Read even what will be refused: an unread body would cost the client its connection.
    let call = match Limited::new(request.into_body(), BODY_BYTES_MAX).collect().await {
        Ok(body) => Call { body: body.to_bytes().to_vec(), ..call },
        Err(error) => return Fault::Body(error.to_string()).reply(family.shape(), &call.request_id),
    };
    let mut reply =
        dispatch(upstream, &call, &rest, family).unwrap_or_else(|fault| fault.reply(family.shape(), &call.request_id));
    if let (false, Ok(id)) = (family.is_gemini(), HeaderValue::from_str(&call.request_id)) {
        reply.headers_mut().insert(HeaderName::from_static("x-request-id"), id);
    }
    reply
}

fn dispatch(upstream: &Upstream, call: &Call, rest: &str, family: Family) -> Result<Reply, Fault> {
    let keys = &upstream.keys;
    match family {
        // An upload's URL is its own credential, at the provider too.
        Family::GeminiUpload
            if call.parameter("upload_id").is_some() && !call.headers.contains_key("x-goog-api-key") => {}
        Family::GeminiNative | Family::GeminiUpload => {
            only(call, "x-goog-api-key")?;
            expect(call.headers.get("x-goog-api-key").map(HeaderValue::as_bytes), &keys.gemini)?;
        }
        _ => {
            only(call, AUTHORIZATION.as_str())?;
            let key = if family.is_gemini() { &keys.gemini } else { &keys.bailian };
            expect(bearer(&call.headers), key)?;
        }
    }
    match family {
        Family::BailianCompatible => openai::answer(call, rest, &openai::BAILIAN),
        Family::BailianRerank => ranking::compatible(call, rest),
        Family::BailianAnthropic => anthropic::answer(call, rest),
        Family::BailianNative => dashscope::answer(upstream, call, rest),
        Family::GeminiCompatible => openai::answer(call, rest, &openai::GEMINI),
        Family::GeminiNative => gemini::answer(call, rest),
        Family::GeminiUpload => uploads::answer(upstream, call, rest),
    }
}

/// Refuses every credential except the one in the header `place`.
pub fn only(call: &Call, place: &str) -> Result<(), Fault> {
    for (name, said) in [
        ("authorization", "the header `authorization`"),
        ("x-goog-api-key", "the header `x-goog-api-key`"),
        ("x-api-key", "the header `x-api-key`"),
        ("api-key", "the header `api-key`"),
    ] {
        // Without the right one, a misplaced one is just a missing key: the provider would say no more.
        if name != place && call.headers.contains_key(name) && call.headers.contains_key(place) {
            return Err(Fault::KeyMisplaced(said));
        }
    }
    if call.parameter("key").is_some() {
        return Err(Fault::KeyMisplaced("the query"));
    }
    Ok(())
}

pub fn expect(found: Option<&[u8]>, key: &str) -> Result<(), Fault> {
    match found {
        None => Err(Fault::KeyMissing),
        Some(found) if found == key.as_bytes() => Ok(()),
        Some(_) => Err(Fault::KeyWrong),
    }
}

pub fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let value = headers.get(AUTHORIZATION)?.as_bytes();
    let (scheme, key) = value.split_at_checked("Bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then_some(key)
}
