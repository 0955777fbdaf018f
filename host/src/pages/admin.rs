//! `POST /admin/plugins/NAME/rollback` and `…/unpin`: commands, for who shows the admin token as a bearer.
//!
//! Being on the machine itself is not enough, nor is the cookie: a page in an operator's browser could send either along.

use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderMap};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use serde::Deserialize;

use super::access::Refusal;
use super::{JSON, read_body, said};
use crate::config::{Admin, Gateway};
use crate::error::{Failure, Kind};
use crate::exchange::relay::Reply;
use crate::exchange::worker::Worker;
use crate::exchange::{self, identify};
use crate::generation::requests::Wish;

/// What begins the path of every command.
pub const PATH: &str = "/admin/plugins/";

/// What the body of a rollback may say; it may be left out.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RollbackBody {
    version: Option<String>,
}

pub async fn answer(
    worker: &Worker,
    gateway: &Gateway,
    request: Request<Incoming>,
    request_id: &str,
) -> Response<Reply> {
    match obey(worker, gateway, request).await {
        Ok(reply) => reply,
        Err(failure) => exchange::failure_reply(&failure, request_id),
    }
}

async fn obey(worker: &Worker, gateway: &Gateway, request: Request<Incoming>) -> Result<Response<Reply>, Failure> {
    check(request.headers(), &gateway.admin).map_err(Refusal::failure)?;
    let path = request.uri().path().to_owned();
    let body = read_body(request.into_body(), gateway.limits.head_timeout).await?;
    let wish = wish(&path, &body)?;
    let stopping = || Failure::new(Kind::Stopping, "the gateway is being stopped; try again").retry_after(1);
    let wisher = worker.shared.wisher.get().ok_or_else(stopping)?;
    let answer = wisher.ask(wish).await.ok_or_else(|| {
        let message = "the command was given up: the gateway is being stopped, or its log says why";
        Failure::new(Kind::CommandRefused, message)
    })?;
    if !answer.done {
        return Err(Failure::new(Kind::CommandRefused, answer.message));
    }
    let json = serde_json::json!({"message": answer.message, "version": answer.version});
    Ok(said(StatusCode::OK, JSON, json.to_string()))
}

fn check(headers: &HeaderMap, admin: &Admin) -> Result<(), Refusal> {
    let Some(token) = &admin.token else { return Err(Refusal::NotSet) };
    let mut shown = headers.get_all(AUTHORIZATION).iter().filter_map(identify::bearer).peekable();
    if shown.peek().is_none() {
        return Err(Refusal::Missing);
    }
    if shown.any(|shown| token.is(shown)) { Ok(()) } else { Err(Refusal::Wrong) }
}

fn wish(path: &str, body: &Bytes) -> Result<Wish, Failure> {
    let rest = path.strip_prefix(PATH).unwrap_or_default();
    let (plugin, action) = rest.split_once('/').unwrap_or((rest, ""));
    let plugin = plugin.to_owned();
    match action {
        "unpin" => Ok(Wish::Unpin { plugin }),
        "rollback" => {
            let RollbackBody { version } = if body.is_empty() {
                RollbackBody::default()
            } else {
                // By way of a map: a struct is taken from a list, too.
                let members = serde_json::from_slice::<serde_json::Map<_, _>>(body);
                members.and_then(|members| serde_json::from_value(members.into())).map_err(|error| {
                    let message = format!("the body of a rollback is empty, or `{{\"version\": \"…\"}}`: {error}");
                    Failure::new(Kind::QueryInvalid, message)
                })?
            };
            Ok(Wish::Rollback { plugin, version })
        }
        _ => {
            let message = format!("there is no such command; there are {PATH}NAME/rollback and {PATH}NAME/unpin");
            Err(Failure::new(Kind::NoRoute, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::AdminToken;

    #[test]
    fn only_the_token_as_a_bearer_opens_it() {
        let admin = Admin { token: Some(AdminToken::new(b"admin-0123456789abcdef")), public: true };
        let checked = |value: Option<&'static str>, admin: &Admin| {
            let headers = value.map(|value| (AUTHORIZATION, HeaderValue::from_static(value)));
            check(&headers.into_iter().collect(), admin)
        };
        assert_eq!(checked(Some("Bearer admin-0123456789abcdef"), &admin), Ok(()));
        assert_eq!(checked(Some("Bearer admin-0123456789abcdeg"), &admin), Err(Refusal::Wrong));
        assert_eq!(checked(None, &admin), Err(Refusal::Missing));
        assert_eq!(checked(Some("Bearer x"), &Admin { token: None, public: true }), Err(Refusal::NotSet));
    }

    #[test]
    fn a_command_is_a_path_and_a_rollback_may_name_a_version() {
        let parsed = |path: &str, body: &'static str| wish(path, &Bytes::from_static(body.as_bytes()));
        let rollback = |version: Option<&str>| Wish::Rollback { plugin: "p".into(), version: version.map(Into::into) };
        assert_eq!(parsed("/admin/plugins/p/rollback", "").unwrap(), rollback(None));
        assert_eq!(parsed("/admin/plugins/p/rollback", r#"{"version": "ab"}"#).unwrap(), rollback(Some("ab")));
        assert_eq!(parsed("/admin/plugins/p/unpin", "").unwrap(), Wish::Unpin { plugin: "p".into() });
        assert_eq!(parsed("/admin/plugins/p/rollback", r#"{"vers": 1}"#).unwrap_err().kind, Kind::QueryInvalid);
        assert_eq!(parsed("/admin/plugins/p/rollback", r#"["7"]"#).unwrap_err().kind, Kind::QueryInvalid);
        for path in ["/admin/plugins/p", "/admin/plugins/", "/admin/plugins/p/q", "/admin/plugins/p/unpin/x"] {
            assert_eq!(parsed(path, "").unwrap_err().kind, Kind::NoRoute, "{path}");
        }
    }
}
