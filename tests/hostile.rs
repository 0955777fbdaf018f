//! Hostile guests: whatever a plugin does, it costs the exchange that asked it, and nothing else.
//!
//! `guest.wat` does what no compiler would emit, the puppet what Rust can say. Every case names the code of the error that
//! its exchange ends with, and goes on with the next exchange on the same connection.

mod answers;
mod calls;
mod floods;
mod guest;
mod memory;
mod places;
mod versions;

use serde_json::{Value, json};

use crate::support::{Message, Raw};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Time enough on a busy machine for what is to end otherwise, little memory, and back-offs that are over at once.
fn bounds() -> Value {
    json!({"deadline_ms": 300, "memory_bytes_max": 16 << 20, "back_off_ms": 1, "back_off_max_ms": 1})
}

fn code(message: &Message) -> String {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    body["error"]["code"].as_str().unwrap_or_default().to_owned()
}

fn text(message: &Message) -> String {
    let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
    body["error"]["message"].as_str().unwrap_or_default().to_owned()
}

/// Asks on an open connection with this proxy key.
async fn ask(client: &mut Raw, key: &str, path: &str) -> Message {
    client.write(format!("GET {path} HTTP/1.1\r\nhost: gateway.test\r\nx-api-key: {key}\r\n\r\n")).await;
    client.reply().await
}
