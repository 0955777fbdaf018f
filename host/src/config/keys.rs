//! `api_keys.json`: who may call, and through which channels.
//!
//! Whether a named channel exists is not asked here but in [`super::load::combine`]: the two files change separately,
//! and a revoked key must not wait for a channel's typing error. Only the digest of a key outlives this file's reading.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::document::{self, Json, Node, is_comment};
use super::expand::is_placeholder;
use super::file::{KeyFile, KeysFile, Status, schema};
use super::load::Part;
use super::name::{NAME_RULE, is_name};
use super::problem::{Problems, Spot, member};
use super::{Keys, shape};

/// The valid keys of one version of the file.
#[derive(Debug, Default)]
pub struct KeyList {
    /// For what shows only together with the channels.
    pub(super) file: PathBuf,
    pub(super) entries: Vec<Entry>,
}

pub(super) struct Entry {
    pub digest: [u8; 32],
    pub id: String,
    pub active: bool,
    /// With the places that name them.
    pub channels: Vec<(String, Spot)>,
    pub tags: Vec<String>,
    pub description: Option<String>,
}

/// Without the digest: a short key can be found from it.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry").field("id", &self.id).field("active", &self.active).finish_non_exhaustive()
    }
}

/// Reads the file's bytes.
pub fn read(bytes: &[u8], file: &Path) -> Part<KeyList> {
    let mut problems = Problems::of(file);
    let value = document::parse(bytes, &mut problems).and_then(|root| keys(&root, &mut problems));
    let value = value.map(|entries| KeyList { file: file.to_owned(), entries });
    Part::new(value, problems)
}

fn keys(root: &Node, problems: &mut Problems<'_>) -> Option<Vec<Entry>> {
    // The list alone first, then each of its items: so that a faulty one does not shift the others' places.
    let mut outer = schema::<KeysFile>();
    let item = outer["anyOf"][0]["items"].take();
    outer["anyOf"][0].as_object_mut()?.remove("items");
    outer["anyOf"][1]["properties"]["keys"].as_object_mut()?.remove("items");
    shape::sound(root, &outer, "", problems)?;
    let (place, list) = match &root.json {
        Json::Array(_) => ("", root),
        _ if root.gives("keys") => ("keys", root.member("keys")?),
        _ => {
            let spot = Spot { place: "keys".to_owned(), position: Some(root.position) };
            problems.error(&spot, "is missing", "give the list of proxy keys: {\"keys\": [{…}]}");
            return None;
        }
    };
    let Json::Array(items) = &list.json else { return None };
    let mut reader = Reader { problems, digests: HashMap::new(), ids: HashMap::new() };
    let entries: Vec<_> = (items.iter().enumerate())
        .filter(|(_, node)| !is_only_comments(node))
        .filter_map(|(index, node)| reader.entry(node, &item, &format!("{place}[{index}]")))
        .collect();
    if entries.is_empty() && !problems.has_errors() {
        let spot = Spot { place: place.to_owned(), position: Some(list.position) };
        problems.warning(&spot, "has no key", "add one, or nobody can call");
    }
    Some(entries)
}

/// `{"_comment": "…"}` between the keys.
fn is_only_comments(node: &Node) -> bool {
    matches!(&node.json, Json::Object(members) if !members.is_empty() && members.iter().all(|(name, _)| is_comment(name)))
}

struct Reader<'a, 'f> {
    problems: &'a mut Problems<'f>,
    /// Where each was seen first.
    digests: HashMap<[u8; 32], String>,
    ids: HashMap<String, String>,
}

impl Reader<'_, '_> {
    fn entry(&mut self, node: &Node, schema: &Value, place: &str) -> Option<Entry> {
        let sound = shape::sound(node, schema, place, self.problems)?;
        let file: KeyFile = serde_json::from_value(sound).ok()?;
        let spot = |field: &str| Spot {
            place: member(place, field),
            position: Some(node.member(field).unwrap_or(node).position),
        };
        let channels = self.channels(&file, node, &spot);
        let tags = self.tags(&file, &spot);
        let Some(key) = file.proxy_key else {
            if !node.gives("proxy_key") {
                self.problems.error(&spot("proxy_key"), "is missing", "write the key that the client sends");
            }
            return None;
        };
        self.check_key(&key, &spot("proxy_key"))?;
        let digest = Keys::digest(key.as_bytes());
        if let Some(first) = self.digests.insert(digest, place.to_owned()) {
            let what = format!("is the same key as that of {first}");
            self.problems.error(&spot("proxy_key"), what, "remove one, or list several `channels` in one");
            return None;
        }
        let id = match file.id {
            Some(id) if !is_name(&id) => {
                self.problems.error(&spot("id"), "is not an id", NAME_RULE);
                return None;
            }
            Some(id) if id.contains(&key) || (id.len() >= 8 && key.contains(&id)) => {
                let remedy = "choose another: ids are shown in logs and statistics";
                self.problems.error(&spot("id"), "would reveal the key", remedy);
                return None;
            }
            Some(id) => id,
            None => derived_id(&key),
        };
        if let Some(first) = self.ids.insert(id.clone(), place.to_owned()) {
            let what = format!("is the same id as that of {first}");
            self.problems.error(&spot("id"), what, "give each key an id of its own");
            return None;
        }
        let active = matches!(file.status, None | Some(Status::Active));
        // Shown with the id: somebody may have noted the key there.
        let description = file.description.filter(|text| !text.contains(&key));
        Some(Entry { digest, id, active, channels, tags, description })
    }

    /// None: the key is not to be used; why has been reported.
    fn check_key(&mut self, key: &str, spot: &Spot) -> Option<()> {
        if is_placeholder(key) {
            let remedy = "write a random key (`aiproxy-host init` draws one); until then the entry is passed over";
            self.problems.warning(spot, "still is the placeholder of the example", remedy);
            return None;
        }
        let fault = if key.contains("${") {
            ("holds `${`, but variables are not replaced in proxy keys", "write the key itself")
        } else if !key.bytes().all(|b| b.is_ascii_graphic()) {
            ("holds a space, a control character or a character beyond ASCII", "use visible ASCII characters")
        } else if key.len() < 8 {
            ("is shorter than 8 characters", "use a random key, which cannot be guessed")
        } else if key.len() > 512 {
            ("is longer than 512 characters", "use a shorter key")
        } else {
            return Some(());
        };
        self.problems.error(spot, fault.0, fault.1);
        None
    }

    fn channels(&mut self, file: &KeyFile, node: &Node, spot: &dyn Fn(&str) -> Spot) -> Vec<(String, Spot)> {
        let names: Vec<(String, Spot)> = match (&file.channel, &file.channels) {
            (Some(one), Some(several)) if several.as_slice() != std::slice::from_ref(one) => {
                let what = "is given beside channel, and differs from it";
                self.problems.error(&spot("channels"), what, "put every channel into channels, and remove channel");
                return Vec::new();
            }
            (_, Some(several)) => {
                let items = match node.member("channels").map(|node| &node.json) {
                    Some(Json::Array(items)) => items.as_slice(),
                    _ => &[],
                };
                let list = spot("channels");
                let item = |index: usize| Spot {
                    place: format!("{}[{index}]", list.place),
                    position: items.get(index).map_or(list.position, |node| Some(node.position)),
                };
                several.iter().enumerate().map(|(index, name)| (name.clone(), item(index))).collect()
            }
            (Some(one), None) => vec![(one.clone(), spot("channel"))],
            (None, None) => Vec::new(),
        };
        if names.is_empty() && !(node.gives("channel") && file.channel.is_none()) {
            let field = if node.gives("channels") { "channels" } else { "channel" };
            if field == "channel" || file.channels.is_some() {
                let what = if field == "channel" { "is missing" } else { "is empty" };
                self.problems.error(&spot(field), what, "name the channel that this key opens");
            }
        }
        for (index, (name, spot)) in names.iter().enumerate() {
            if names[..index].iter().any(|(earlier, _)| earlier == name) {
                self.problems.error(spot, "names a channel a second time", "remove it");
            }
        }
        names
    }

    fn tags(&mut self, file: &KeyFile, spot: &dyn Fn(&str) -> Spot) -> Vec<String> {
        let user = file.user.as_deref().map(str::trim).filter(|user| !user.is_empty());
        for (field, text) in user
            .map(|user| ("user", user))
            .into_iter()
            .chain(file.tags.iter().flatten().map(|tag| ("tags", tag.as_str())))
        {
            if text.trim().is_empty() || text.chars().count() > 128 || text.contains(char::is_control) {
                let remedy = "write 1 to 128 characters, without control characters";
                self.problems.error(&spot(field), "holds a text that cannot be a tag", remedy);
            }
        }
        let mut tags: Vec<String> = file.tags.clone().unwrap_or_default();
        // With a prefix, so that a user who is called like a tag is not taken for it.
        tags.extend(user.map(|user| format!("user:{user}")));
        tags
    }
}

/// An id that stays the same when keys are added or moved. The hash is one of its own kind, so that the id is no part
/// of the digest that keys are looked up by; from 32 bits a random key cannot be found, but a short one that somebody
/// made up can be confirmed: such a key is better given an `id`, as the documentation says.
fn derived_id(key: &str) -> String {
    let hash = Sha256::new().chain_update(b"aiproxy proxy key id\0").chain_update(key).finalize();
    format!("key-{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3])
}
