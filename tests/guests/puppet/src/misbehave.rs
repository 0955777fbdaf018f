//! Every way of misbehaving that the gateway promises to survive.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use crate::bindings::aiproxy::plugin::log::{Level, log};
use crate::bindings::aiproxy::plugin::types::{Credential, HeaderEdit, Placement, Plan, Signature};

thread_local! {
    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What spoils no answer, but the call itself.
pub fn run(behaviour: &str) {
    if let Some(ms) = behaviour.strip_prefix("compute-").and_then(|ms| ms.parse().ok()) {
        compute(Duration::from_millis(ms));
    }
    match behaviour {
        "trap" => panic!("the puppet's strings are cut"),
        "loop" => loop {
            std::hint::black_box(());
        },
        "sleep" => std::thread::sleep(Duration::from_hours(1)),
        "eat" => loop {
            keep(1 << 20);
        },
        "grow" => keep(8 << 20),
        "ask-for-too-much" => assert!(Vec::<u8>::new().try_reserve_exact(1 << 30).is_err(), "a gigabyte"),
        "print" => {
            for line in 0..10_000 {
                println!("{line} {}", "words ".repeat(20));
                eprintln!("{line} without end");
            }
        }
        "print-much" => (0..100).for_each(|line| println!("line {line}")),
        "print-line" => {
            println!("a line on stdout");
            eprint!("half a line on stderr");
        }
        "log" => {
            log(Level::Warn, "a line for the log\nwith\x1b[31m colours");
            log(Level::Info, &"long ".repeat(2000));
        }
        "exit" => std::process::exit(3),
        "look-around" => {
            // Every answer must be "no": a panic here fails the test that asks for it.
            assert!(std::env::vars().next().is_none(), "an environment");
            assert!(std::env::args().next().is_none(), "arguments");
            assert!(std::fs::read_dir("/").is_err(), "a root folder");
            assert!(std::fs::write("here", "").is_err(), "a writable folder");
            assert!(std::net::TcpStream::connect("127.0.0.1:1").is_err(), "a network");
            assert!(std::net::UdpSocket::bind("127.0.0.1:0").is_err(), "a datagram socket");
            assert_eq!(std::io::Read::read(&mut std::io::stdin(), &mut [0; 8]).unwrap_or(0), 0, "an input");
        }
        _ => {}
    }
}

/// What makes the answer one that no gateway may act on; false if `behaviour` is none of these.
pub fn spoil(behaviour: &str, plan: &mut Plan) -> bool {
    let set = |name: &str, value: &str| HeaderEdit::Set((name.into(), value.into()));
    match behaviour {
        "control-path" => plan.path = "/a\r\nx-smuggled: 1".into(),
        "control-query" => plan.query = Some("a=\u{0}".into()),
        "control-header" => plan.headers.push(set("x-fine", "no\r\nx-smuggled: 1")),
        "control-header-name" => plan.headers.push(set("x-fine\r\nx-smuggled", "1")),
        "framing-header" => plan.headers.push(set("transfer-encoding", "chunked")),
        "host-header" => plan.headers.push(set("host", "elsewhere.example")),
        "thousand-headers" => plan.headers.extend((0..1000).map(|i| set(&format!("x-{i}"), "1"))),
        "relative-path" => plan.path = "no-slash".into(),
        "unknown-option" => plan.options.push(("teleport".into(), "on".into())),
        "unknown-scheme" => {
            let signature = Signature { scheme: "wax-seal".into(), parameters: Vec::new() };
            plan.credentials = vec![Credential { secret: "key".into(), place: Placement::Signed(signature) }];
        }
        "unknown-secret" => {
            let place = Placement::Authorization("Bearer".into());
            plan.credentials = vec![Credential { secret: "not-yours".into(), place }];
        }
        "unknown-endpoint" => plan.endpoint = Some("not-configured".into()),
        "unknown-meters" => plan.meters = Some(99),
        "huge" => plan.model = Some("m".repeat(2 << 20)),
        _ => return false,
    }
    true
}

/// Is busy for so long, by the clock.
fn compute(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Memory that is never given back.
fn keep(bytes: usize) {
    KEPT.with_borrow_mut(|kept| kept.push(vec![1; bytes]));
}
