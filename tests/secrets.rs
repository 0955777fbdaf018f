//! Secrets stay inside: whatever succeeds or fails, no key appears in what the gateway says of itself.

use aiproxy_host::digest::{hex, sha256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

use crate::support::ask::request;
use crate::support::binary::{Server, aiproxy, run};
use crate::support::{Answer, Conf, Gateway, Upstream, ask, call, channel};

const UPSTREAM: &str = "upstream/MARKER+qzjxkwvqzj01";
const OTHER: &str = "second~MARKER=wkvjzqxwkv02";
const PROXY: &str = "sk-proxy/MARKER+xjqzvkwxjq03";
const DISABLED: &str = "sk-disabled/MARKER+vzkxqjwvzk04";
const GUESSED: &str = "sk-guessed/MARKER+kqwjxzvkqw05";
const LOGIN: &str = "egress-MARKER-jvxqkzwjvx06";
const SECRETS: [&str; 6] = [UPSTREAM, OTHER, PROXY, DISABLED, GUESSED, LOGIN];

/// How a secret may look: as it is, percent-encoded, in base64 at any offset, as a digest.
fn disguises(secret: &str) -> Vec<String> {
    let percent = |keep: fn(&u8) -> bool| {
        secret
            .bytes()
            .map(|b| if keep(&b) { char::from(b).to_string() } else { format!("%{b:02X}") })
            .collect::<String>()
    };
    let digest = sha256(secret.as_bytes());
    let mut forms = vec![
        // A part of it is enough to be found.
        secret[secret.len() - 12..].to_owned(),
        percent(|_| false),
        percent(u8::is_ascii_alphanumeric),
        hex(secret.as_bytes()),
        hex(&digest),
        digest.iter().map(u8::to_string).collect::<Vec<_>>().join(", "),
    ];
    for offset in 0..3 {
        for engine in [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
            let encoded = engine.encode(format!("{}{secret}", "x".repeat(offset)));
            // Without the ends, which depend on what stands beside it.
            forms.push(encoded[4..encoded.len() - 4].to_owned());
        }
    }
    forms
}

/// Fails if `text` holds any secret in any form.
fn assert_clean(what: &str, text: &str) {
    let lower = text.to_ascii_lowercase();
    for secret in SECRETS {
        for form in disguises(secret) {
            assert!(!lower.contains(&form.to_ascii_lowercase()), "{what} shows {form}, of {secret}: {text}");
        }
    }
}

fn assert_clean_reply(what: &str, reply: &Answer) {
    assert_clean(what, &format!("{:?} {}", reply.headers, String::from_utf8_lossy(&reply.body)));
}

/// Channels that succeed and that fail in every way, all with marked secrets; the access log is `access.log`.
fn marked(upstream: &Upstream, dead: &str) -> Conf {
    let placed =
        |place: &str| json!({"plan": {"credentials": [["key", place, "token"], ["other", "header", "x-other"]]}});
    let with = |url: &str, settings: Value, change: &dyn Fn(&mut Value)| {
        let mut channel = channel(url);
        channel["api_key"] = json!(UPSTREAM);
        channel["secrets"] = json!({"other": OTHER});
        channel["settings"] = settings;
        change(&mut channel);
        channel
    };
    let usual = |_: &mut Value| {};
    let url = upstream.url();
    let egress = |scheme: &str| format!("{scheme}://user:{LOGIN}@{}", dead.trim_start_matches("http://"));
    let conf = Conf::new(&url);
    let log = conf.folder().join("access.log");
    let mut conf = conf.gateway("access_log", log.to_str().unwrap()).gateway("log", json!({"level": "trace"}));
    let channels = [
        ("c", with(&url, placed("authorization"), &usual)),
        ("query", with(&url, placed("query"), &usual)),
        ("header", with(&url, placed("header"), &usual)),
        ("dead", with(dead, placed("query"), &usual)),
        ("tls", with(&url.replace("http:", "https:"), placed("query"), &usual)),
        ("slow", with(&url, placed("query"), &|channel| channel["first_byte_timeout_ms"] = json!(30))),
        ("http-proxy", with(&url, placed("query"), &|channel| channel["proxy"] = json!(egress("http")))),
        ("socks-proxy", with(&url, placed("query"), &|channel| channel["proxy"] = json!(egress("socks5")))),
        ("off", with(&url, placed("query"), &|channel| channel["status"] = json!("disabled"))),
        (
            "keyless",
            with(&url, placed("query"), &|channel| channel["api_key"] = json!(format!("{OTHER}${{AIPROXY_NEVER}}"))),
        ),
    ];
    let mut keys = vec![json!({"proxy_key": DISABLED, "id": "k-revoked", "channel": "c", "status": "disabled"})];
    for (id, channel) in channels {
        keys.push(json!({"proxy_key": format!("{PROXY}-{id}"), "id": format!("k-{id}"), "channel": id}));
        conf = conf.channel(id, channel);
    }
    conf.keys(Value::from(keys))
}

/// Requests of every kind; every reply of the gateway's own is looked at.
async fn drive(address: std::net::SocketAddr) {
    let key = |id: &str| format!("{PROXY}-{id}");
    let encoded = |text: &str| text.replace('/', "%2F").replace('+', "%2B");
    for id in ["c", "query", "header"] {
        let reply = call(address, "POST", "/ok?x=1", &[("x-api-key", &key(id))], "{}").await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "fine"), "{id}");
        let reply = ask(address, "GET", &format!("/ok?key={}", encoded(&key(id))), &[]).await;
        assert_eq!(reply.status, 200, "{id}");
        assert_clean_reply(id, &reply);
    }
    for id in ["dead", "tls", "slow", "http-proxy", "socks-proxy", "off", "keyless"] {
        let reply = ask(address, "GET", "/slow", &[("x-api-key", &key(id))]).await;
        assert!(reply.status.is_server_error(), "{id}: {reply:?}");
        assert_clean_reply(id, &reply);
    }
    for behaviour in
        ["trap", "print-line", "log", "control-header", "unknown-secret", "unknown-scheme", "refuse/400/a/b"]
    {
        let reply = ask(address, "GET", &format!("/puppet/{behaviour}"), &[("api-key", &key("c"))]).await;
        assert_clean_reply(behaviour, &reply);
    }
    for path in ["/break", "/nonsense"] {
        let reply = ask(address, "GET", path, &[("x-goog-api-key", &key("c"))]).await;
        assert_clean_reply(path, &reply);
    }
    let bearer = |key: &str| format!("Bearer {key}");
    for headers in [
        vec![("authorization", bearer(GUESSED))],
        vec![("authorization", bearer(DISABLED))],
        vec![("authorization", GUESSED.to_owned())],
        vec![("authorization", format!("Basic {}", STANDARD_NO_PAD.encode(format!("u:{GUESSED}"))))],
        vec![("authorization", bearer(GUESSED)), ("x-api-key", DISABLED.to_owned())],
        vec![("x-api-key", format!("{GUESSED} with spaces"))],
        vec![("x-api-key", key("c")), ("connection", "upgrade".to_owned()), ("upgrade", "websocket".to_owned())],
        vec![("x-api-key", key("c")), ("host", "a".to_owned()), ("host", "b".to_owned())],
    ] {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let reply = ask(address, "GET", "/ok", &headers).await;
        assert!(reply.status.is_client_error(), "{headers:?}: {reply:?}");
        assert_clean_reply("a refusal", &reply);
    }
    let reply = ask(address, "GET", &format!("/ok?key={}&x=%zz", encoded(GUESSED)), &[]).await;
    assert_clean_reply("a refusal of a query", &reply);
    let reply = over_http2(address, &key("c")).await;
    assert_eq!(reply, 200);
    for page in ["/stats", "/dashboard", "/readyz", "/healthz"] {
        assert_clean_reply(page, &ask(address, "GET", page, &[("x-api-key", &key("c"))]).await);
    }
}

/// The status of a request over HTTP/2, whose library logs more than that of HTTP/1.
async fn over_http2(address: std::net::SocketAddr, key: &str) -> u16 {
    let stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let client = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (mut sender, connection) = client.await.unwrap();
    tokio::spawn(connection);
    let (name, value) = ("authorization", format!("Bearer {key}"));
    let request: http::Request<Full<Bytes>> = request("GET", &format!("http://{address}/ok"), &[(name, &value)], "");
    let reply = sender.send_request(request).await.unwrap();
    let status = reply.status().as_u16();
    reply.into_body().collect().await.unwrap();
    status
}

async fn upstream() -> Upstream {
    Upstream::start(|request| async move {
        match request.uri().path() {
            "/slow" => std::future::pending().await,
            "/break" => crate::support::reply(200, "fine").map(|_| {
                let (sender, body) = crate::support::stream();
                sender.send(Err(std::io::Error::other("broken"))).unwrap();
                body
            }),
            _ => crate::support::reply(200, "fine"),
        }
    })
    .await
}

/// An address where nobody listens.
fn dead() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test]
async fn no_reply_log_or_page_of_a_running_gateway_shows_a_secret_even_when_it_logs_everything() {
    let upstream = upstream().await;
    let conf = marked(&upstream, &dead());
    let mut server = Server::start(&conf, "trace").await;
    drive(server.address).await;
    // A reload that fails and one that succeeds.
    conf.write_file("api_keys.json", &format!(r#"[{{"proxy_key": "{PROXY}", "chanel": "c", "id": "{PROXY}"}}]"#));
    conf.write_file(
        "channels_config.json",
        &format!(r#"{{"channels": {{"c": {{"api_key": ["{UPSTREAM}"], "base_url": "{OTHER}"}}}}}}"#),
    );
    let refused = async {
        while !ask(server.address, "GET", "/stats", &[]).await.text().contains("chanel") {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), refused).await.expect("the files are looked at");
    assert_clean_reply("/stats", &ask(server.address, "GET", "/stats", &[]).await);
    assert_eq!(server.end().await, Some(0));
    let log = server.log();
    assert!(log.contains("TRACE") && log.contains("upstream_unreachable"), "it did log: {log}");
    assert_clean("the log", &log);
    let access = std::fs::read_to_string(conf.folder().join("access.log")).unwrap();
    assert!(access.lines().count() > 25, "{access}");
    assert_clean("the access log", &access);
}

#[tokio::test]
async fn explain_and_check_show_no_secret() {
    let upstream = upstream().await;
    let conf = marked(&upstream, &dead());
    conf.write();
    let on = async |arguments: &[&str]| {
        let mut command = aiproxy(&arguments[..1]);
        command.arg("--conf").arg(conf.conf()).arg("--plugins").arg(conf.plugins()).args(&arguments[1..]);
        let ran = run(command).await;
        assert_clean(arguments[0], &format!("{} {}", ran.stdout, ran.stderr));
        ran
    };
    for id in ["k-c", "k-query", "k-http-proxy", "k-keyless", "k-revoked"] {
        let path = format!("/ok?key={GUESSED}");
        let bearer = format!("authorization: Bearer {GUESSED}");
        let ran = on(&["explain", "--key", id, "-H", &bearer, "GET", &path]).await;
        assert_eq!(ran.code, Some(0), "{ran:?}");
    }
    assert_eq!(on(&["check"]).await.code, Some(0));
    let keys = json!([{"proxy_key": PROXY, "id": PROXY, "channel": GUESSED, PROXY: 1}, {"proxy_key": "a b"}, PROXY]);
    conf.write_file("api_keys.json", &keys.to_string());
    conf.write_file("channels_config.json", &json!({"channels": {
        "a": {"base_url": format!("http://u:{LOGIN}@h"), "api_key": format!("{UPSTREAM} x"), "proxy": format!("ftp://u:{LOGIN}@h")},
        "b": {"base_url": UPSTREAM, "api_key": 7, "secrets": {"key": OTHER}, "status": OTHER, "host": UPSTREAM},
    }}).to_string());
    let ran = on(&["check"]).await;
    assert!(ran.code == Some(1) && ran.stdout.lines().count() > 6, "{ran:?}");
    conf.write_file("channels_config.json", &format!(r#"{{"channels": {{"a": {{"api_key": "{UPSTREAM}" "{OTHER}""#));
    assert_eq!(on(&["check"]).await.code, Some(1));
}

#[tokio::test]
async fn debug_output_of_what_the_library_hands_out_shows_no_secret() {
    let upstream = upstream().await;
    let gateway = Gateway::start(marked(&upstream, &dead())).await;
    let generation = gateway.shared.current.load_full();
    let text = format!("{:?} {:#?}", generation.config, generation.config);
    assert!(text.contains("k-socks-proxy"), "{text}");
    assert_clean("Debug", &text);
    for channel in generation.config.channels.values() {
        for secret in channel.secrets.values() {
            assert_clean("Debug of a secret", &format!("{secret:?}"));
        }
        assert_clean("what a plugin is configured with", &channel.settings);
    }
    assert_clean("the status", &format!("{:?}", gateway.shared.status.load()));
}
