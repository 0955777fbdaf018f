//! Many open sockets for a while: what one takes, and that all of it is given back. Not part of the default run:
//! `cargo test --test gateway soak -- --ignored --nocapture`.

use std::time::Duration;

use tokio::time::Instant;

use crate::support::sockets::{self, SocketUpstream, connect};
use crate::support::{Process, get};

const SOCKETS: usize = 2_000;
/// What a socket may take that is idle.
const SOCKET_BYTES_MAX: usize = 32 << 10;
const TRAFFIC: Duration = Duration::from_secs(20);

#[tokio::test]
#[ignore = "takes half a minute and 8,000 file descriptors"]
async fn two_thousand_sockets_take_little_and_give_it_back() {
    let upstream = SocketUpstream::echo().await;
    let process = Process::start(sockets::conf(&upstream.url())).await;
    // What the first of its kind costs is not a socket's.
    connect(process.address, "/").await.close(1000, "").await;
    settle(&process, 0).await;
    let before = process.memory_bytes();

    let mut open = Vec::with_capacity(SOCKETS);
    for _ in 0..SOCKETS {
        open.push(connect(process.address, "/").await);
    }
    settle(&process, SOCKETS).await;
    let idle = process.memory_bytes();
    let each = (idle - before) / SOCKETS;
    println!("{SOCKETS} open sockets take {} KiB each", each >> 10);
    assert!(each <= SOCKET_BYTES_MAX, "{each} bytes a socket");

    // A few of them talk, small messages and large ones.
    let end = Instant::now() + TRAFFIC;
    let mut messages = 0_u64;
    while Instant::now() < end {
        for (index, socket) in open.iter_mut().take(20).enumerate() {
            let text = "x".repeat(if index % 10 == 0 { 1 << 20 } else { 1 << 10 });
            socket.say(&text).await;
            assert_eq!(socket.hear().await.len(), text.len());
            messages += 1;
        }
    }
    let after_traffic = process.memory_bytes();
    println!("{messages} messages later: {} KiB each", ((after_traffic - before) / SOCKETS) >> 10);

    for socket in &mut open {
        socket.close(1000, "").await;
        assert_eq!(socket.closed().await.0, 1000);
    }
    drop(open);
    settle(&process, 0).await;
    let mut after = process.memory_bytes();
    // The allocator gives pages back a moment later.
    for _ in 0..50 {
        if after < before + (idle - before) / 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
        get(process.address, "/healthz").await;
        after = process.memory_bytes();
    }
    println!("before {} MiB, open {} MiB, after {} MiB", before >> 20, idle >> 20, after >> 20);
    assert!(after < before + (idle - before) / 4, "most of it is given back");
}

/// Waits until so many sockets are open.
async fn settle(process: &Process, count: usize) {
    loop {
        let stats = get(process.address, "/stats").await.json();
        if stats["websockets"]["open"] == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
