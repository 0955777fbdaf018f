//! Building an answer: a plan, what it edits, which secret goes where; or a refusal.
//!
//! A plan is plain data with public fields, and everything here only fills them in: use whichever reads better.

use serde_json::Value;

use crate::{Answer, BodyEdit, Credential, HeaderEdit, Placement, Plan, Refusal, Request};

/// The secret that every channel has: its upstream key.
pub const KEY: &str = "key";

impl Plan {
    /// To a path of the channel's URL, and nothing more: no query, no edits, no credentials.
    pub fn to(path: impl Into<String>) -> Self {
        Self {
            endpoint: None,
            path: path.into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            credentials: Vec::new(),
            model: None,
            meters: None,
            options: Vec::new(),
        }
    }

    /// With the request's own path and query.
    pub fn unchanged(request: &Request) -> Self {
        Self::to(request.path.as_str()).with_query(request.query.clone())
    }

    /// With this query, without `?`; none for no query.
    pub fn with_query(self, query: Option<String>) -> Self {
        Self { query, ..self }
    }

    /// To one of the channel's `endpoints` instead of its URL.
    pub fn with_endpoint(self, name: impl Into<String>) -> Self {
        Self { endpoint: Some(name.into()), ..self }
    }

    /// With the model's name for limits and statistics, where the request does not tell it.
    pub fn with_model(self, model: impl Into<String>) -> Self {
        Self { model: Some(model.into()), ..self }
    }

    /// With the profile's set of meters of this index.
    pub fn with_meters(self, index: u32) -> Self {
        Self { meters: Some(index), ..self }
    }

    /// With one of the options that the channel's configuration lists.
    pub fn with_option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.push((name.into(), value.into()));
        self
    }

    /// With a secret; see [`Credential`].
    pub fn with_credential(mut self, credential: Credential) -> Self {
        self.credentials.push(credential);
        self
    }

    /// Sets a header, in place of any that the client sent. Names are lower case.
    pub fn set_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(HeaderEdit::Set((name.into(), value.into())));
        self
    }

    /// Sets a header if the client sent none of that name.
    pub fn default_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push(HeaderEdit::SetIfAbsent((name.into(), value.into())));
        self
    }

    /// Takes a header out.
    pub fn remove_header(mut self, name: impl Into<String>) -> Self {
        self.headers.push(HeaderEdit::Remove(name.into()));
        self
    }

    /// Sets the field of the JSON body at a pointer, whose parent must exist. The host refuses the request if its body
    /// is not JSON, so edit only where it surely is.
    pub fn set_field(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.body.push(BodyEdit::Set((pointer.into(), value.into().to_string())));
        self
    }

    /// As [`Plan::set_field`], if the body has no such field.
    pub fn default_field(mut self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.body.push(BodyEdit::SetIfAbsent((pointer.into(), value.into().to_string())));
        self
    }

    /// Takes a field out of the JSON body.
    pub fn remove_field(mut self, pointer: impl Into<String>) -> Self {
        self.body.push(BodyEdit::Remove(pointer.into()));
        self
    }
}

impl Credential {
    /// One of the channel's secrets, at a place. The plugin never sees it: the host puts it there.
    pub fn new(secret: impl Into<String>, place: Placement) -> Self {
        Self { secret: secret.into(), place }
    }

    /// The channel's key, at a place.
    pub fn key(place: Placement) -> Self {
        Self::new(KEY, place)
    }

    /// The channel's key, as `Authorization: Bearer …`.
    pub fn bearer() -> Self {
        Self::key(Placement::Authorization("Bearer".to_owned()))
    }

    /// The channel's key, in a header of this name (lower case).
    pub fn in_header(name: impl Into<String>) -> Self {
        Self::key(Placement::Header(name.into()))
    }

    /// The channel's key, in a query parameter of this name.
    pub fn in_query(name: impl Into<String>) -> Self {
        Self::key(Placement::Query(name.into()))
    }
}

impl Refusal {
    /// A status from 400 to 599, a code of `[a-z0-9_]+` for programs, and a message for people.
    pub fn new(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into() }
    }
}

impl Answer {
    /// Refuses for good: no other channel is asked. See [`Refusal::new`].
    pub fn refuse(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Refuse(Refusal::new(status, code, message))
    }
}

impl From<Plan> for Answer {
    fn from(plan: Plan) -> Self {
        Self::Send(plan)
    }
}

impl From<Refusal> for Answer {
    fn from(refusal: Refusal) -> Self {
        Self::Refuse(refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::request;

    #[test]
    fn an_unchanged_plan_keeps_path_and_query_and_carries_no_key() {
        let request = request("GET", "/v1/%20x").with_query("a=%2F");
        let plan = Plan::unchanged(&request);
        assert_eq!(plan, Plan { query: Some("a=%2F".into()), ..Plan::to("/v1/%20x") });
        assert_eq!(plan.credentials, []);
    }

    #[test]
    fn a_field_is_set_as_json_text() {
        let plan = Plan::to("/").set_field("/user", "a\"b").default_field("/n", 1).remove_field("/seed");
        let field = |pointer: &str, json: &str| (pointer.to_owned(), json.to_owned());
        assert_eq!(
            plan.body,
            [
                BodyEdit::Set(field("/user", r#""a\"b""#)),
                BodyEdit::SetIfAbsent(field("/n", "1")),
                BodyEdit::Remove("/seed".into())
            ]
        );
    }
}
