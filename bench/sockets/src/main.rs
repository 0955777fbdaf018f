//! A WebSocket load and the upstream that echoes it, each on one thread: `bench/websocket` runs them.
//!
//! `echo` announces its port and sends every message back. `load` opens sockets, keeps one message under way on each of
//! them for a while, and prints how many came back and how long that took. `hold` opens sockets and leaves them idle until
//! its standard input ends.

use std::io::Read;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::{Parser, Subcommand};
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, accept_async_with_config, client_async_with_config};

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Accepts WebSockets on a free port, prints it, and sends every message back.
    Echo,
    /// Keeps one message under way on each socket.
    Load {
        address: SocketAddr,
        /// Sent as `x-api-key`.
        #[arg(long)]
        key: String,
        #[arg(long, default_value_t = 64)]
        sockets: usize,
        #[arg(long, default_value_t = 1024)]
        message_bytes: usize,
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// Binary messages in place of JSON text.
        #[arg(long)]
        binary: bool,
    },
    /// Opens sockets and holds them until standard input ends.
    Hold {
        address: SocketAddr,
        #[arg(long)]
        key: String,
        #[arg(long, default_value_t = 1000)]
        sockets: usize,
    },
}

fn main() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match Cli::parse().command {
        Command::Echo => runtime.block_on(echo()),
        Command::Load { address, key, sockets, message_bytes, seconds, binary } => {
            let message = message(message_bytes, binary);
            runtime.block_on(load(address, &key, sockets, message, Duration::from_secs(seconds)))
        }
        Command::Hold { address, key, sockets } => runtime.block_on(hold(address, &key, sockets)),
    }
}

/// Neither end shall cost more than it must: it shares the cores with what is measured.
fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(32 << 10).write_buffer_size(0)
}

async fn echo() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?.port());
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            stream.set_nodelay(true)?;
            let mut socket = accept_async_with_config(stream, Some(small())).await?;
            while let Some(message) = socket.next().await.transpose()? {
                if message.is_text() || message.is_binary() {
                    socket.send(message).await?;
                }
            }
            anyhow::Ok(())
        });
    }
}

type Socket = WebSocketStream<TcpStream>;

async fn open(address: SocketAddr, key: &str) -> anyhow::Result<Socket> {
    let mut request = format!("ws://{address}/api-ws/v1/realtime?model=bench").into_client_request()?;
    request.headers_mut().insert("x-api-key", key.parse()?);
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (socket, _) = client_async_with_config(request, stream, Some(small())).await.context("the handshake")?;
    Ok(socket)
}

/// An event as realtime APIs send them: a few fields, and audio in base64.
fn message(bytes: usize, binary: bool) -> Message {
    if binary {
        return Message::binary(vec![7; bytes]);
    }
    let frame = |audio: &str| format!(r#"{{"type":"response.audio.delta","event_id":"event_1","delta":"{audio}"}}"#);
    let audio_bytes = bytes.saturating_sub(frame("").len());
    let audio: String =
        "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZnaGlqa2xtbm9w".chars().cycle().take(audio_bytes).collect();
    Message::Text(Utf8Bytes::from(frame(&audio)))
}

async fn load(
    address: SocketAddr,
    key: &str,
    sockets: usize,
    message: Message,
    duration: Duration,
) -> anyhow::Result<()> {
    let mut open_sockets = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        open_sockets.push(open(address, key).await?);
    }
    let started = Instant::now();
    let end = started + duration;
    let mut running = JoinSet::new();
    for mut socket in open_sockets {
        let message = message.clone();
        running.spawn(async move {
            let mut times = Vec::new();
            while Instant::now() < end {
                let sent = Instant::now();
                socket.send(message.clone()).await?;
                let back = socket.next().await.context("the socket ended")??;
                ensure!(back.len() == message.len(), "{} bytes came back", back.len());
                times.push(sent.elapsed());
            }
            let _ = socket.close(None).await;
            anyhow::Ok(times)
        });
    }
    let mut times = Vec::new();
    while let Some(one) = running.join_next().await {
        times.extend(one??);
    }
    let elapsed = started.elapsed();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    println!("{} {:.3} {:.3} {:.3}", times.len(), elapsed.as_secs_f64(), at(50), at(99));
    Ok(())
}

async fn hold(address: SocketAddr, key: &str, sockets: usize) -> anyhow::Result<()> {
    let mut held = Vec::with_capacity(sockets);
    for _ in 0..sockets {
        held.push(open(address, key).await?);
    }
    println!("{}", held.len());
    tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await??;
    Ok(())
}
