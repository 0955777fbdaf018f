//! What a gateway has recorded of its plugins' decisions.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::{Gateway, soon};

impl Gateway {
    pub fn capture_file(&self, channel: &str) -> PathBuf {
        self.conf.state().join(format!("captures/{channel}.jsonl"))
    }

    /// Waits until so many lines are there.
    pub async fn captured(&self, channel: &str, count: usize) -> Vec<Value> {
        let path = self.capture_file(channel);
        let lines = async {
            loop {
                let text = std::fs::read_to_string(&path).unwrap_or_default();
                let whole = text.lines().map(serde_json::from_str::<Value>).collect::<Result<Vec<_>, _>>();
                match whole {
                    Ok(lines) if lines.len() >= count => return lines,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        soon("captured decisions", lines).await
    }
}
