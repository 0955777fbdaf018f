//! The events of a realtime model that only speaks: text comes in, its sound goes out.

use serde_json::{Value, json};

use super::response::{Response, Usage};
use super::{Misfit, Realtime, event, invalid, unknown};
use crate::demo::session::Outbox;
use crate::demo::text;

/// Of text that waits to be spoken.
const TEXT_BYTES_MAX: usize = 256 << 10;

impl Realtime {
    pub(super) fn follow_for_speech(
        &mut self,
        model: &str,
        kind: &str,
        said: &Value,
        outbox: &mut Outbox,
    ) -> Result<(), Misfit> {
        match kind {
            "input_text_buffer.append" => {
                let text = said["text"].as_str().ok_or_else(|| invalid("`text` must be a string"))?;
                if self.unspoken.len() + text.len() > TEXT_BYTES_MAX {
                    return Err(invalid("too much text waits to be spoken"));
                }
                self.unspoken.push_str(text);
                // Left to itself, the server speaks whole sentences.
                if self.session["mode"] == "server_commit" {
                    let end = self.unspoken.rfind(['.', '!', '?', '\n', '。', '！', '？']);
                    let end = end.map_or(0, |end| end + self.unspoken[end..].chars().next().map_or(0, char::len_utf8));
                    self.speak(model, end, outbox);
                }
            }
            "input_text_buffer.commit" => {
                outbox.say(&event("input_text_buffer.committed", json!({"item_id": text::fresh_id("item_")})));
                self.speak(model, usize::MAX, outbox);
            }
            "input_text_buffer.clear" => {
                self.unspoken.clear();
                outbox.say(&event("input_text_buffer.cleared", json!({})));
            }
            _ => return Err(unknown(kind)),
        }
        Ok(())
    }

    /// Says what waits, up to this byte.
    pub(super) fn speak(&mut self, model: &str, end: usize, outbox: &mut Outbox) {
        let rest = self.unspoken.split_off(end.min(self.unspoken.len()));
        let spoken = std::mem::replace(&mut self.unspoken, rest);
        if spoken.trim().is_empty() {
            return;
        }
        // The older models are billed by tokens.
        let characters = model.starts_with("qwen3").then(|| text::characters(&spoken));
        let usage = Usage { input_text: text::tokens(&spoken), characters, ..Usage::default() };
        self.response = Some(Response::say(outbox, &["audio"], false, &spoken, usage));
    }
}
