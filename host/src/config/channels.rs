//! `channels_config.json`: what the fields of a channel mean together.
//!
//! Every fault of every channel is reported; a channel comes out only to be dropped with the rest of the file if one
//! of them was an error. What a missing environment variable makes impossible is a warning and an unavailable channel.

mod settings;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use indexmap::IndexMap;

use super::document::{self, Node};
use super::egress::{self, Environment};
use super::expand::{Env, Expanded, expand};
use super::file::{ChannelFile, ChannelsFile, Status, schema};
use super::load::Part;
use super::name::{NAME_RULE, is_name};
use super::problem::{Problems, Spot, member};
use super::url::{self, Url};
use super::{Canary, Channel, EgressProxy, Endpoint, Secret, Timeouts, shape};

const CANARY_PERCENT: u32 = 10;
const CANARY_MINUTES: f64 = 5.0;
const CONNECT_TIMEOUT_S: u32 = 10;
/// Generous: a reasoning model may think for minutes before its first byte, and between two.
const REPLY_TIMEOUT_MS: u32 = 600_000;

/// The valid channels of one version of the file.
#[derive(Debug, Default, PartialEq)]
pub struct Channels {
    /// In file order.
    pub by_id: IndexMap<String, Arc<Channel>>,
}

/// Reads the file's bytes.
pub fn read(bytes: &[u8], file: &Path, env: Env<'_>) -> Part<Channels> {
    let mut problems = Problems::of(file);
    let value = document::parse(bytes, &mut problems).and_then(|root| channels(&root, env, &mut problems));
    Part::new(value, problems)
}

fn channels(root: &Node, env: Env<'_>, problems: &mut Problems<'_>) -> Option<Channels> {
    let sound = shape::sound(root, &schema::<ChannelsFile>(), "", problems)?;
    let whole = Spot { place: "channels".to_owned(), position: Some(root.position) };
    let Some(node) = root.member("channels") else {
        problems.error(&whole, "is missing", "give the channels by id: {\"channels\": {\"bailian\": {…}}}");
        return None;
    };
    let file: ChannelsFile = serde_json::from_value(sound).ok()?;
    let environment = Environment::read(env);
    let mut by_id = IndexMap::new();
    for (id, file) in file.channels.unwrap_or_default() {
        let Some(node) = node.member(&id) else { continue };
        let place = member("channels", &id);
        let draft =
            Draft { id: &id, place, node, env, environment: &environment, problems: &mut *problems, missing: None };
        let channel = draft.channel(file);
        by_id.insert(id, Arc::new(channel));
    }
    if by_id.is_empty() && !problems.has_errors() {
        let spot = Spot { position: Some(node.position), ..whole };
        problems.warning(&spot, "is empty", "add a channel, or nothing can be served");
    }
    Some(Channels { by_id })
}

/// A channel in the making.
struct Draft<'a, 'f> {
    id: &'a str,
    place: String,
    node: &'a Node,
    env: Env<'a>,
    environment: &'a Environment,
    problems: &'a mut Problems<'f>,
    /// Why the channel has an address that cannot be told.
    missing: Option<String>,
}

impl Draft<'_, '_> {
    fn channel(mut self, file: ChannelFile) -> Channel {
        let node_spot = Spot { place: self.place.clone(), position: Some(self.node.position) };
        if !is_name(self.id) {
            self.problems.error(&node_spot, "has an id that is not allowed", NAME_RULE);
        }
        let plugin = file.plugin.unwrap_or_else(|| self.id.to_owned());
        if plugin != self.id && !is_name(&plugin) {
            self.problems.error(&self.spot("plugin"), "is not the name of a plugin", NAME_RULE);
        }
        let name = file.name.unwrap_or_else(|| self.id.to_owned());
        if name.chars().count() > 128 || name.contains(char::is_control) {
            let remedy = "write at most 128 characters, without control characters";
            self.problems.error(&self.spot("name"), "is not a name to show", remedy);
        }
        let proxy = self.proxy(file.proxy.as_deref());
        let http = self.base(file.base_url, file.api_url);
        if let (Some(http), Some(ssl)) = (&http, file.ssl)
            && http.tls != ssl
        {
            let what =
                if ssl { "says TLS, but the URL says http://" } else { "says no TLS, but the URL says https://" };
            self.problems.warning(&self.spot("ssl"), what, "the URL counts: correct one of the two");
        }
        let websocket = match &file.websocket_url {
            Some(text) => self.url(&self.spot("websocket_url"), text, url::WEBSOCKET),
            None => http.clone(),
        };
        let host = file.host.as_deref().filter(|host| !host.is_empty()).and_then(|host| self.host(host));
        let endpoints = self.endpoints(file.endpoints.unwrap_or_default(), &proxy);
        let gives_key = file.api_key.iter().chain(file.api_keys.iter().flatten()).any(|key| !key.trim().is_empty());
        let named_count = file.secrets.as_ref().map_or(0, IndexMap::len);
        let (secrets, key_missing) = self.secrets(file.api_key, file.api_keys, file.secrets.unwrap_or_default());
        let legacy_sockets = file.websocket_endpoints.unwrap_or_default();
        let supports_websocket =
            (file.supports_websocket).unwrap_or_else(|| file.websocket_url.is_some() || !legacy_sockets.is_empty());
        let rewrites = self.rewrites(file.path_rewrite.unwrap_or_default());
        let settings = self.settings(file.settings.unwrap_or_default(), rewrites, legacy_sockets);
        // `host` stands for the host of `base_url`; another provider's host is not renamed by it.
        let same_host = matches!((&http, &websocket), (Some(http), Some(websocket)) if http.host == websocket.host);
        let websocket_host = if same_host { host.clone() } else { None };
        let http = self.endpoint(http, host, &proxy, &node_spot);
        let websocket = self.endpoint(websocket, websocket_host, &proxy, &node_spot);
        Channel {
            id: self.id.to_owned(),
            name,
            active: matches!(file.status, None | Some(Status::Active)) && self.missing.is_none(),
            is_keyless: !gives_key && secrets.len() == named_count && self.missing.is_none(),
            key_missing: self.missing.or(key_missing),
            plugin,
            settings,
            http,
            websocket,
            endpoints,
            secrets,
            supports_websocket,
            priority: file.priority.unwrap_or(0),
            weight: file.weight.unwrap_or(0),
            timeouts: Timeouts {
                connect: Duration::from_secs(file.timeout.unwrap_or(CONNECT_TIMEOUT_S).into()),
                first_byte: Duration::from_millis(file.first_byte_timeout_ms.unwrap_or(REPLY_TIMEOUT_MS).into()),
                idle: Duration::from_millis(file.idle_timeout_ms.unwrap_or(REPLY_TIMEOUT_MS).into()),
            },
            usage: file.usage.unwrap_or_default(),
            canary: file.canary.map(|canary| Canary {
                percent: canary.percent.unwrap_or(CANARY_PERCENT),
                window: Duration::from_secs_f64(canary.minutes.unwrap_or(CANARY_MINUTES) * 60.0),
            }),
            capture: file.capture.unwrap_or(false),
        }
    }

    /// Where a field stands, or its channel if it is not there.
    fn spot(&self, field: &str) -> Spot {
        let position = self.node.member(field).unwrap_or(self.node).position;
        Spot { place: member(&self.place, field), position: Some(position) }
    }

    fn spot_in(&self, field: &str, name: &str) -> Spot {
        let outer = self.node.member(field).unwrap_or(self.node);
        let position = outer.member(name).unwrap_or(outer).position;
        Spot { place: member(&member(&self.place, field), name), position: Some(position) }
    }

    /// The text with its variables replaced; without one, the channel becomes unavailable.
    fn address(&mut self, spot: &Spot, text: &str) -> Option<String> {
        match expand(text.trim(), self.env) {
            Expanded::Ready(text) => Some(text),
            Expanded::Malformed => {
                self.problems.error(spot, MALFORMED, MALFORMED_REMEDY);
                None
            }
            Expanded::Missing(why) => {
                let remedy = format!("the channel is unavailable until it is: {SET_IT}");
                self.problems.warning(spot, format!("cannot be told: {why}"), remedy);
                self.missing.get_or_insert_with(|| format!("{}: {why}", spot.place));
                None
            }
        }
    }

    fn url(&mut self, spot: &Spot, text: &str, schemes: &[(&str, bool)]) -> Option<Url> {
        let text = self.address(spot, text)?;
        url::parse(&text, schemes)
            .map_err(|why| self.problems.error(spot, why, "write it like https://api.example.com/prefix"))
            .ok()
    }

    fn base(&mut self, base_url: Option<String>, api_url: Option<String>) -> Option<Url> {
        let (field, text) = match (base_url, api_url) {
            (Some(base), Some(api)) if base.trim_end_matches('/') != api.trim_end_matches('/') => {
                self.problems.error(
                    &self.spot("api_url"),
                    "differs from base_url, whose other name it is",
                    "remove one",
                );
                return None;
            }
            (Some(base), _) => ("base_url", base),
            (None, Some(api)) => ("api_url", api),
            (None, None) => {
                // A value of a wrong type has been reported already.
                if !["base_url", "api_url"].iter().any(|field| self.node.gives(field)) {
                    let remedy = "write where requests go, like https://api.example.com";
                    self.problems.error(&self.spot("base_url"), "is missing", remedy);
                }
                return None;
            }
        };
        self.url(&self.spot(field), &text, url::HTTP)
    }

    fn host(&mut self, text: &str) -> Option<String> {
        let spot = self.spot("host");
        match url::host_and_port(text) {
            Ok((host, port)) => {
                let host = if host.contains(':') { format!("[{host}]") } else { host };
                Some(port.map_or(host.clone(), |port| format!("{host}:{port}")))
            }
            Err(why) => {
                self.problems.error(&spot, why, "write the name alone, like api.example.com");
                None
            }
        }
    }

    fn proxy(&mut self, text: Option<&str>) -> ProxyChoice {
        let Some(text) = text.map(str::trim) else { return ProxyChoice::Environment };
        if matches!(text, "" | "none" | "direct") {
            return ProxyChoice::Own(None);
        }
        let spot = self.spot("proxy");
        let Some(text) = self.address(&spot, text) else { return ProxyChoice::Own(None) };
        let proxy = egress::parse(&text).map_err(|why| {
            let remedy = "write it like http://user:password@proxy.example.com:3128, or \"direct\" for none";
            self.problems.error(&spot, why, remedy);
        });
        ProxyChoice::Own(proxy.ok())
    }

    fn endpoints(&mut self, urls: IndexMap<String, String>, proxy: &ProxyChoice) -> IndexMap<String, Arc<Endpoint>> {
        let mut endpoints = IndexMap::with_capacity(urls.len());
        for (name, text) in urls {
            let spot = self.spot_in("endpoints", &name);
            if !is_name(&name) {
                self.problems.error(&spot, "has a name that is not allowed", NAME_RULE);
            }
            let url = self.url(&spot, &text, url::WEBSOCKET);
            let endpoint = self.endpoint(url, None, proxy, &spot);
            endpoints.insert(name, endpoint);
        }
        endpoints
    }

    fn endpoint(&mut self, url: Option<Url>, host: Option<String>, proxy: &ProxyChoice, spot: &Spot) -> Arc<Endpoint> {
        // Without an address the file is refused or the channel inactive; should it ever be connected to all the same,
        // RFC 6761 promises that this name leads nowhere.
        let url = url.unwrap_or_else(|| Url {
            tls: true,
            host: "unset.invalid".to_owned(),
            port: 443,
            base_path: String::new(),
            authority: "unset.invalid".to_owned(),
        });
        let Url { tls, host: address, port, base_path, authority } = url;
        let authority = host.unwrap_or(authority);
        let mut endpoint = Endpoint { tls, host: address, port, base_path, authority, proxy: None };
        endpoint.proxy = match proxy {
            ProxyChoice::Own(proxy) => proxy.clone(),
            ProxyChoice::Environment => self.environment.proxy_for(&endpoint).unwrap_or_else(|why| {
                self.problems.error(
                    spot,
                    why,
                    "correct the variable, or give the channel a `proxy` (\"direct\" for none)",
                );
                None
            }),
        };
        Arc::new(endpoint)
    }

    fn secrets(
        &mut self,
        api_key: Option<String>,
        api_keys: Option<Vec<String>>,
        named: IndexMap<String, String>,
    ) -> (IndexMap<String, Secret>, Option<String>) {
        let mut secrets = IndexMap::new();
        let mut missing = None;
        let keys: Vec<(Spot, String)> = match (api_key, api_keys) {
            (Some(_), Some(_)) => {
                self.problems.error(&self.spot("api_keys"), "is given beside api_key", "put every key into api_keys");
                Vec::new()
            }
            (Some(key), None) => vec![(self.spot("api_key"), key)],
            (None, Some(keys)) => {
                let list = self.spot("api_keys");
                let spot = |index| Spot { place: format!("{}[{index}]", list.place), position: list.position };
                keys.into_iter().enumerate().map(|(index, key)| (spot(index), key)).collect()
            }
            (None, None) => Vec::new(),
        };
        for (spot, text) in keys.iter().filter(|(_, text)| !text.trim().is_empty()) {
            match self.secret(spot, text) {
                Ok(key) if !key.bytes().all(|b| b.is_ascii_graphic()) => {
                    let remedy = "a key is visible ASCII: write it, or its ${NAME}, again";
                    self.problems.error(spot, "holds a space or a character that no header can carry", remedy);
                }
                Ok(key) => _ = secrets.entry("key".to_owned()).or_insert_with(|| Secret::new(&key)),
                Err(why) => _ = missing.get_or_insert(why),
            }
        }
        if secrets.contains_key("key") {
            missing = None;
        } else if missing.is_none() {
            missing = Some(format!("{} is not given", member(&self.place, "api_key")));
        }
        for (name, text) in named {
            let spot = self.spot_in("secrets", &name);
            if name == "key" {
                self.problems.error(&spot, "has the name of the channel's api_key", "choose another name");
            } else if !is_name(&name) {
                self.problems.error(&spot, "has a name that is not allowed", NAME_RULE);
            } else {
                match self.secret(&spot, &text) {
                    Ok(value) => _ = secrets.insert(name, Secret::new(&value)),
                    Err(why) => _ = missing.get_or_insert(why),
                }
            }
        }
        (secrets, missing)
    }

    /// The error says why there is none; it has been reported.
    fn secret(&mut self, spot: &Spot, text: &str) -> Result<String, String> {
        match expand(text.trim(), self.env) {
            Expanded::Ready(value) if value.is_empty() => {
                self.problems.error(spot, "is empty", "write the secret, or remove the field");
                Err(format!("{} is empty", spot.place))
            }
            Expanded::Ready(value) => Ok(value),
            Expanded::Malformed => {
                self.problems.error(spot, MALFORMED, MALFORMED_REMEDY);
                Err(format!("{} {MALFORMED}", spot.place))
            }
            Expanded::Missing(why) => {
                let remedy = format!("requests that need it are answered 503: {SET_IT}");
                self.problems.warning(spot, format!("has no value: {why}"), remedy);
                Err(format!("{}: {why}", spot.place))
            }
        }
    }
}

enum ProxyChoice {
    Own(Option<EgressProxy>),
    Environment,
}

const MALFORMED: &str = "has a `${` that begins no variable";
const MALFORMED_REMEDY: &str = "write ${NAME}: a letter or `_`, then letters, digits and `_`";
const SET_IT: &str = "set it and restart";
