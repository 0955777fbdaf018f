//! The operator's own rewrites, which win over the plugin's.
//!
//! `path_rewrite` maps a path, or what a path begins with up to the end of a segment, to another; the exact one wins,
//! then the longest. `websocket_endpoints` maps a name to the path of a socket: a client that opens `/NAME` is led
//! there. Of a full URL only path and query are used: where a channel goes is said by its URLs, and by nothing else.

use std::fmt;

use aiproxy_plugin_sdk::Transport;
use aiproxy_plugin_sdk::settings::Table;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// The setting `path_rewrite`.
pub type PathRewrites = Table<FromPath, ToPath>;

/// The setting `websocket_endpoints`.
pub type SocketRewrites = Table<String, ToPath>;

/// Both tables, for a plugin that has no other settings.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
pub struct Settings {
    path_rewrite: PathRewrites,
    websocket_endpoints: SocketRewrites,
}

/// The path to rewrite, as the operator writes it.
#[derive(Debug, serde::Deserialize)]
#[serde(try_from = "String")]
pub struct FromPath(String);

impl TryFrom<String> for FromPath {
    type Error = &'static str;

    fn try_from(path: String) -> Result<Self, Self::Error> {
        if path.starts_with('/') { Ok(Self(path)) } else { Err("the path to rewrite must begin with `/`") }
    }
}

/// A path, with its own query if it has one; of a full URL only these are left.
#[derive(Debug)]
pub struct ToPath {
    path: String,
    query: Option<String>,
}

/// Both tables of one channel.
#[derive(Debug, Default)]
pub struct Rewrites {
    /// The longest `from` first, so that the first that fits is the right one.
    paths: Vec<Rewrite>,
    sockets: Vec<Rewrite>,
}

#[derive(Debug)]
pub struct Rewrite {
    pub from: String,
    pub to: String,
    query: Option<String>,
}

impl From<Settings> for Rewrites {
    fn from(settings: Settings) -> Self {
        Self::new([settings.path_rewrite], settings.websocket_endpoints)
    }
}

impl Rewrites {
    /// From the tables as they were set; what a path table says before another wins.
    pub fn new<const N: usize>(paths: [PathRewrites; N], sockets: SocketRewrites) -> Self {
        let mut rewrites = Self::default();
        for (FromPath(from), to) in paths.into_iter().flatten() {
            if !rewrites.paths.iter().any(|known| known.from == from) {
                rewrites.paths.push(Rewrite::new(from, to));
            }
        }
        rewrites.paths.sort_by_key(|rewrite| std::cmp::Reverse(rewrite.from.len()));
        for (name, to) in sockets {
            rewrites.sockets.push(Rewrite::new(format!("/{}", name.trim_start_matches('/')), to));
        }
        rewrites
    }

    /// Takes out the path rewrites that `impossible` points at, and gives them.
    pub fn drop_impossible(&mut self, impossible: impl Fn(&Rewrite) -> bool) -> Vec<Rewrite> {
        let (dropped, kept) = std::mem::take(&mut self.paths).into_iter().partition(|rewrite| impossible(rewrite));
        self.paths = kept;
        dropped
    }

    /// The path and query to send in place of these; none if no rewrite fits.
    #[must_use]
    pub fn apply(&self, transport: Transport, path: &str, query: Option<&str>) -> Option<(String, Option<String>)> {
        if transport == Transport::Websocket
            && let Some(socket) = self.sockets.iter().find(|socket| socket.from == path)
        {
            return Some((socket.to.clone(), socket.query(query)));
        }
        let (rewrite, rest) = self.paths.iter().find_map(|rewrite| Some((rewrite, rewrite.rest(path)?)))?;
        Some((format!("{}{rest}", rewrite.to), rewrite.query(query)))
    }
}

impl Rewrite {
    fn new(from: String, to: ToPath) -> Self {
        Self { from, to: to.path, query: to.query }
    }

    /// What follows `from`, if the path begins with it and it ends at the end of a segment.
    fn rest<'p>(&self, path: &'p str) -> Option<&'p str> {
        let rest = path.strip_prefix(self.from.as_str())?;
        (rest.is_empty() || rest.starts_with('/') || self.from.ends_with('/')).then_some(rest)
    }

    fn query(&self, client: Option<&str>) -> Option<String> {
        match (&self.query, client) {
            (Some(own), Some(client)) => Some(format!("{own}&{client}")),
            (own, client) => own.as_deref().or(client).map(str::to_owned),
        }
    }
}

impl<'de> Deserialize<'de> for ToPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(ToPathVisitor)
    }
}

struct ToPathVisitor;

impl Visitor<'_> for ToPathVisitor {
    type Value = ToPath;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a path")
    }

    fn visit_str<E: Error>(self, to: &str) -> Result<ToPath, E> {
        let to = match to.split_once("://") {
            Some(("ws" | "wss" | "http" | "https", rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
            _ => to,
        };
        let (path, query) = to.split_once('?').map_or((to, None), |(path, query)| (path, Some(query.to_owned())));
        if !path.starts_with('/') || path.bytes().any(|byte| byte <= b' ' || byte == b'#' || byte == 0x7f) {
            let message = format!("expected a path that begins with `/` and has no spaces, found `{path}`");
            return Err(E::custom(message));
        }
        Ok(ToPath { path: path.to_owned(), query })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[derive(Default, serde::Deserialize)]
    #[serde(default)]
    struct TwoTables {
        rewrites: PathRewrites,
        path_rewrite: PathRewrites,
        websocket_endpoints: SocketRewrites,
    }

    fn rewrites(value: &Value) -> Result<Rewrites, String> {
        let settings: TwoTables = aiproxy_plugin_sdk::settings::from_json(&value.to_string())?;
        Ok(Rewrites::new([settings.rewrites, settings.path_rewrite], settings.websocket_endpoints))
    }

    #[test]
    fn the_exact_path_wins_then_the_longest_prefix_that_ends_a_segment() {
        let table = rewrites(&json!({"path_rewrite": {
            "/chat": "/short", "/chat/completions": "/long", "/chat/completions/x": "/exact", "/v9/": "/root/", "_note": 1,
        }}))
        .unwrap();
        for (path, expected) in [
            ("/chat/completions", Some("/long")),
            ("/chat/completions/x", Some("/exact")),
            ("/chat/completions/y", Some("/long/y")),
            ("/chat/completionsx", Some("/short/completionsx")),
            ("/chat", Some("/short")),
            ("/chats", None),
            ("/v1/chat", None),
            ("/v9/any/path", Some("/root/any/path")),
            ("/_note", None),
        ] {
            let actual = table.apply(Transport::Http, path, None).map(|(path, _)| path);
            assert_eq!(actual.as_deref(), expected, "{path}");
        }
    }

    #[test]
    fn the_first_table_wins() {
        let table = rewrites(&json!({"path_rewrite": {"/a": "/old"}, "rewrites": {"/a": "/new"}})).unwrap();
        assert_eq!(table.apply(Transport::Http, "/a", None), Some(("/new".into(), None)));
    }

    #[test]
    fn the_clients_query_follows_the_rewrites_own() {
        let table = rewrites(&json!({"path_rewrite": {"/a": "/b?x=1", "/c": "/d"}})).unwrap();
        assert_eq!(table.apply(Transport::Http, "/a", Some("y=2")), Some(("/b".into(), Some("x=1&y=2".into()))));
        assert_eq!(table.apply(Transport::Http, "/a", None), Some(("/b".into(), Some("x=1".into()))));
        assert_eq!(table.apply(Transport::Http, "/c", Some("y=2")), Some(("/d".into(), Some("y=2".into()))));
    }

    #[test]
    fn a_named_socket_leads_to_its_path_and_only_sockets_go_there() {
        let table = rewrites(&json!({"websocket_endpoints": {
            "speech": "/api-ws/v1/inference", "/live": "wss://elsewhere.example/api-ws/v1/realtime?model=m",
        }}))
        .unwrap();
        let socket = |path| table.apply(Transport::Websocket, path, None);
        assert_eq!(socket("/speech"), Some(("/api-ws/v1/inference".into(), None)));
        assert_eq!(socket("/live"), Some(("/api-ws/v1/realtime".into(), Some("model=m".into()))));
        assert_eq!(socket("/speech/x"), None);
        assert_eq!(table.apply(Transport::Http, "/speech", None), None);
    }

    #[test]
    fn what_is_no_path_is_refused_with_its_place() {
        for (settings, expected) in [
            (
                json!({"path_rewrite": {"chat": "/x"}}),
                "settings.path_rewrite.chat: the path to rewrite must begin with `/`",
            ),
            (
                json!({"path_rewrite": {"/chat": 1}}),
                "settings.path_rewrite[\"/chat\"]: expected a path, found a number",
            ),
            (
                json!({"path_rewrite": {"/chat": "x y"}}),
                "settings.path_rewrite[\"/chat\"]: expected a path that begins",
            ),
            (json!({"websocket_endpoints": {"a": "b"}}), "settings.websocket_endpoints.a: expected a path that begins"),
        ] {
            let error = rewrites(&settings).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
