//! The operator's own rewrites, which win over the plugin's.
//!
//! `path_rewrite` maps a path, or what a path begins with up to the end of a segment, to another; the exact one wins,
//! then the longest. `websocket_endpoints` maps a name to the path of a socket: a client that opens `/NAME` is led
//! there. Of a full URL only path and query are used: where a channel goes is said by its URLs, and by nothing else.

use serde_json::Value;

use crate::Transport;
use crate::settings::{Object, kind};

pub const PATH_REWRITE: &str = "path_rewrite";
pub const WEBSOCKET_ENDPOINTS: &str = "websocket_endpoints";

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

impl Rewrites {
    /// Reads `path_rewrite` (and further tables of the same form, which come first) and `websocket_endpoints`.
    pub fn read(settings: &Object, further: &[&str]) -> Result<Self, String> {
        let mut rewrites = Self::default();
        for table in further.iter().copied().chain([PATH_REWRITE]) {
            let Some(object) = settings.object(table)? else { continue };
            for (from, to) in object.entries() {
                let place = object.place(from);
                if !from.starts_with('/') {
                    return Err(format!("{place}: the path to rewrite must begin with `/`"));
                }
                if !rewrites.paths.iter().any(|known| known.from == from) {
                    rewrites.paths.push(Rewrite::new(from.to_owned(), to, &place)?);
                }
            }
        }
        rewrites.paths.sort_by_key(|rewrite| std::cmp::Reverse(rewrite.from.len()));
        if let Some(object) = settings.object(WEBSOCKET_ENDPOINTS)? {
            for (name, to) in object.entries() {
                let from = format!("/{}", name.trim_start_matches('/'));
                rewrites.sockets.push(Rewrite::new(from, to, &object.place(name))?);
            }
        }
        Ok(rewrites)
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
    fn new(from: String, to: &Value, place: &str) -> Result<Self, String> {
        let Value::String(to) = to else { return Err(format!("{place}: expected a path, found {}", kind(to))) };
        let to = match to.split_once("://") {
            Some(("ws" | "wss" | "http" | "https", rest)) => rest.find(['/', '?']).map_or("/", |at| &rest[at..]),
            _ => to.as_str(),
        };
        let (to, query) = to.split_once('?').map_or((to, None), |(to, query)| (to, Some(query.to_owned())));
        if !to.starts_with('/') || to.bytes().any(|byte| byte <= b' ' || byte == b'#' || byte == 0x7f) {
            return Err(format!("{place}: expected a path that begins with `/` and has no spaces, found `{to}`"));
        }
        Ok(Self { from, to: to.to_owned(), query })
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn rewrites(value: &Value) -> Result<Rewrites, String> {
        Rewrites::read(&Object::root(value, &["rewrites", PATH_REWRITE, WEBSOCKET_ENDPOINTS])?, &["rewrites"])
    }

    #[test]
    fn the_exact_path_wins_then_the_longest_prefix_that_ends_a_segment() {
        let table = rewrites(&json!({PATH_REWRITE: {
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
        let table = rewrites(&json!({PATH_REWRITE: {"/a": "/old"}, "rewrites": {"/a": "/new"}})).unwrap();
        assert_eq!(table.apply(Transport::Http, "/a", None), Some(("/new".into(), None)));
    }

    #[test]
    fn the_clients_query_follows_the_rewrites_own() {
        let table = rewrites(&json!({PATH_REWRITE: {"/a": "/b?x=1", "/c": "/d"}})).unwrap();
        assert_eq!(table.apply(Transport::Http, "/a", Some("y=2")), Some(("/b".into(), Some("x=1&y=2".into()))));
        assert_eq!(table.apply(Transport::Http, "/a", None), Some(("/b".into(), Some("x=1".into()))));
        assert_eq!(table.apply(Transport::Http, "/c", Some("y=2")), Some(("/d".into(), Some("y=2".into()))));
    }

    #[test]
    fn a_named_socket_leads_to_its_path_and_only_sockets_go_there() {
        let table = rewrites(&json!({WEBSOCKET_ENDPOINTS: {
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
                json!({PATH_REWRITE: {"chat": "/x"}}),
                "settings.path_rewrite.chat: the path to rewrite must begin with `/`",
            ),
            (json!({PATH_REWRITE: {"/chat": 1}}), "settings.path_rewrite[\"/chat\"]: expected a path, found a number"),
            (json!({PATH_REWRITE: {"/chat": "x y"}}), "settings.path_rewrite[\"/chat\"]: expected a path that begins"),
            (json!({WEBSOCKET_ENDPOINTS: {"a": "b"}}), "settings.websocket_endpoints.a: expected a path that begins"),
        ] {
            let error = rewrites(&settings).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
