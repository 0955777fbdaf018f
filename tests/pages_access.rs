//! Who may look at the built-in pages. A viewer from elsewhere is one that comes by another name, or through a proxy.

use aiproxy_host::digest::sha256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::binary::{Server, aiproxy, run};
use crate::support::sockets::{self, SocketUpstream};
use crate::support::{
    Answer, Conf, Gateway, Http2, KEY, Raw, RawUpstream, TestCa, Upstream, ask, call, http2, soon, whole,
};

const TOKEN: &str = "admin-0123456789abcdef";
const GUARDED: [&str; 2] = ["/stats", "/dashboard"];
/// Of a viewer from elsewhere.
const FAR: (&str, &str) = ("host", "gateway.test");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");

fn guarded_conf() -> Conf {
    Conf::new("http://127.0.0.1:1").gateway("admin", json!({"token": TOKEN}))
}

async fn guarded() -> Gateway {
    Gateway::start(guarded_conf()).await
}

async fn look(gateway: &Gateway, path: &str, headers: &[(&str, &str)]) -> Answer {
    ask(gateway.address, "GET", path, headers).await
}

async fn submit(gateway: &Gateway, token: &str) -> Answer {
    call(gateway.address, "POST", "/dashboard", &[FAR, FORM], &format!("token={token}")).await
}

/// The cookie that a reply sets, as the browser sends it back.
fn cookie(reply: &Answer) -> String {
    let cookie = reply.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {reply:?}"));
    cookie.split(';').next().unwrap_or_default().to_owned()
}

#[track_caller]
fn assert_redirected(reply: &Answer, location: &str) {
    assert_eq!((reply.status.as_u16(), reply.header("location"), reply.body.len()), (303, Some(location), 0));
}

#[tokio::test]
async fn on_the_machine_itself_nobody_needs_a_token() {
    let gateway = guarded().await;
    let port = gateway.address.port();
    for host in
        [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("a.localhost:{port}"), "[::1]".into()]
    {
        for path in GUARDED {
            assert_eq!(look(&gateway, path, &[("host", &host)]).await.status, 200, "{host} {path}");
            // What a client of a provider would send is no mistake here.
            let bearer = ("authorization", "Bearer sk-test-0123456789");
            assert_eq!(look(&gateway, path, &[("host", &host), bearer]).await.status, 200, "{host} {path}");
        }
    }
    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/stats", "");
    *request.uri_mut() = format!("http://localhost:{port}/stats").parse().unwrap();
    assert_eq!(client.send(request).await.status, 200);
}

#[tokio::test]
async fn a_name_that_resolves_to_the_machine_is_not_the_machine() {
    let gateway = guarded().await;
    for host in ["gateway.test", "localhost.evil.com", "127.0.0.1.evil.com", "evil.com:8001", "0.0.0.0"] {
        for path in GUARDED {
            assert_eq!(look(&gateway, path, &[("host", host)]).await.status, 401, "{host} {path}");
            assert_eq!(ask(gateway.address, "HEAD", path, &[("host", host)]).await.status, 401, "{host} {path}");
        }
    }
    let client = Http2::connect(gateway.address).await;
    assert_eq!(client.send(http2::request("GET", "/stats", "")).await.status, 401);
    let mut old = Raw::connect(gateway.address).await;
    old.write("GET /stats HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    let reply = soon("the reply", old.read_to_close()).await;
    assert!(reply.starts_with("HTTP/1.0 401 "), "as a proxy asks: {reply}");
}

#[tokio::test]
async fn who_comes_through_a_proxy_or_from_another_page_is_not_on_the_machine() {
    let gateway = guarded().await;
    for field in [
        ("forwarded", "for=127.0.0.1"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-proto", "http"),
        ("x-real-ip", "127.0.0.1"),
        ("via", "1.1 here"),
        ("cf-connecting-ip", "127.0.0.1"),
        ("true-client-ip", "127.0.0.1"),
        ("x-client-ip", "127.0.0.1"),
        ("x-cluster-client-ip", "127.0.0.1"),
        ("x-original-host", "localhost"),
        ("origin", "http://evil.com"),
        ("origin", "http://localhost:3000"),
        ("origin", "null"),
    ] {
        assert_eq!(look(&gateway, "/stats", &[field]).await.status, 401, "{field:?}");
    }
    let own = format!("http://{}", gateway.address);
    assert_eq!(look(&gateway, "/stats", &[("origin", &own)]).await.status, 200);
}

#[tokio::test]
async fn health_and_readiness_stay_open_to_everybody() {
    let gateway = guarded().await;
    for path in ["/healthz", "/readyz"] {
        assert_eq!(look(&gateway, path, &[FAR, ("x-forwarded-for", "192.0.2.1")]).await.status, 200, "{path}");
    }
}

#[tokio::test]
async fn tools_show_the_token_as_a_bearer() {
    let gateway = guarded().await;
    for path in GUARDED {
        let right = ("authorization", "Bearer admin-0123456789abcdef");
        assert_eq!(look(&gateway, path, &[FAR, right]).await.status, 200, "{path}");
    }
    for (value, code) in [
        ("Bearer admin-0123456789abcdeF", "admin_token_wrong"),
        ("Bearer sk-test-0123456789", "admin_token_wrong"),
        ("Basic YWRtaW46eA==", "admin_token_required"),
    ] {
        let reply = look(&gateway, "/stats", &[FAR, ("authorization", value)]).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (401, code), "{value}");
        assert_eq!(reply.header("www-authenticate"), Some("Bearer"), "{value}");
    }
    let reply = look(&gateway, "/stats", &[FAR, ("x-api-key", KEY)]).await;
    assert_eq!(
        (reply.status.as_u16(), reply.code().as_str()),
        (401, "admin_token_required"),
        "a proxy key opens nothing"
    );
}

#[tokio::test]
async fn the_form_gives_a_cookie_that_opens_the_pages() {
    let gateway = guarded().await;
    let reply = submit(&gateway, &format!("%20{TOKEN}%0A")).await;
    assert_redirected(&reply, "/dashboard");
    let set = reply.header("set-cookie").unwrap();
    assert!(set.starts_with("aiproxy_admin=") && !set.contains(TOKEN), "{set}");
    assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=2592000"), "{set}");
    for path in GUARDED {
        let cookies = format!("a=1; {}; b=2", cookie(&reply));
        assert_eq!(look(&gateway, path, &[FAR, ("cookie", &cookies)]).await.status, 200, "{path}");
    }
    let stolen = format!("aiproxy_admin={TOKEN}");
    assert_eq!(look(&gateway, "/stats", &[FAR, ("cookie", &stolen)]).await.status, 401, "the cookie is not the token");
}

#[tokio::test]
async fn a_token_in_the_query_becomes_a_cookie_and_leaves_the_address() {
    let gateway = guarded().await;
    let reply = look(&gateway, &format!("/dashboard?a=%2F&token={TOKEN}&b"), &[FAR]).await;
    assert_redirected(&reply, "/dashboard?a=%2F&b");
    assert_eq!(look(&gateway, "/dashboard?a=%2F&b", &[FAR, ("cookie", &cookie(&reply))]).await.status, 200);
    let local = look(&gateway, &format!("/dashboard?token={TOKEN}"), &[]).await;
    assert_redirected(&local, "/dashboard");
    let reply = look(&gateway, "/dashboard?token=admin-0123456789abcdeg", &[FAR]).await;
    assert_eq!((reply.status.as_u16(), reply.header("set-cookie")), (401, None));
    assert!(reply.text().contains("That is not the admin token"), "{reply:?}");
    assert_eq!(
        look(&gateway, &format!("/stats?token={TOKEN}"), &[FAR]).await.status,
        401,
        "only where a browser looks"
    );
}

#[tokio::test]
async fn a_wrong_token_in_the_form_is_said_and_no_form_is_endless() {
    let gateway = guarded().await;
    for token in ["", "admin-0123456789abcde", KEY] {
        let reply = submit(&gateway, token).await;
        assert_eq!((reply.status.as_u16(), reply.header("set-cookie")), (401, None), "{token:?}");
        let text = reply.text();
        assert!(text.contains("That is not the admin token") && text.contains("管理令牌不正确"), "{text}");
        assert!(text.contains("<form") && (token.is_empty() || !text.contains(token)), "{text}");
    }
    let reply = call(gateway.address, "POST", "/dashboard", &[FAR], "{\"token\": 1}").await;
    assert!(reply.status == 401 && !reply.text().contains("That is not"), "{reply:?}");
    let reply = submit(&gateway, &"x".repeat(5000)).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_form_that_does_not_come_is_not_waited_for() {
    let gateway = Gateway::start(guarded_conf().gateway("limits", json!({"head_timeout_ms": 200}))).await;
    let mut raw = Raw::connect(gateway.address).await;
    raw.write("POST /dashboard HTTP/1.1\r\nhost: gateway.test\r\ncontent-length: 30\r\n\r\ntoken=").await;
    let reply = soon("the refusal", raw.read_to_close()).await;
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("body_incomplete"), "{reply}");
}

#[tokio::test]
async fn a_changed_token_takes_effect_on_reload_and_ends_what_the_former_opened() {
    let gateway = guarded().await;
    let cookie = cookie(&submit(&gateway, TOKEN).await);
    assert_eq!(look(&gateway, "/stats", &[FAR, ("cookie", &cookie)]).await.status, 200);
    gateway.conf.write_file("gateway.json", r#"{"access_log": "off", "admin": {"token": "admin-another-0123456"}}"#);
    gateway.reload();
    gateway.until("the change serves", |stats| stats["generation"] == 2).await;
    let reply = look(&gateway, "/stats", &[FAR, ("cookie", &cookie)]).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (401, "admin_token_required"));
    assert_eq!(submit(&gateway, TOKEN).await.status, 401);
    assert_redirected(&submit(&gateway, "admin-another-0123456").await, "/dashboard");
}

#[tokio::test]
async fn everybody_may_look_where_the_configuration_says_so() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1").gateway("admin", json!({"public": true}))).await;
    for path in GUARDED {
        let reply = look(&gateway, path, &[FAR, ("x-forwarded-for", "192.0.2.1"), ("origin", "http://evil.com")]).await;
        assert_eq!(reply.status, 200, "{path}");
    }
}

#[tokio::test]
async fn without_a_token_that_is_said_plainly() {
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1")).await;
    let reply = look(&gateway, "/stats", &[FAR, ("authorization", "Bearer ")]).await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (401, "admin_token_required"));
    assert!(reply.text().contains("no admin token is set") && reply.text().contains("conf/gateway.json"), "{reply:?}");
    for reply in [look(&gateway, "/dashboard?token=", &[FAR]).await, submit(&gateway, "").await] {
        let text = reply.text();
        assert_eq!(reply.status, 401);
        assert!(text.contains("No admin token is set") && text.contains("没有设置管理令牌"), "{text}");
        assert!(!text.contains("<form"), "{text}");
    }
}

#[tokio::test]
async fn a_browser_is_told_how_in_both_languages() {
    let gateway = guarded().await;
    let browser = ("accept", "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8");
    for (path, headers) in [("/dashboard", vec![FAR]), ("/stats", vec![FAR, browser])] {
        let reply = look(&gateway, path, &headers).await;
        assert_eq!((reply.status.as_u16(), reply.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        assert_eq!(reply.header("content-type"), Some("text/html; charset=utf-8"));
        let html = reply.text();
        for part in [
            "<form method=\"post\" action=\"/dashboard\">",
            "<code>admin.token</code> in <code>conf/gateway.json</code>",
            "<code>aiproxy-host init</code> in another folder",
            "The gateway reloads by itself",
            "On the machine itself none is needed",
            "<code>conf/gateway.json</code> 中",
            "网关会自动重新加载",
            "prefers-color-scheme: dark",
        ] {
            assert!(html.contains(part), "{part}: {html}");
        }
        assert!(!html.contains("<script") && !html.contains(TOKEN), "{html}");
        let policy = reply.header("content-security-policy").expect("a policy");
        let style = html.split_once("<style>").unwrap().1.split_once("</style>").unwrap().0;
        let hash = STANDARD.encode(sha256(style.as_bytes()));
        for directive in [
            "default-src 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
            &format!("style-src 'sha256-{hash}'"),
        ] {
            assert!(policy.contains(directive), "{directive}: {policy}");
        }
        assert!(!policy.contains("script-src") && !policy.contains("unsafe") && !policy.contains('*'), "{policy}");
    }
    let reply = look(&gateway, "/stats", &[FAR, ("accept", "application/json")]).await;
    assert_eq!(
        (reply.header("content-type"), reply.code().as_str()),
        (Some("application/json"), "admin_token_required")
    );
    assert_eq!(reply.json()["request_id"].as_str(), reply.header("x-aiproxy-request-id"));
}

#[tokio::test]
async fn no_page_of_another_origin_reads_embeds_or_frames_any_of_them() {
    let gateway = Gateway::start(guarded_conf().gateway("cors_origins", json!(["*"]))).await;
    let query = format!("/dashboard?token={TOKEN}");
    let bearer = ("authorization", "Bearer admin-0123456789abcdef");
    let origin = ("origin", "https://chat.example.com");
    for path in ["/healthz", "/readyz", "/stats", "/dashboard", query.as_str()] {
        for headers in [vec![], vec![FAR, origin], vec![origin, bearer], vec![FAR, bearer]] {
            let reply = look(&gateway, path, &headers).await;
            for (name, value) in [
                ("cross-origin-resource-policy", "same-origin"),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
                ("referrer-policy", "no-referrer"),
                ("x-frame-options", "DENY"),
            ] {
                assert_eq!(reply.header(name), Some(value), "{path} {headers:?}: {reply:?}");
            }
            let is_cors = |name: &http::HeaderName| name.as_str().starts_with("access-control-");
            assert!(!reply.headers.keys().any(is_cors), "{path} {headers:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn over_tls_the_cookie_is_for_tls_only() {
    let (ca, conf) = (TestCa::new(), guarded_conf());
    let (cert, key) = ca.pair();
    std::fs::write(conf.folder().join("pair.pem"), cert + &key).unwrap();
    let conf = conf.gateway("tls", json!({"cert": "../pair.pem", "key": "../pair.pem"}));
    let gateway = Gateway::start(conf).await;
    let mut sender = ca.client(&[]).http1(gateway.address).await;
    let request = http::Request::get(format!("/dashboard?token={TOKEN}")).header("host", "gateway.test");
    let request = request.body(whole("")).unwrap();
    let reply = crate::support::client::whole(sender.send_request(request).await.unwrap()).await;
    assert_redirected(&reply, "/dashboard");
    let set = reply.header("set-cookie").unwrap();
    assert!(set.ends_with("; Path=/; Max-Age=2592000; Secure"), "{set}");
}

#[tokio::test]
async fn the_cookie_goes_to_no_provider() {
    let upstream = Upstream::echo().await;
    let gateway = Gateway::start(Conf::new(&upstream.url())).await;
    for (sent, expected) in [
        (vec!["aiproxy_admin=abc"], vec![]),
        (vec!["a=1; aiproxy_admin=\"abc\"; b=\"2\""], vec!["a=1; b=\"2\""]),
        (vec!["a=1;b=2", "aiproxy_admin=abc;c=3", "aiproxy_admin=abc"], vec!["a=1;b=2", "c=3"]),
        (vec!["xaiproxy_admin=abc; a=aiproxy_admin"], vec!["xaiproxy_admin=abc; a=aiproxy_admin"]),
    ] {
        let headers: Vec<_> = std::iter::once(("x-api-key", KEY)).chain(sent.iter().map(|c| ("cookie", *c))).collect();
        assert_eq!(look(&gateway, "/x", &headers).await.echoed("cookie"), expected, "{sent:?}");
    }
    let client = Http2::connect(gateway.address).await;
    let mut request = http2::request("GET", "/x", "");
    for crumb in ["a=1", "aiproxy_admin=abc", "b=2"] {
        request.headers_mut().append("cookie", crumb.parse().unwrap());
    }
    assert_eq!(client.send(request).await.echoed("cookie"), ["a=1; b=2"]);
}

#[tokio::test]
async fn the_cookie_goes_to_no_provider_with_a_websocket_either() {
    let upstream = SocketUpstream::echo().await;
    let gateway = Gateway::start(sockets::conf(&upstream.url())).await;
    let headers = [("x-api-key", KEY), ("cookie", "aiproxy_admin=abc; a=1")];
    let (mut socket, _) = sockets::dial(gateway.address, "/x", &headers).await.expect("the gateway accepts");
    socket.say("hello").await;
    assert_eq!(socket.hear().await, "hello");
    assert_eq!(upstream.handshakes()[0].headers()["cookie"], "a=1");
}

#[tokio::test]
async fn the_admin_token_opens_no_provider() {
    let upstream = RawUpstream::answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    let gateway = Gateway::start(Conf::new(&upstream.url()).gateway("admin", json!({"token": TOKEN}))).await;
    let reply = look(&gateway, "/v1/models", &[("authorization", "Bearer admin-0123456789abcdef")]).await;
    assert_eq!(reply.code(), "proxy_key_unknown");
    for (method, path) in [("POST", "/stats"), ("PUT", "/dashboard"), ("POST", "/dashboard/"), ("DELETE", "/dashboard")]
    {
        let reply = ask(gateway.address, method, path, &[("authorization", "Bearer admin-0123456789abcdef")]).await;
        assert_eq!(reply.code(), "proxy_key_unknown", "{method} {path} is the provider's");
    }
    assert_eq!(upstream.accepted(), 0);
}

#[tokio::test]
async fn the_token_is_in_no_log() {
    let conf = guarded_conf().gateway("access_log", "../access.log").gateway("log", json!({"level": "trace"}));
    let mut server = Server::start(&conf, "trace").await;
    let submitted = format!("token={TOKEN}");
    let reply = call(server.address, "POST", "/dashboard", &[FAR, FORM], &submitted).await;
    let cookie = cookie(&reply);
    ask(server.address, "GET", &format!("/dashboard?token={TOKEN}"), &[FAR]).await;
    ask(server.address, "GET", "/stats", &[FAR, ("cookie", &cookie)]).await;
    ask(server.address, "GET", "/stats", &[FAR, ("authorization", &format!("Bearer {TOKEN}"))]).await;
    ask(server.address, "GET", &format!("/x?token={TOKEN}"), &[("cookie", &cookie), ("x-api-key", KEY)]).await;
    assert_eq!(server.end().await, Some(0));
    let log = server.log() + &std::fs::read_to_string(conf.folder().join("access.log")).unwrap();
    assert!(log.contains("\"path\":\"/x\""), "{log}");
    assert!(!log.contains("0123456789abcdef") && !log.contains(cookie.split_once('=').unwrap().1), "{log}");
}

#[tokio::test]
async fn the_token_that_init_draws_works_and_is_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let ran = run(aiproxy(&["init", folder.path().to_str().unwrap()])).await;
    let token = ran.stdout.lines().find_map(|line| line.strip_prefix("  admin-")).expect("a token").to_owned();
    assert_eq!(token.len(), 48, "{}", ran.stdout);
    assert_eq!(ran.stdout.matches(&token).count(), 1, "{}", ran.stdout);
    assert!(ran.stdout.contains("/dashboard") && ran.stdout.contains("gateway.json"), "{}", ran.stdout);
    let again = run(aiproxy(&["init", folder.path().to_str().unwrap()])).await;
    assert!(!again.stdout.contains("admin-"), "{}", again.stdout);

    let written = std::fs::read(folder.path().join("conf/gateway.json")).unwrap();
    let written: Value = serde_json::from_slice(&written).unwrap();
    let gateway = Gateway::start(Conf::new("http://127.0.0.1:1").gateway("admin", written["admin"].clone())).await;
    let bearer = format!("Bearer admin-{token}");
    assert_eq!(look(&gateway, "/stats", &[FAR, ("authorization", &bearer)]).await.status, 200);
}
