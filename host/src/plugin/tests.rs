//! The promises of the sandbox, with the puppet in it.

use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use indexmap::IndexMap;
use serde_json::{Value, json};

use super::*;
use crate::config::{Channel, Endpoint, Sandbox, Secret, Timeouts, UsageSource};
use crate::error::{Failure, Kind};

pub(super) fn engine() -> &'static Arc<Engine> {
    static ENGINE: OnceLock<Arc<Engine>> = OnceLock::new();
    ENGINE.get_or_init(|| {
        Engine::new(EngineOptions { pool_instances: 50, spares: 2, ..EngineOptions::default() }).unwrap()
    })
}

pub(super) fn puppet() -> Arc<Version> {
    static VERSION: OnceLock<Arc<Version>> = OnceLock::new();
    VERSION.get_or_init(|| engine().load("puppet", guests::puppet()).unwrap()).clone()
}

pub(super) fn channel(settings: &Value) -> Arc<Channel> {
    let endpoint = Arc::new(Endpoint {
        tls: false,
        host: "127.0.0.1".into(),
        port: 1,
        base_path: String::new(),
        authority: "upstream.example".into(),
        proxy: None,
    });
    let second = Duration::from_secs(1);
    Arc::new(Channel {
        id: "puppet".into(),
        name: "Puppet".into(),
        active: true,
        key_missing: None,
        is_keyless: false,
        plugin: "puppet".into(),
        settings: settings.to_string(),
        http: endpoint.clone(),
        websocket: endpoint,
        endpoints: IndexMap::new(),
        secrets: IndexMap::from([("key".into(), Secret::new("sk-upstream"))]),
        supports_websocket: true,
        priority: 0,
        weight: 1,
        timeouts: Timeouts { connect: second, first_byte: second, idle: second },
        usage: UsageSource::Read,
        canary: None,
        capture: false,
    })
}

pub(super) fn sandbox() -> Sandbox {
    Sandbox {
        memory_bytes_max: 32 << 20,
        deadline: Some(Duration::from_millis(30)),
        configure_deadline: Duration::from_millis(100),
        calls_max: 1000,
        fresh: false,
        spare_instances: None,
        back_off: Duration::from_millis(300),
        back_off_max: Duration::from_millis(300),
    }
}

pub(super) fn deploy(settings: &Value, sandbox: Sandbox) -> Result<Arc<Deployed>, String> {
    Deployed::new(engine(), puppet(), channel(settings), sandbox)
}

pub(super) fn request(path: &str) -> Request {
    Request {
        transport: Transport::Http,
        method: "POST".into(),
        path: path.into(),
        query: Some("a=1".into()),
        presented: Presented::Authorization("bearer".into()),
        headers: vec![("user-agent".into(), "test".into())],
        model: Some("m".into()),
        streaming: true,
        body: vec![Some("b".into()), None],
    }
}

/// A worker with one plugin.
struct Worker {
    runtime: tokio::runtime::Runtime,
    instances: Instances,
}

impl Worker {
    fn new(settings: &Value) -> Self {
        Self::with(settings, sandbox())
    }

    fn with(settings: &Value, sandbox: Sandbox) -> Self {
        Self::of(deploy(settings, sandbox).unwrap())
    }

    fn of(deployed: Arc<Deployed>) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        Self { runtime, instances: Instances::new(deployed) }
    }

    fn decide(&self, path: &str) -> Result<Decision, Failure> {
        let caller = Caller { id: "tester".into(), tags: vec!["team-a".into()] };
        self.runtime.block_on(self.instances.decide(&request(path), &caller, "req-1"))
    }

    fn plan(&self, path: &str) -> Plan {
        match self.decide(path) {
            Ok(Decision::Send(plan)) => plan,
            other => panic!("{path}: {other:?}"),
        }
    }

    fn fails(&self, path: &str) -> Failure {
        match self.decide(path) {
            Err(failure) => failure,
            other => panic!("{path}: {other:?}"),
        }
    }
}

fn set_by(plan: &Plan, header: &str) -> String {
    let found = plan.headers.iter().find_map(|edit| match edit {
        HeaderEdit::Set(name, value) if name == header => Some(value),
        _ => None,
    });
    found.unwrap_or_else(|| panic!("no {header}")).to_str().unwrap().to_owned()
}

/// What the log says on this thread while `act` runs.
fn logged(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let sink = Sink::default();
    let writer = sink.clone();
    let subscriber = tracing_subscriber::fmt().json().with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(subscriber, act);
    let bytes = sink.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_plugin_is_told_the_request_and_answers_a_plan() {
    let settings = json!({"profile": {"headers": ["user-agent"], "reads_model": true, "body": ["/a", "/b"],
        "meters": [[{"name": "input", "alternatives": [["/usage/input"]]}]], "reuse": "any-caller"}});
    let deployed = deploy(&settings, sandbox()).unwrap();
    let worker = Worker::of(deployed.clone());
    let profile = &deployed.profile;
    assert_eq!(profile.headers, ["user-agent"]);
    assert_eq!((profile.reads_model, profile.body.len(), profile.reuse), (true, 2, Reuse::AnyCaller));
    let plan = worker.plan("/v1/x");
    assert_eq!((plan.path.as_str(), plan.query.as_deref()), ("/v1/x", Some("a=1")));
    assert_eq!(
        plan.credentials[0],
        Credential { secret: "key".into(), place: Placement::Authorization("Bearer".into()) }
    );
    for (what, seen) in [
        ("presented", "authorization bearer"),
        ("headers", r#"[["user-agent","test"]]"#),
        ("model", "m"),
        ("streaming", "true"),
        ("body", r#"["b",null]"#),
        ("caller", "tester"),
        ("tags", r#"["team-a"]"#),
    ] {
        assert_eq!(set_by(&plan, &format!("x-puppet-saw-{what}")), seen);
    }
}

#[test]
fn versions_that_differ_in_their_mark_are_different_versions() {
    let other = engine().load("puppet", &guests::puppet_marked(*b"BBBBBBBBBBBB")).unwrap();
    assert_ne!(other.hash, puppet().hash);
    let mark = |version| {
        let deployed = Deployed::new(engine(), version, channel(&json!({})), sandbox()).unwrap();
        set_by(&Worker::of(deployed).plan("/"), "x-puppet-mark")
    };
    assert_eq!((mark(puppet()).as_str(), mark(other).as_str()), ("MARK-AAAAAAAAAAAA", "MARK-BBBBBBBBBBBB"));
}

#[test]
fn a_plugin_may_decline_or_refuse() {
    let worker = Worker::new(&json!({}));
    assert!(matches!(worker.decide("/puppet/decline"), Ok(Decision::Decline)));
    let Ok(Decision::Refuse(failure)) = worker.decide("/puppet/refuse/429/slow_down/please") else { panic!() };
    assert_eq!((failure.status().as_u16(), failure.code(), &*failure.message), (429, "slow_down", "please"));
    assert_eq!(worker.fails("/puppet/refuse/200/fine/no").kind, Kind::PluginAnswer);
}

#[test]
fn a_fault_costs_one_exchange_and_its_instance() {
    let cases = [
        ("trap", Kind::PluginTrapped),
        ("sleep", Kind::PluginWaited),
        ("eat", Kind::PluginMemory),
        ("exit", Kind::PluginTrapped),
        ("huge", Kind::PluginAnswer),
    ];
    let sandbox = Sandbox { deadline: Some(Duration::from_secs(2)), ..sandbox() };
    let worker = Worker::with(&json!({}), sandbox);
    for (behaviour, kind) in cases {
        worker.plan("/fine");
        let failure = worker.fails(&format!("/puppet/{behaviour}"));
        assert_eq!(failure.kind, kind, "{behaviour}: {failure}");
        assert!(failure.cause.is_some(), "{behaviour}: the log is told why");
        assert_eq!(set_by(&worker.plan("/fine"), "x-puppet-saw-calls"), "1", "{behaviour}: a new instance");
    }
}

#[test]
fn a_sleep_is_found_out_at_once_without_waiting() {
    let worker = Worker::new(&json!({}));
    let begun = Instant::now();
    assert_eq!(worker.fails("/puppet/sleep").kind, Kind::PluginWaited);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_loop_ends_at_its_deadline_and_opens_a_back_off_that_closes_by_itself() {
    let deployed = deploy(&json!({}), sandbox()).unwrap();
    let (one, other) = (Worker::of(deployed.clone()), Worker::of(deployed.clone()));
    other.plan("/fine");
    assert_eq!(one.fails("/puppet/loop").kind, Kind::PluginDeadline);
    for worker in [&one, &other] {
        let failure = worker.fails("/fine");
        assert_eq!((failure.kind, failure.retry_after_s), (Kind::PluginBackOff, Some(1)));
    }
    // It ends by the clock: nothing announces it.
    while deployed.backing_off().is_some() {
        std::thread::yield_now();
    }
    one.plan("/fine");
    other.plan("/fine");
}

#[test]
fn answers_that_no_gateway_may_act_on_are_refused_by_name() {
    let worker = Worker::new(&json!({}));
    let cases = [
        ("control-path", Kind::PluginAnswer, r"\r\nx-smuggled"),
        ("control-query", Kind::PluginAnswer, "query"),
        ("control-header", Kind::PluginAnswer, "x-fine"),
        ("control-header-name", Kind::PluginAnswer, r"\r\nx-smuggled"),
        ("framing-header", Kind::PluginAnswer, "transfer-encoding"),
        ("host-header", Kind::PluginAnswer, "host"),
        ("thousand-headers", Kind::PluginAnswer, "more than 64"),
        ("relative-path", Kind::PluginAnswer, "no-slash"),
        ("unknown-meters", Kind::PluginAnswer, "meters 99"),
        ("unknown-option", Kind::PluginOption, "teleport"),
        ("unknown-scheme", Kind::PluginSigning, "wax-seal"),
        ("unknown-secret", Kind::PluginSecret, "not-yours"),
        ("unknown-endpoint", Kind::PluginEndpoint, "not-configured"),
    ];
    for (behaviour, kind, named) in cases {
        let failure = worker.fails(&format!("/puppet/{behaviour}"));
        assert_eq!(failure.kind, kind, "{behaviour}: {failure}");
        assert!(failure.message.contains(named), "{behaviour}: {failure}");
        assert!(!failure.message.contains(char::is_control), "{failure:?}");
    }
    assert_eq!(set_by(&worker.plan("/fine"), "x-puppet-saw-calls"), "14", "the instance is as good as before");
}

#[test]
fn nothing_outside_can_be_reached() {
    Worker::new(&json!({})).plan("/puppet/look-around");
}

#[test]
fn what_a_plugin_says_is_logged_with_plugin_version_and_request() {
    let worker = Worker::new(&json!({}));
    let log = logged(|| {
        worker.plan("/puppet/print-line");
        worker.plan("/puppet/log");
        worker.fails("/puppet/trap");
    });
    for text in [
        "a line on stdout",
        "half a line on stderr",
        r"a line for the log\\nwith\\u{1b}[31m colours",
        "the puppet's strings are cut",
        r#""plugin":"puppet""#,
        r#""channel":"puppet""#,
        r#""request_id":"req-1""#,
        r#""target":"plugin""#,
        &format!(r#""version":"{}""#, &puppet().hash[..12]),
    ] {
        assert!(log.contains(text), "{text} is not in {log}");
    }
    assert!(log.lines().all(|line| line.len() < 5000), "every line is bounded");
}

#[test]
fn printing_without_end_is_bounded_and_counted() {
    let worker = Worker::with(&json!({}), Sandbox { deadline: Some(Duration::from_secs(5)), ..sandbox() });
    let log = logged(|| drop(worker.plan("/puppet/print")));
    assert!(log.lines().count() < 100);
    assert!(log.contains("19936 more lines of this call were left out"), "{log}");
}

#[test]
fn configure_refuses_a_version_with_its_reason() {
    let cases = [
        (json!({"configure": "fail"}), "the strings are tangled"),
        (json!({"configure": "trap"}), "it trapped"),
        (json!({"configure": "loop"}), "longer than 100 ms"),
        (json!({"configure": "sleep"}), "tried to wait"),
        (json!({"configure": "eat"}), "bytes of memory"),
        (json!({"configure": "nonsense"}), r"not a header\r\n"),
        (json!({"configure": "random-profile"}), "another profile"),
        (json!({"profile": {"headers": ["cookie"]}}), "\"cookie\" carries credentials"),
        (json!({"profile": {"body": ["no-slash"]}}), "RFC 6901"),
    ];
    for (settings, reason) in cases {
        let sandbox = Sandbox { memory_bytes_max: 8 << 20, ..sandbox() };
        let refusal = deploy(&settings, sandbox).err().unwrap_or_else(|| panic!("{settings} was accepted"));
        assert!(refusal.contains(reason), "{settings}: {refusal}");
    }
    let log = logged(|| drop(deploy(&json!({"configure": "trap"}), sandbox())));
    assert!(log.contains("the puppet's strings are cut"), "a panic's text appears nowhere else: {log}");
    deploy(&json!({"configure": "print-line"}), sandbox()).unwrap();
}

#[test]
fn a_component_too_large_for_the_pool_is_taken_on_demand() {
    let version = engine().load("p", &dummies::with_parts("(table 30000 funcref)")).unwrap();
    assert!(version.pooled().is_none());
    assert!(version.on_demand(engine()).is_ok());
}

#[test]
fn a_component_that_needs_more_memory_than_allowed_from_the_start_is_refused() {
    let version = engine().load("p", &dummies::with_parts("(memory 1000)")).unwrap();
    let refusal = Deployed::new(engine(), version, channel(&json!({})), sandbox()).err().unwrap();
    assert!(refusal.contains("33554432 bytes of memory"), "{refusal}");
}

#[test]
fn a_component_cannot_take_in_tables_what_it_may_not_have_in_memories() {
    // 8 MB each, of 32 MiB.
    let version = engine().load("p", &dummies::with_parts(&"(table 1000000 funcref)".repeat(5))).unwrap();
    let refusal = Deployed::new(engine(), version, channel(&json!({})), sandbox()).err().unwrap();
    assert!(refusal.contains("33554432 bytes of memory"), "{refusal}");
}

#[test]
fn instances_are_replaced_after_their_calls_and_on_growth() {
    let calls =
        |worker: &Worker, path: &str| -> u32 { set_by(&worker.plan(path), "x-puppet-saw-calls").parse().unwrap() };
    let worker = Worker::with(&json!({}), Sandbox { calls_max: 5, ..sandbox() });
    let counted: Vec<u32> = (0..40).map(|_| calls(&worker, "/")).collect();
    assert!(counted.starts_with(&[1, 2, 3, 4, 5]), "{counted:?}");
    assert!(counted[5..].contains(&1), "{counted:?}");

    let worker = Worker::new(&json!({}));
    calls(&worker, "/");
    calls(&worker, "/puppet/grow");
    // The old one serves until a spare is ready.
    while calls(&worker, "/") != 1 {
        std::thread::yield_now();
    }
}

#[test]
fn a_fresh_instance_answers_every_call_where_that_is_asked() {
    let worker = Worker::with(&json!({}), Sandbox { fresh: true, ..sandbox() });
    for _ in 0..20 {
        assert_eq!(set_by(&worker.plan("/"), "x-puppet-saw-calls"), "1");
    }
}

#[test]
fn exchanges_that_wait_together_are_all_served() {
    let Worker { runtime, instances } = Worker::with(&json!({}), Sandbox { fresh: true, ..sandbox() });
    let instances = Rc::new(instances);
    let ask = || {
        let instances = instances.clone();
        let caller = Caller { id: "tester".into(), tags: vec![] };
        tokio::task::spawn_local(async move { instances.decide(&request("/"), &caller, "r").await })
    };
    tokio::task::LocalSet::new().block_on(&runtime, async {
        let asked: Vec<_> = (0..50).map(|_| ask()).collect();
        for outcome in asked {
            assert!(matches!(outcome.await, Ok(Ok(Decision::Send(_)))));
        }
    });
}

#[test]
fn a_plugin_whose_instances_can_no_longer_be_built_is_busy_and_recovers_by_itself() {
    let sandbox = Sandbox { fresh: true, back_off: Duration::from_millis(5), ..sandbox() };
    let deployed =
        std::iter::repeat_with(|| deploy(&json!({"configure": "fail-often"}), sandbox.clone())).find_map(Result::ok);
    let worker = Worker::of(deployed.unwrap());
    let failure = std::iter::repeat_with(|| worker.decide("/")).find_map(Result::err).unwrap();
    assert_eq!(failure.kind, Kind::PluginBusy);
    assert!(failure.cause.unwrap().contains("not this time"));
    assert!(std::iter::repeat_with(|| worker.decide("/")).any(|outcome| outcome.is_ok()));
}

#[test]
fn an_empty_pool_is_no_reason_to_fail() {
    let engine = Engine::new(EngineOptions { pool_instances: 1, spares: 3, ..EngineOptions::default() }).unwrap();
    let version = engine.load("puppet", guests::puppet()).unwrap();
    let deployed = Deployed::new(&engine, version, channel(&json!({})), sandbox()).unwrap();
    let workers: Vec<_> = (0..3).map(|_| Worker::of(deployed.clone())).collect();
    for worker in &workers {
        worker.plan("/");
    }
}

#[test]
fn threads_end_with_the_engine() {
    let engine = Engine::new(EngineOptions { pool_instances: 4, ..EngineOptions::default() }).unwrap();
    let version = engine.load("puppet", guests::puppet()).unwrap();
    let worker = Worker::of(Deployed::new(&engine, version, channel(&json!({})), sandbox()).unwrap());
    let weak = Arc::downgrade(&engine);
    drop(engine);
    worker.plan("/");
    drop(worker);
    // The loader may hold the last reference for the length of a build.
    while weak.strong_count() > 0 {
        std::thread::yield_now();
    }
}

/// `cargo test -p aiproxy-host --lib -- --ignored --nocapture a_call`
#[test]
#[ignore = "a measurement"]
fn a_call_takes_so_many_microseconds() {
    let worker = Worker::with(&json!({"quiet": true}), Sandbox { calls_max: u32::MAX, ..sandbox() });
    let headers = (0..16).map(|n| (format!("x-header-{n}"), "a value of ordinary length".into())).collect();
    let request = Request { headers, ..request("/v1/chat/completions") };
    let caller = Caller { id: "tester".into(), tags: vec!["team-a".into()] };
    for round in 0..5 {
        let calls = 20_000;
        let begun = Instant::now();
        worker.runtime.block_on(async {
            for _ in 0..calls {
                worker.instances.decide(&request, &caller, "0123456789abcdef").await.unwrap();
            }
        });
        println!("round {round}: {:.2} µs a call", begun.elapsed().as_secs_f64() * 1e6 / f64::from(calls));
    }
}

#[test]
fn a_plugin_that_fails_again_and_again_is_not_asked_for_a_while() {
    let worker = Worker::with(&json!({}), Sandbox { back_off: Duration::from_hours(1), ..sandbox() });
    for _ in 0..4 {
        assert_eq!(worker.fails("/puppet/trap").kind, Kind::PluginTrapped);
    }
    worker.plan("/fine");
    for _ in 0..5 {
        let failure = worker.fails("/puppet/trap");
        assert_eq!(failure.kind, Kind::PluginTrapped, "an answer between begins the count anew");
    }
    let failure = worker.fails("/fine");
    assert_eq!((failure.kind, failure.status().as_u16()), (Kind::PluginBackOff, 502));
    assert!(failure.message.contains("it trapped"), "{failure}");
}

#[test]
fn a_component_that_brings_a_runtime_has_more_time() {
    let usual = Sandbox::default();
    let deadline = |sandbox: &Sandbox, bytes| sandbox.for_component(bytes).deadline.unwrap().as_millis();
    assert_eq!((deadline(&usual, 16 << 10), deadline(&usual, 1 << 20)), (10, 50));
    let own = Sandbox { deadline: Some(Duration::from_millis(7)), ..usual };
    assert_eq!((deadline(&own, 16 << 10), deadline(&own, 18 << 20)), (7, 7));
}
