//! Recording what a channel's plugin is asked, and what it answers, so that another version can be asked again.
//!
//! Not a stage: `exchange` calls it beside `decide`, for channels with `"capture": true` only. A plugin is a function of
//! plain data, so an [`Entry`] is all that is needed to repeat a decision: the [`Head`] of the request, what `configure`
//! was told, and the [`Answer`]. The tools read the same formats: `plugin run` a head, `plugin replay` entries.
//!
//! Invariant: no credential is recorded. The proxy key is gone before (`identify`); headers and body fields that carry
//! credentials, and those that look like it ([`secrecy`]), are left out whatever the profile asks for; values of such query
//! parameters are masked. All these values are looked for in the rest of the line ([`suspects`]). A plan only names
//! secrets.
//!
//! A worker does this work, so that it is bounded: a decision about which there is too much to hide is not recorded.

mod answer;
mod entry;
mod files;
mod head;
mod json_text;
mod own_key;
mod secrecy;
mod suspects;

use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;

use crate::config::Channel;
use crate::error::Failure;
use crate::exchange::decide::{Contender, was_not_asked};
use crate::exchange::identify::Identified;
use crate::exchange::plan;
use crate::plugin::{Caller, Request};

pub use self::answer::{Answer, BodyEdit, Credential, Failed, HeaderEdit, Place, Plan, Refusal};
pub use self::entry::{Configured, Entry, line};
pub use self::files::Captures;
pub use self::head::{Head, Shown};
use self::own_key::OwnKey;
use self::suspects::Suspects;

/// A decision on its way into a capture file.
pub struct Capture {
    channel: Arc<Channel>,
    head: Head,
    own_key: OwnKey,
    /// Values that a plugin may have been shown, and put into its answer.
    suspects: Suspects,
}

impl Capture {
    /// Of a request whose credentials are gone, as this plugin is shown it; none where the channel is not captured.
    pub fn begin(
        contender: &Contender,
        shown: &Request,
        headers: &HeaderMap,
        identified: &Identified,
    ) -> Option<Box<Self>> {
        let Contender { channel: candidate, plugin, .. } = contender;
        if !candidate.channel.capture {
            return None;
        }
        let key = &identified.key;
        let caller = Caller { id: key.id.clone(), tags: key.tags.clone() };
        let (head, suspects) = Head::of(shown, headers, &plugin.deployed.profile, caller);
        let own_key = OwnKey::of(identified);
        Some(Box::new(Self { channel: candidate.channel.clone(), head, own_key, suspects }))
    }

    /// Records it, if the plugin was asked.
    pub fn end(
        self,
        captures: &Captures,
        contender: &Contender,
        asked: &Result<Rc<plan::Answer>, Failure>,
        request_id: &str,
    ) {
        if !captures.is_on() || asked.as_ref().is_err_and(was_not_asked) {
            return;
        }
        let Self { channel, head, own_key, suspects } = self;
        let answer = Answer::of(asked.as_ref().map(Rc::as_ref), &channel);
        match line(head, answer, suspects, &channel, &contender.plugin.deployed.version, request_id) {
            Ok(Some(line)) => {
                let line = own_key.masked(&String::from_utf8_lossy(&line));
                captures.append(&channel.id, line.as_bytes());
            }
            Ok(None) => captures.lose_one(&channel.id),
            Err(error) => tracing::warn!(channel = channel.id, %error, "a decision could not be captured"),
        }
    }
}
