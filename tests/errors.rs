//! The gateway's own errors: one shape that every SDK reads, a code for each kind, and the request id everywhere.

use std::collections::HashSet;

use aiproxy_host::error::{Failure, Kind};
use serde_json::{Value, json};

use crate::support::{Answer, Conf, Gateway, KEY, Upstream, ask, call, get, post, reply, whole};

/// Asserts everything that holds for every error of the gateway.
fn assert_one_shape(reply: &Answer) {
    let json = reply.json();
    let request_id = reply.header("x-aiproxy-request-id").expect("a request id").to_owned();
    assert_eq!(reply.header("content-type"), Some("application/json"), "{reply:?}");
    assert_eq!(reply.header("content-length"), Some(reply.body.len().to_string().as_str()), "{reply:?}");
    let keys: HashSet<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, HashSet::from(["error", "type", "code", "message", "request_id"]), "{json}");
    let inner: HashSet<_> = json["error"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(inner, HashSet::from(["message", "type", "code", "status"]), "{json}");
    assert_eq!((&json["type"], &json["request_id"]), (&json!("error"), &json!(request_id)), "{json}");
    assert_eq!((&json["code"], &json["message"]), (&json["error"]["code"], &json["error"]["message"]), "{json}");
    for text in [&json["message"], &json["code"], &json["error"]["type"], &json["error"]["status"]] {
        assert!(text.as_str().is_some_and(|text| !text.is_empty()), "{json}");
    }
}

#[tokio::test]
async fn an_error_is_json_with_the_fields_of_every_sdk() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let reply = ask(gateway.address, "GET", "/x", &[("x-api-key", "sk-nobody-knows")]).await;
    assert_one_shape(&reply);
    let id = reply.header("x-aiproxy-request-id").unwrap();
    let message = "this proxy key is not known here";
    let error = json!({"message": message, "type": "permission_error", "code": "proxy_key_unknown", "status": "PERMISSION_DENIED"});
    let expected =
        json!({"error": error, "type": "error", "code": "proxy_key_unknown", "message": message, "request_id": id});
    assert_eq!(reply.json(), expected);
}

#[tokio::test]
async fn request_ids_are_never_given_twice() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let mut ids = HashSet::new();
    for path in ["/healthz", "/x", "/stats", "/x", "/x", "/readyz"] {
        let reply = get(gateway.address, path).await;
        assert!(ids.insert(reply.header("x-aiproxy-request-id").expect("a request id").to_owned()), "{ids:?}");
    }
}

#[test]
fn every_kind_has_a_code_of_its_own_and_an_error_status() {
    let mut codes = HashSet::new();
    for (index, kind) in Kind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, index, "{kind:?} is missing from the list, or in another place");
        let facts = kind.facts();
        assert!(codes.insert(facts.code), "{} is the code of two kinds", facts.code);
        assert!(facts.code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", facts.code);
        assert!(facts.status.is_client_error() || facts.status.is_server_error(), "{kind:?}");
        let json: Value = serde_json::from_str(&Failure::new(kind, "why").to_json("id")).unwrap();
        assert_eq!((json["code"].as_str(), json["request_id"].as_str()), (Some(facts.code), Some("id")));
    }
}

#[tokio::test]
async fn what_a_plugin_does_wrong_is_told_by_its_code() {
    let upstream = Upstream::echo().await;
    let sandbox = json!({"memory_bytes_max": 4 << 20, "deadline_ms": 100});
    let gateway = Gateway::with_workers(Conf::new(&upstream.url()).gateway("sandbox", sandbox), 1).await;
    let cases = [
        ("trap", 502, "plugin_trapped"),
        ("exit", 502, "plugin_trapped"),
        ("sleep", 502, "plugin_tried_to_wait"),
        ("control-header", 502, "plugin_answer_invalid"),
        ("unknown-option", 502, "plugin_option_unknown"),
        ("unknown-scheme", 502, "signing_scheme_unknown"),
        ("unknown-secret", 502, "plugin_secret_unknown"),
        ("unknown-endpoint", 502, "plugin_endpoint_unknown"),
        ("refuse/418/teapot/short", 418, "teapot"),
        ("eat", 502, "plugin_memory_exceeded"),
        ("loop", 502, "plugin_deadline_exceeded"),
        ("anything", 502, "plugin_backing_off"),
    ];
    for (behaviour, status, code) in cases {
        let reply = get(gateway.address, &format!("/puppet/{behaviour}")).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{behaviour}");
        assert_one_shape(&reply);
    }
}

#[tokio::test]
async fn what_the_upstream_does_wrong_is_told_by_its_code() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    // Answers each connection with the bytes its path asks for.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let count = stream.read(&mut head).await.unwrap_or(0);
            let head = String::from_utf8_lossy(&head[..count]).into_owned();
            match head.split(' ').nth(1) {
                Some("/silent") => silent.push(stream),
                Some("/nonsense") => _ = stream.write_all(b"SSH-2.0-not-http\r\n\r\n").await,
                _ => {}
            }
        }
    });
    let url = format!("http://{address}");
    let mut tls = crate::support::channel(&url.replace("http:", "https:"));
    tls["timeout"] = json!(5);
    let mut dead = crate::support::channel("http://127.0.0.1:1");
    dead["settings"] = json!({});
    let keys = json!([
        {"proxy_key": KEY, "id": "tester", "channel": "c"},
        {"proxy_key": "sk-to-tls-0123", "id": "tls", "channel": "tls"},
        {"proxy_key": "sk-to-dead-0123", "id": "dead", "channel": "dead"},
    ]);
    let conf = Conf::new(&url).set("first_byte_timeout_ms", 50).channel("tls", tls).channel("dead", dead).keys(keys);
    let gateway = Gateway::start(conf).await;
    for (key, path, status, code) in [
        (KEY, "/silent", 504, "upstream_first_byte_timeout"),
        (KEY, "/nonsense", 502, "upstream_broken"),
        (KEY, "/close", 502, "upstream_broken"),
        ("sk-to-tls-0123", "/x", 502, "upstream_tls_failed"),
        ("sk-to-dead-0123", "/x", 502, "upstream_unreachable"),
    ] {
        let reply = ask(gateway.address, "GET", path, &[("x-api-key", key)]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{path}");
        assert_one_shape(&reply);
        let shows_address = reply.text().contains("127.0.0.1");
        assert!(!shows_address, "the provider's address is the operator's business: {}", reply.text());
    }
}

#[tokio::test]
async fn what_the_client_does_wrong_is_told_by_its_code() {
    let upstream = Upstream::echo().await;
    let edits = json!({"plan": {"body": [["set", "/a/b", "1"]]}});
    let limits = json!({"inspect_bytes_max": 1024, "inspect_budget_bytes": 2048});
    let gateway = Gateway::start(Conf::new(&upstream.url()).settings(edits).gateway("limits", limits)).await;
    for (body, status, code) in [
        ("no json".to_owned(), 415, "body_not_json"),
        (r#"{"a": 1}"#.to_owned(), 400, "body_edit_failed"),
        (format!(r#"{{"a": "{}"}}"#, "x".repeat(2000)), 413, "body_too_large"),
    ] {
        let reply = post(gateway.address, "/x", body).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code), "{}", reply.text());
        assert_one_shape(&reply);
    }
    assert_eq!(upstream.accepted(), 0, "nothing was sent");
}

#[tokio::test]
async fn an_error_for_head_has_the_length_of_its_json_and_no_body() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let reply = ask(gateway.address, "HEAD", "/x", &[]).await;
    assert_eq!((reply.status.as_u16(), reply.body.len()), (401, 0));
    assert!(reply.header("content-length").unwrap().parse::<usize>().unwrap() > 100);
    assert!(reply.header("x-aiproxy-request-id").is_some());
}

#[tokio::test]
async fn an_upstreams_own_error_and_its_request_id_pass_untouched() {
    let upstream = Upstream::start(|_| async {
        let mut reply = reply(429, r#"{"error": "slow down"}"#);
        for (name, value) in [("x-request-id", "theirs-1"), ("retry-after", "7"), ("x-aiproxy-request-id", "forged")] {
            reply.headers_mut().insert(name, value.parse().unwrap());
        }
        reply
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let reply = get(gateway.address, "/x").await;
    assert_eq!((reply.status.as_u16(), reply.text()), (429, r#"{"error": "slow down"}"#));
    assert_eq!((reply.header("x-request-id"), reply.header("retry-after")), (Some("theirs-1"), Some("7")));
    let ids: Vec<_> = reply.headers.get_all("x-aiproxy-request-id").iter().collect();
    assert!(ids.len() == 1 && ids[0] != "forged" && ids[0].len() == 20, "{ids:?}");
}

#[tokio::test]
async fn a_success_carries_the_request_id_and_the_upstreams_own() {
    let upstream = Upstream::start(|_| async {
        http::Response::builder().header("x-request-id", "theirs-2").body(whole("fine")).unwrap()
    })
    .await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    let reply = call(gateway.address, "POST", "/x", &[("x-api-key", KEY), ("x-request-id", "mine")], "{}").await;
    assert_eq!((reply.text(), reply.header("x-request-id")), ("fine", Some("theirs-2")));
    assert!(reply.header("x-aiproxy-request-id").is_some());
}
