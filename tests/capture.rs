//! A channel with `capture` has its plugin's decisions recorded, without a credential, for as long as it is switched on.

use std::os::unix::fs::MetadataExt;

use serde_json::{Value, json};

use crate::support::{Conf, Gateway, KEY, UPSTREAM_KEY, Upstream, ask, call};

const BEARER: (&str, &str) = ("authorization", "Bearer sk-test-0123456789");

async fn gateway(conf: impl FnOnce(Conf) -> Conf) -> (Gateway, Upstream) {
    let upstream = Upstream::echo().await;
    (Gateway::start(conf(Conf::new(&upstream.url()))).await, upstream)
}

#[tokio::test]
async fn a_decision_is_recorded_with_all_that_is_needed_to_repeat_it() {
    let settings =
        json!({"profile": {"headers": ["x-seen"], "reads_model": true, "body": ["/n", "/absent"]}, "quiet": true});
    let (gateway, _upstream) = gateway(|conf| {
        let keys = json!([{"proxy_key": KEY, "id": "tester", "channel": "c", "tags": ["team-a"]}]);
        conf.set("capture", true).set("secrets", json!({"other": "s"})).settings(settings.clone()).keys(keys)
    })
    .await;
    let headers = [BEARER, ("x-seen", "1"), ("x-unseen", "2"), ("content-type", "application/json")];
    let body = r#"{"model": "m", "stream": true, "n": 7}"#;
    let reply = call(gateway.address, "POST", "/v1/chat?a=%2f", &headers, body).await;
    let line = &gateway.captured("c", 1).await[0];
    assert_eq!(line["request_id"], reply.header("x-aiproxy-request-id").unwrap());
    assert_eq!(
        line["channel"],
        json!({"id": "c", "name": "C", "settings": settings, "endpoints": [], "secrets": ["other"]})
    );
    assert_eq!(line["plugin"]["name"], "puppet");
    assert_eq!(line["plugin"]["version"].as_str().unwrap().len(), 64);
    let request = &line["request"];
    assert_eq!(
        (&request["method"], &request["path"], &request["query"]),
        (&json!("POST"), &json!("/v1/chat"), &json!("a=%2f"))
    );
    assert_eq!(request["presented"], json!({"authorization": "bearer"}));
    let headers = &request["headers"];
    assert_eq!((&headers["x-seen"], &headers["x-unseen"]), (&json!("1"), &json!("2")), "whatever the profile wants");
    assert_eq!((&request["model"], &request["streaming"]), (&json!("m"), &json!(true)));
    assert_eq!(request["body"], json!({"/n": "7", "/absent": null}));
    assert_eq!(request["caller"], json!({"id": "tester", "tags": ["team-a"]}));
    let plan = &line["answer"]["send"];
    assert_eq!((&plan["path"], &plan["query"]), (&json!("/v1/chat"), &json!("a=%2f")));
    assert_eq!(plan["headers"][0]["set"][0], "x-puppet-mark");
    assert_eq!(plan["credentials"], json!([{"secret": "key", "place": {"authorization": "Bearer"}}]));
}

#[tokio::test]
async fn every_kind_of_answer_is_recorded() {
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true)).await;
    for path in ["/puppet/decline", "/puppet/refuse/404/no_such/sorry", "/puppet/trap", "/puppet/host-header"] {
        ask(gateway.address, "GET", path, &[BEARER]).await;
    }
    let mut lines = gateway.captured("c", 4).await;
    // Which worker's line is first is chance.
    lines.sort_by_key(|line| line["request"]["path"].to_string());
    let answers: Vec<&Value> = lines.iter().map(|line| &line["answer"]).collect();
    assert_eq!(answers[0], "decline");
    assert_eq!(answers[1]["fail"]["code"], "plugin_answer_invalid");
    assert_eq!(answers[2]["refuse"], json!({"status": 404, "code": "no_such", "message": "sorry"}));
    assert_eq!(answers[3]["fail"]["code"], "plugin_trapped");
}

#[tokio::test]
async fn reused_answers_are_recorded_too() {
    let settings = json!({"profile": {"reuse": "any-caller"}});
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(settings)).await;
    for _ in 0..5 {
        ask(gateway.address, "GET", "/same", &[BEARER]).await;
    }
    let lines = gateway.captured("c", 5).await;
    assert!(lines.iter().all(|line| line["answer"]["send"]["path"] == "/same"));
}

#[tokio::test]
async fn no_credential_is_recorded_whatever_the_profile_wants() {
    // The profile may not ask for credentials; for this one it may, by its name.
    let settings = json!({"profile": {"headers": ["x-session-token"]}});
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(settings)).await;
    let secrets = ["cookie-secret-1", "session-secret-2", "access-secret-3", "auth_tokens/secret-4", "sub-secret-5"];
    let headers = [
        ("x-goog-api-key", KEY),
        ("authorization", "Token auth_tokens/secret-4"),
        ("cookie", "a=cookie-secret-1"),
        ("x-session-token", "session-secret-2"),
        ("ocp-apim-subscription-key", "sub-secret-5"),
    ];
    let path = format!("/v1/x?access_token=access-secret-3&key={KEY}&b=1");
    let reply = ask(gateway.address, "GET", &path, &headers).await;
    assert!(reply.text().contains("session-secret-2"), "the provider still gets it: {}", reply.text());
    let line = &gateway.captured("c", 1).await[0];
    let text = std::fs::read_to_string(gateway.capture_file("c")).unwrap();
    for secret in secrets.iter().chain([&KEY, &UPSTREAM_KEY]) {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
    assert_eq!(line["request"]["query"], "access_token=***&b=1");
    assert_eq!(line["answer"]["send"]["query"], "access_token=***&b=1");
    let withheld = line["request"]["withheld"].as_array().unwrap();
    for name in ["x-session-token", "ocp-apim-subscription-key"] {
        assert!(withheld.contains(&json!(name)), "{withheld:?}");
    }
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().mode() & 0o777;
    let file = gateway.capture_file("c");
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
}

/// A channel whose plugin tells all that it was shown, of these fields.
fn telling(headers: &[&str], body: &[&str]) -> Value {
    json!({"profile": {"headers": headers, "body": body}})
}

#[tokio::test]
async fn body_fields_that_speak_of_secrets_are_withheld_and_masked_where_the_plan_tells_them() {
    let settings = telling(&[], &["/api_key", "/n", "/tools", "/note"]);
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(settings)).await;
    let body = json!({
        "api_key": "body-secret-1",
        "n": "kept",
        "tools": [{"type": "mcp", "authorization": "body-secret-2"}],
        "note": "said again: body-secret-2",
    });
    let headers = [BEARER, ("content-type", "application/json")];
    let reply = call(gateway.address, "POST", "/v1/x", &headers, &body.to_string()).await;
    assert!(reply.text().contains("body-secret-2"), "the provider still gets it: {}", reply.text());
    let line = &gateway.captured("c", 1).await[0];
    assert!(!line.to_string().contains("body-secret"), "{line}");
    assert_eq!(line["request"]["body"], json!({"/n": "kept"}));
    assert_eq!(line["request"]["withheld"], json!(["/api_key", "/tools", "/note"]));
}

#[tokio::test]
async fn a_secret_that_the_plugin_took_apart_is_masked_too() {
    let mut settings = telling(&["x-auth"], &[]);
    let taken = json!([["set", "x-taken", "part-secret-1"], ["set", "x-decoded", "a/b-secret-2"]]);
    settings["plan"] = json!({ "headers": taken });
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(settings)).await;
    let headers = [BEARER, ("x-auth", "Bearer part-secret-1")];
    ask(gateway.address, "GET", "/v1/x?access_token=a%2Fb-secret-2", &headers).await;
    let line = &gateway.captured("c", 1).await[0];
    let plan = &line["answer"]["send"];
    for name in ["x-taken", "x-decoded"] {
        let edit = json!({"set": [name, "***"]});
        assert!(plan["headers"].as_array().unwrap().contains(&edit), "{name}: {plan}");
    }
    assert_eq!(plan["credentials"][0]["place"]["authorization"], "Bearer", "a scheme is no secret");
}

#[tokio::test]
async fn a_secret_that_is_a_word_of_the_format_leaves_the_line_readable() {
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(telling(&["x-token"], &[]))).await;
    for (path, word) in [("/v1/x", "headers"), ("/puppet/decline", "decline"), ("/v1/y", "\",\"set\":")] {
        ask(gateway.address, "GET", path, &[BEARER, ("x-token", word)]).await;
    }
    let mut lines = gateway.captured("c", 3).await;
    lines.sort_by_key(|line| line["request"]["path"].to_string());
    assert_eq!(lines[0]["answer"], "decline");
    assert!(lines[1..].iter().all(|line| line["answer"]["send"]["headers"].is_array()), "{lines:?}");
}

#[tokio::test]
async fn a_request_with_too_many_secrets_is_not_recorded() {
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true).settings(json!({"quiet": true}))).await;
    let flood: Vec<_> = (0..5400).map(|n| format!("sig=a{n:05}")).collect();
    let reply = ask(gateway.address, "GET", &format!("/flood?{}", flood.join("&")), &[BEARER]).await;
    assert_eq!(reply.status, 200, "it is served all the same");
    let same = "sig=aaaaaa&".repeat(5000);
    ask(gateway.address, "GET", &format!("/same?{same}"), &[BEARER]).await;
    let lines = gateway.captured("c", 1).await;
    assert_eq!((lines.len(), &lines[0]["request"]["path"]), (1, &json!("/same")), "the same one counts once");
    assert!(!lines[0].to_string().contains("aaaaaa"));
}

#[tokio::test]
async fn capturing_is_switched_on_and_off_by_a_reload() {
    let (mut gateway, _upstream) = gateway(|conf| conf).await;
    ask(gateway.address, "GET", "/before", &[BEARER]).await;
    let switch = async |gateway: &mut Gateway, on: bool, generation: u64| {
        gateway.conf.write_channels(|channels| channels["c"]["capture"] = json!(on));
        gateway.reload();
        gateway.until("the change serves", |stats| stats["generation"] == generation).await;
    };
    switch(&mut gateway, true, 2).await;
    ask(gateway.address, "GET", "/while-on", &[BEARER]).await;
    gateway.captured("c", 1).await;
    switch(&mut gateway, false, 3).await;
    ask(gateway.address, "GET", "/after", &[BEARER]).await;
    switch(&mut gateway, true, 4).await;
    ask(gateway.address, "GET", "/on-again", &[BEARER]).await;
    let lines = gateway.captured("c", 2).await;
    let paths: Vec<_> = lines.iter().map(|line| line["request"]["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["/while-on", "/on-again"]);
}

#[tokio::test]
async fn what_is_under_way_is_written_at_an_orderly_stop() {
    let (mut gateway, _upstream) = gateway(|conf| conf.set("capture", true)).await;
    for _ in 0..20 {
        ask(gateway.address, "GET", "/x", &[BEARER]).await;
    }
    let path = gateway.capture_file("c");
    gateway.stop();
    gateway.ended().await;
    assert_eq!(std::fs::read_to_string(path).unwrap().lines().count(), 20);
}

#[tokio::test]
async fn a_disk_that_takes_nothing_holds_up_no_exchange() {
    let (gateway, _upstream) = gateway(|conf| {
        // A file where the folder should be.
        std::fs::create_dir(conf.state()).unwrap();
        std::fs::write(conf.state().join("captures"), "in the way").unwrap();
        conf.set("capture", true)
    })
    .await;
    for _ in 0..20 {
        assert_eq!(ask(gateway.address, "GET", "/x", &[BEARER]).await.status, 200);
    }
    assert_eq!(std::fs::read_to_string(gateway.conf.state().join("captures")).unwrap(), "in the way");
}

#[tokio::test]
async fn the_proxy_key_is_recorded_nowhere_wherever_a_client_has_put_it() {
    let (gateway, _upstream) = gateway(|conf| conf.set("capture", true)).await;
    let elsewhere = format!("/v1/x?key={KEY}&a=1");
    let headers =
        [BEARER, ("x-original-url", &*elsewhere), ("x-tenant", KEY), ("user-agent", &*format!("client/{KEY} (x)"))];
    let path = format!("/v1/{KEY}/x?a=1;key={KEY}");
    call(gateway.address, "GET", &path, &headers, "").await;
    let line = gateway.captured("c", 1).await[0].to_string();
    assert!(!line.contains(KEY), "{line}");
    assert!(line.contains("/v1/***/x") && line.contains("client/*** (x)"), "{line}");
}
