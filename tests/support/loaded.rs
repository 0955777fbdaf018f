//! What `/stats` says of the files and plugins that are loaded, and plugin files in several versions.

use aiproxy_host::digest::{hex, sha256};
use http_body_util::Full;
use serde_json::Value;

use super::guests::puppet_marked;
use super::{Gateway, KEY, send};

/// The entry of a plugin; null where there is none.
pub fn plugin<'a>(stats: &'a Value, name: &str) -> &'a Value {
    named(&stats["plugins"], name)
}

/// The entry of a file; null where there is none.
pub fn file<'a>(stats: &'a Value, name: &str) -> &'a Value {
    named(&stats["files"], name)
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    list.as_array().and_then(|list| list.iter().find(|entry| entry["name"] == name)).unwrap_or(&Value::Null)
}

/// The puppet whose mark is this letter, twelve times.
pub fn version(letter: u8) -> Vec<u8> {
    puppet_marked([letter; 12])
}

/// A puppet that does not work for a channel without the setting `needed`.
pub fn needy() -> Vec<u8> {
    puppet_marked(*b"NEEDSSETTING")
}

impl Gateway {
    /// Replaces the puppet's file, and waits until it serves.
    pub async fn swap_in(&self, bytes: &[u8]) {
        self.conf.plugin("puppet", bytes);
        self.reload();
        self.serves("puppet", bytes).await;
    }

    /// Waits until these bytes serve as this plugin, without an error.
    pub async fn serves(&self, name: &str, bytes: &[u8]) -> Value {
        let hash = hex(&sha256(bytes));
        let is_so = |entry: &Value| entry["version"] == *hash && entry["state"] == "active";
        let stats = self.until("a version serves", |stats| is_so(plugin(stats, name))).await;
        assert!(plugin(&stats, name)["last_error"].is_null(), "{stats:#}");
        stats
    }

    /// Waits until what is in a file is refused for a reason like this, and gives its entry.
    pub async fn refuses(&self, name: &str, reason: &str) -> Value {
        let says = |entry: &Value| entry["last_error"].as_str().is_some_and(|error| error.contains(reason));
        let what = format!("{name} is refused: {reason}");
        let stats = self.until(&what, |stats| says(file(stats, name))).await;
        assert_eq!(file(&stats, name)["state"], "refused", "{stats:#}");
        file(&stats, name).clone()
    }

    /// Waits until what is in a file serves.
    pub async fn mended(&self, name: &str) -> Value {
        let is_so = |entry: &Value| entry["state"] == "active" && entry["last_error"].is_null();
        self.until("a file is mended", |stats| is_so(file(stats, name))).await
    }

    /// The status of a request with this proxy key.
    pub async fn status_for(&self, key: &str) -> u16 {
        let request = http::Request::get("/").header("x-api-key", key);
        send(self.address, request.body(Full::default()).expect("a request")).await.status.as_u16()
    }

    /// Waits until a request with this proxy key gets this status.
    pub async fn answers(&self, key: &str, status: u16) {
        super::soon("another status", async {
            while self.status_for(key).await != status {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        })
        .await;
    }

    /// The mark of the version that serves the usual key.
    pub async fn mark(&self) -> String {
        let request = http::Request::get("/").header("x-api-key", KEY);
        let reply = send(self.address, request.body(Full::default()).expect("a request")).await;
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.echoed("x-puppet-mark").concat()
    }
}
