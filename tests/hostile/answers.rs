//! Answers that would say more to the upstream, the client or the log than a plugin may.

use serde_json::{Value, json};

use super::{OK, ask, code, text};
use crate::support::{Conf, Gateway, KEY, Raw, RawUpstream, UPSTREAM_KEY, Upstream, ask as call, channel, post};

fn key(number: usize) -> String {
    format!("sk-number-{number}-0123456789")
}

/// A gateway with a channel and a key for each of these settings of the puppet.
async fn gateway(upstream_url: &str, settings: &[Value]) -> Gateway {
    let mut conf = Conf::new(upstream_url);
    let mut keys = vec![json!({"proxy_key": KEY, "id": "tester", "channel": "c"})];
    for (number, settings) in settings.iter().enumerate() {
        let id = format!("c{number}");
        let mut own = channel(upstream_url);
        own["settings"] = settings.clone();
        own["settings"]["quiet"] = json!(true);
        own["secrets"] = json!({"other": "other-secret-0123"});
        conf = conf.channel(&id, own);
        keys.push(json!({"proxy_key": key(number), "id": format!("k{number}"), "channel": id}));
    }
    Gateway::start(conf.keys(Value::from(keys))).await
}

/// Every field of a plan that reaches a head, a log or a message, with this in it.
fn tainted(taint: &str) -> Vec<(&'static str, Value)> {
    let with = |text: &str| format!("{text}{taint}x-smuggled: 1");
    let credential = |place: &str, name: &str| json!([["key", place, with(name)]]);
    vec![
        ("plugin_answer_invalid", json!({"path": with("/a")})),
        ("plugin_answer_invalid", json!({"query": with("a=b")})),
        ("plugin_answer_invalid", json!({"headers": [["set", with("x-a"), "b"]]})),
        ("plugin_answer_invalid", json!({"headers": [["set-if-absent", with("x-a"), "b"]]})),
        ("plugin_answer_invalid", json!({"headers": [["remove", with("x-a")]]})),
        ("plugin_answer_invalid", json!({"headers": [["set", "x-a", with("b")]]})),
        ("plugin_answer_invalid", json!({"headers": [["set-if-absent", "x-a", with("b")]]})),
        ("plugin_answer_invalid", json!({"credentials": credential("authorization", "Bearer")})),
        ("plugin_answer_invalid", json!({"credentials": credential("header", "x-a")})),
        ("plugin_answer_invalid", json!({"credentials": credential("query", "a")})),
        ("signing_scheme_unknown", json!({"credentials": credential("signed", "a")})),
        ("plugin_secret_unknown", json!({"credentials": [[with("key"), "header", "x-a"]]})),
        ("plugin_endpoint_unknown", json!({"endpoint": with("batch")})),
        ("plugin_answer_invalid", json!({"model": with("m")})),
        ("plugin_option_unknown", json!({"options": [[with("o"), "1"]]})),
        ("plugin_answer_invalid", json!({"body": [["set", with("a"), "1"]]})),
        ("plugin_answer_invalid", json!({"body": [["set", "/a", with("\"b")]]})),
    ]
}

#[tokio::test]
async fn line_ends_and_control_characters_get_nowhere() {
    let upstream = RawUpstream::answering(OK).await;
    let cases: Vec<_> = ["\r\n", "\n", "\r", "\0", "\u{7f}"].iter().flat_map(|taint| tainted(taint)).collect();
    let settings: Vec<_> = cases.iter().map(|(_, plan)| json!({"plan": plan})).collect();
    let gateway = gateway(&upstream.url(), &settings).await;
    let mut client = Raw::connect(gateway.address).await;
    for (number, (expected, plan)) in cases.iter().enumerate() {
        // DEL is a character like others in JSON.
        let is_json = plan["body"][0][2].as_str().is_some_and(|value| value.contains('\u{7f}'));
        if is_json {
            continue;
        }
        let reply = ask(&mut client, &key(number), "/x").await;
        assert_eq!((reply.status(), code(&reply).as_str()), (502, *expected), "{plan}");
        let message = text(&reply);
        assert!(!message.contains(char::is_control) && message.len() < 500, "{plan}: {message:?}");
        assert!(!reply.has("x-smuggled") && !reply.has("connection"), "{plan}: {}", reply.head());
        assert_eq!(ask(&mut client, KEY, "/after").await.status(), 200, "the same connection after {plan}");
    }
    assert!(upstream.requests().iter().all(|request| request.line() == "GET /after HTTP/1.1"));
}

#[tokio::test]
async fn the_gateways_own_headers_cannot_be_forged() {
    let own = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-host",
        "x-forwarded-proto",
        "x-forwarded-anything",
        "proxy-authorization",
        "proxy-connection",
        "x-aiproxy-request-id",
        "x-aiproxy-anything",
        "sec-websocket-key",
        "http2-settings",
    ];
    let plans = |name: &str| {
        [
            json!({"headers": [["set", name, "1"]]}),
            json!({"headers": [["set-if-absent", name, "1"]]}),
            json!({"headers": [["remove", name]]}),
            json!({"credentials": [["key", "header", name]]}),
        ]
    };
    let upstream = RawUpstream::answering(OK).await;
    let plans: Vec<_> = own.into_iter().flat_map(|name| plans(name).map(|plan| (name, plan))).collect();
    let settings: Vec<_> = plans.iter().map(|(_, plan)| json!({"plan": plan})).collect();
    let gateway = gateway(&upstream.url(), &settings).await;
    let mut client = Raw::connect(gateway.address).await;
    for (number, (name, plan)) in plans.iter().enumerate() {
        let reply = ask(&mut client, &key(number), "/x").await;
        assert_eq!((reply.status(), code(&reply).as_str()), (502, "plugin_answer_invalid"), "{plan}");
        assert!(text(&reply).contains(name), "{plan}: {}", reply.body());
    }
    assert_eq!(upstream.requests().len(), 0);
}

#[tokio::test]
async fn what_a_plugin_puts_where_a_credential_goes_gives_way_to_it() {
    let bearer = format!("Bearer {UPSTREAM_KEY}");
    let credential = json!([["key", "authorization", "Bearer"]]);
    let mine = json!(["set", "authorization", "Bearer mine"]);
    let absent = json!(["set-if-absent", "authorization", "Bearer mine"]);
    let remove = json!(["remove", "authorization"]);
    let cases = [
        // Its own, where no credential goes: it knows no secret that it could put there.
        (json!({"headers": [mine], "credentials": []}), vec!["Bearer mine"]),
        (json!({"headers": [absent], "credentials": []}), vec!["Bearer mine"]),
        (json!({"headers": [], "credentials": []}), vec![]),
        (json!({"headers": [mine], "credentials": credential}), vec![bearer.as_str()]),
        (json!({"headers": [absent, mine, remove], "credentials": credential}), vec![bearer.as_str()]),
        // The last credential in one place counts.
        (
            json!({"credentials": [["other", "authorization", "Token"], ["key", "authorization", "Bearer"]]}),
            vec![bearer.as_str()],
        ),
        (json!({"headers": [mine], "credentials": [["other", "header", "authorization"]]}), vec!["other-secret-0123"]),
    ];
    let upstream = Upstream::echo().await;
    let settings: Vec<_> = cases.iter().map(|(plan, _)| json!({"plan": plan})).collect();
    let gateway = gateway(&upstream.url(), &settings).await;
    for (number, (plan, expected)) in cases.iter().enumerate() {
        let reply = call(gateway.address, "GET", "/x", &[("authorization", &format!("Bearer {}", key(number)))]).await;
        assert_eq!(reply.echoed("authorization"), *expected, "{plan}");
    }
}

#[tokio::test]
async fn no_query_beside_a_credentials_can_stand_for_it() {
    let credentials = json!([["key", "query", "key"]]);
    let ends = format!("key={UPSTREAM_KEY}");
    let cases = [
        ("key=mine", String::new()),
        ("key=mine&a=1&key=again", "a=1&".to_owned()),
        ("k%65y=mine&%6bey&KEY=1", "KEY=1&".to_owned()),
        ("%6B%65%79=mine", String::new()),
        ("key&key=&=key", "=key&".to_owned()),
        ("?key=mine", "?key=mine&".to_owned()),
    ];
    let plan = |query: &str| json!({"plan": {"query": query, "credentials": credentials}});
    let settings: Vec<_> = cases.iter().map(|(query, _)| plan(query)).collect();
    let upstream = Upstream::echo().await;
    let gateway = gateway(&upstream.url(), &settings).await;
    for (number, (query, left)) in cases.iter().enumerate() {
        let reply = call(gateway.address, "GET", "/x", &[("x-api-key", &key(number))]).await;
        assert_eq!(reply.echoed_line(), format!("GET /x?{left}{ends}"), "{query}");
    }
}

#[tokio::test]
async fn a_body_edit_with_line_ends_stays_json_and_its_failure_is_one_line() {
    let upstream = Upstream::echo().await;
    let edits = json!([["set", "/a\r\n\u{0}b", "1"]]);
    let gateway =
        Gateway::start(Conf::new(&upstream.url()).settings(json!({"quiet": true, "plan": {"body": edits}}))).await;
    let reply = post(gateway.address, "/x", "{}").await;
    let body: Value = serde_json::from_str(reply.echoed_body()).expect("it is still JSON");
    assert_eq!(body, json!({"a\r\n\u{0}b": 1}));
    let reply = post(gateway.address, "/x", "[]").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (400, "body_edit_failed"));
    let message = reply.json()["error"]["message"].as_str().expect("a message").to_owned();
    assert!(!message.contains(char::is_control) && message.contains(r"/a\r\n\0b"), "{message:?}");
}

#[tokio::test]
async fn a_refusal_may_say_much_and_its_client_is_told_a_bounded_harmless_part() {
    let said = format!("no\r\nx-smuggled: 1\0\u{1b}[2J\u{202e}{}", "x".repeat(100_000));
    let settings = [
        json!({"behaviour": format!("refuse/451/gone/{said}")}),
        json!({"behaviour": format!("refuse/451/go\r\nne/{said}")}),
        json!({"behaviour": format!("refuse/451/{}/no", "x".repeat(100_000))}),
    ];
    let gateway = gateway("http://127.0.0.1:1", &settings).await;
    let mut client = Raw::connect(gateway.address).await;
    for (number, expected) in
        [(451, "gone"), (502, "plugin_answer_invalid"), (502, "plugin_answer_invalid")].into_iter().enumerate()
    {
        let reply = ask(&mut client, &key(number), "/x").await;
        assert_eq!((reply.status(), code(&reply).as_str()), expected);
        assert!(!text(&reply).contains(|c: char| c.is_control() || c == '\u{202e}'), "{}", reply.body());
        assert!(reply.body.len() < 4096 && !reply.has("x-smuggled"), "{}", reply.head());
    }
}
