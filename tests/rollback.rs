//! Every accepted version of a plugin is kept, and an earlier one can be brought back without its file.

use aiproxy_host::digest::{hex, sha256};
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use crate::support::binary::{self, Ran};
use crate::support::loaded::{needy, plugin, version};
use crate::support::{Answer, Conf, Gateway, Upstream, send};

const TOKEN: &str = "admin-0123456789abcdef";

fn hash(letter: u8) -> String {
    hex(&sha256(&version(letter)))
}

fn mark(letter: u8) -> String {
    format!("MARK-{}", (letter as char).to_string().repeat(12))
}

/// A puppet in version B, after A.
async fn gateway() -> (Gateway, Upstream) {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).gateway("admin", json!({"token": TOKEN}));
    conf.plugin("puppet", &version(b'A'));
    let gateway = Gateway::start(conf).await;
    gateway.swap_in(&version(b'B')).await;
    (gateway, upstream)
}

async fn command(gateway: &Gateway, command: &str, body: &str) -> Answer {
    let request = Request::post(format!("/admin/plugins/{command}")).header("authorization", format!("Bearer {TOKEN}"));
    send(gateway.address, request.body(Full::from(body.to_owned())).expect("a request")).await
}

async fn run(gateway: &Gateway, arguments: &[&str]) -> Ran {
    let mut command = binary::aiproxy(&["plugin"]);
    command.args(arguments).arg("--state").arg(gateway.conf.state());
    binary::run(command).await
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

/// What is in the puppet's history, newest first: hash, whether it serves.
fn history(stats: &Value) -> Vec<(String, bool)> {
    let versions = plugin(stats, "puppet")["versions"].as_array().expect("a history");
    let shown = |entry: &Value| (entry["version"].as_str().expect("a hash").to_owned(), entry["serves"] == true);
    versions.iter().map(shown).collect()
}

#[tokio::test]
async fn the_history_lists_every_accepted_version_and_which_serves() {
    let (gateway, _upstream) = gateway().await;
    let stats = gateway.stats().await;
    assert_eq!(history(&stats), [(hash(b'B'), true), (hash(b'A'), false)]);
    let newest = &plugin(&stats, "puppet")["versions"][0];
    assert_eq!((&newest["interface"], &newest["source"]), (&json!("0.1.0"), &json!("file")));
    assert_eq!(newest["bytes"], version(b'B').len());
    assert!(newest["accepted_at"].as_u64().is_some_and(|time| time > 1_700_000_000));
}

#[tokio::test]
async fn a_rollback_on_the_admin_route_brings_the_version_before_back_and_pins_it() {
    let (gateway, _upstream) = gateway().await;
    let reply = command(&gateway, "puppet/rollback", "").await;
    assert_eq!((reply.status.as_u16(), &reply.json()["version"]), (200, &json!(hash(b'A'))), "{reply:?}");
    assert_eq!(gateway.mark().await, mark(b'A'), "at once");
    let stats = gateway.stats().await;
    let shown = plugin(&stats, "puppet");
    assert_eq!((&shown["pin"]["version"], &shown["source"]), (&json!(hash(b'A')), &json!("kept")));
    assert_eq!(history(&stats), [(hash(b'B'), false), (hash(b'A'), true)]);
    let events = stats["events"].to_string();
    assert!(events.contains("was brought back"), "{events}");

    // The file is still B's, which is known: the pin holds, also when it is written anew.
    gateway.conf.plugin("puppet", &version(b'B'));
    gateway.reload();
    gateway.conf.plugin("puppet", &version(b'A'));
    gateway.reload();
    gateway.conf.plugin("puppet", &version(b'B'));
    gateway.reload();
    assert_eq!(gateway.mark().await, mark(b'A'));
    // What is not in the history lifts it.
    gateway.swap_in(&version(b'C')).await;
    assert_eq!(gateway.mark().await, mark(b'C'));
    assert!(plugin(&gateway.stats().await, "puppet")["pin"].is_null());
}

#[tokio::test]
async fn a_version_may_be_named_and_the_pin_be_lifted() {
    let (gateway, _upstream) = gateway().await;
    gateway.swap_in(&version(b'C')).await;
    let named = json!({"version": hash(b'A')[..10]}).to_string();
    assert_eq!(command(&gateway, "puppet/rollback", &named).await.status, 200);
    assert_eq!(gateway.mark().await, mark(b'A'));
    let back = json!({"version": hash(b'B')}).to_string();
    assert_eq!(command(&gateway, "puppet/rollback", &back).await.status, 200);
    assert_eq!(gateway.mark().await, mark(b'B'));
    assert_eq!(command(&gateway, "puppet/unpin", "").await.status, 200);
    assert_eq!(gateway.mark().await, mark(b'C'), "the file counts again");
}

#[tokio::test]
async fn the_command_works_beside_the_running_gateway_and_the_pin_survives_a_restart() {
    let (mut gateway, _upstream) = gateway().await;
    let output = run(&gateway, &["rollback", "puppet"]).await;
    assert_eq!(output.code, Some(0), "{}", said(&output));
    assert!(
        said(&output).contains(&format!("version {} serves and is pinned", &hash(b'A')[..12])),
        "{}",
        said(&output)
    );
    assert_eq!(gateway.mark().await, mark(b'A'));

    gateway.stop();
    gateway.ended().await;
    let gateway = gateway.restart().await;
    assert_eq!(gateway.mark().await, mark(b'A'));
    let stats = gateway.stats().await;
    assert_eq!(history(&stats), [(hash(b'B'), false), (hash(b'A'), true)]);
    assert_eq!(plugin(&stats, "puppet")["pin"]["version"], hash(b'A'));
    let output = run(&gateway, &["unpin", "puppet"]).await;
    assert_eq!(output.code, Some(0), "{}", said(&output));
    gateway.serves("puppet", &version(b'B')).await;
}

#[tokio::test]
async fn the_command_works_while_no_gateway_runs() {
    let (mut gateway, _upstream) = gateway().await;
    gateway.stop();
    gateway.ended().await;
    let output = run(&gateway, &["rollback", "puppet"]).await;
    assert!(said(&output).contains("from the next start on"), "{}", said(&output));
    let gateway = gateway.restart().await;
    assert_eq!(gateway.mark().await, mark(b'A'));
}

#[tokio::test]
async fn what_cannot_be_brought_back_changes_nothing_and_is_said() {
    let upstream = Upstream::echo().await;
    let conf = Conf::new(&upstream.url()).settings(json!({"needed": 1})).gateway("admin", json!({"token": TOKEN}));
    conf.plugin("puppet", &needy());
    let mut gateway = Gateway::start(conf).await;
    gateway.swap_in(&version(b'B')).await;
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = json!({}));
    let is_new = |stats: &Value| stats["generation"].as_u64() >= Some(3);
    gateway.until("the settings serve", is_new).await;
    let reply = command(&gateway, "puppet/rollback", "").await;
    assert_eq!((reply.status.as_u16(), reply.code().as_str()), (409, "command_refused"));
    assert!(reply.text().contains("wants the setting `needed`"), "{}", reply.text());
    let stats = gateway.stats().await;
    let shown = plugin(&stats, "puppet");
    assert!(shown["pin"].is_null() && shown["last_error"].is_null() && shown["state"] == "active", "{shown}");
    assert_eq!(gateway.mark().await, mark(b'B'));
    for (name, body, expected) in [
        ("nobody", "", "nothing uses a plugin nobody; there are: puppet"),
        ("puppet", r#"{"version": "ffff"}"#, "no version ffff is kept"),
    ] {
        let reply = command(&gateway, &format!("{name}/rollback"), body).await;
        assert_eq!(reply.status, 409);
        assert!(reply.text().contains(expected), "{}", reply.text());
    }
    let output = run(&gateway, &["rollback", "nobody"]).await;
    assert_eq!(output.code, Some(1));
    assert!(said(&output).contains("nothing uses a plugin nobody"), "{}", said(&output));
}

#[tokio::test]
async fn commands_need_the_token_even_from_the_machine_itself() {
    let (gateway, _upstream) = gateway().await;
    for (header, status, code) in
        [(None, 401, "admin_token_required"), (Some("Bearer wrong-0123456789abcdef"), 401, "admin_token_wrong")]
    {
        let mut request = Request::post("/admin/plugins/puppet/rollback");
        if let Some(header) = header {
            request = request.header("authorization", header);
        }
        let reply = send(gateway.address, request.body(Full::default()).expect("a request")).await;
        assert_eq!((reply.status.as_u16(), reply.code().as_str()), (status, code));
    }
    assert_eq!(gateway.mark().await, mark(b'B'));
}

#[tokio::test]
async fn a_pin_holds_at_a_start_whatever_has_become_of_the_file() {
    type Spoil = fn(&std::path::Path);
    let (mut gateway, _upstream) = gateway().await;
    assert_eq!(command(&gateway, "puppet/rollback", "").await.status, 200);
    let cases: [(Spoil, &str); 3] = [
        (|file| std::fs::remove_file(file).expect("it is there"), "there is no file"),
        (|file| std::fs::write(file, b"not a component").expect("it can be written"), "not a WebAssembly file"),
        (|file| std::fs::write(file, needy()).expect("it can be written"), "wants the setting `needed`"),
    ];
    for (spoil, reason) in cases {
        gateway.stop();
        gateway.ended().await;
        spoil(&gateway.conf.plugins().join("puppet.wasm"));
        gateway = gateway.restart().await;
        assert_eq!(gateway.mark().await, mark(b'A'), "{reason}");
        let stats = gateway.stats().await;
        let shown = plugin(&stats, "puppet");
        assert_eq!(shown["pin"]["version"], hash(b'A'));
        assert!(shown["last_error"].as_str().is_some_and(|error| error.contains(reason)), "{reason}: {shown}");
    }
}

#[tokio::test]
async fn a_start_that_is_refused_lifts_no_pin() {
    let (mut gateway, _upstream) = gateway().await;
    assert_eq!(command(&gateway, "puppet/rollback", "").await.status, 200);
    gateway.stop();
    gateway.ended().await;
    gateway.conf.plugin("puppet", &version(b'C'));
    let keys = std::fs::read_to_string(gateway.conf.conf().join("api_keys.json")).expect("it is there");
    gateway.conf.write_file("api_keys.json", "[{]");
    let mut serve = binary::aiproxy(&["serve", "--listen", "127.0.0.1:0"]);
    serve.arg("--conf").arg(gateway.conf.conf()).arg("--plugins").arg(gateway.conf.plugins());
    serve.arg("--state").arg(gateway.conf.state());
    assert_eq!(binary::run(serve).await.code, Some(1));
    gateway.conf.write_file("api_keys.json", &keys);
    gateway.conf.plugin("puppet", &version(b'B'));
    let gateway = gateway.restart().await;
    assert_eq!(gateway.mark().await, mark(b'A'));
}

#[tokio::test]
async fn what_was_in_the_file_when_it_was_pinned_does_not_lift_the_pin() {
    let (gateway, _upstream) = gateway().await;
    gateway.conf.plugin("puppet", &needy());
    gateway.refuses("puppet.wasm", "wants the setting `needed`").await;
    let named = json!({"version": hash(b'B')}).to_string();
    assert_eq!(command(&gateway, "puppet/rollback", &named).await.status, 200);
    let stats = gateway.stats().await;
    assert!(plugin(&stats, "puppet")["last_error"].is_null(), "{stats:#}");
    // What the refused version lacked is there now, and yet it was not asked for.
    let mut gateway = gateway;
    let number = stats["generation"].as_u64();
    gateway.conf.write_channels(|channels| channels["c"]["settings"] = json!({"needed": 1}));
    gateway.until("the settings serve", |stats| stats["generation"].as_u64() > number).await;
    assert_eq!(gateway.mark().await, mark(b'B'));
}
