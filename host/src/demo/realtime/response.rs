//! The events that make up one response of a realtime socket, from `response.created` to `response.done`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use super::{TOKENS_PER_SECOND, event};
use crate::demo::session::Outbox;
use crate::demo::{sound, text};

const SPOKEN_SAMPLES_PER_SECOND: u64 = 24_000;

/// What a response costs, in tokens; or in characters, where the model is billed so.
#[derive(Default)]
pub struct Usage {
    pub input_text: u64,
    pub input_sound: u64,
    pub output_text: u64,
    pub output_sound: u64,
    pub characters: Option<u64>,
}

impl Usage {
    fn json(&self) -> Value {
        let Self { input_text, input_sound, output_text, output_sound, characters } = self;
        if let Some(characters) = characters {
            return json!({"characters": characters});
        }
        let (input, output) = (input_text + input_sound, output_text + output_sound);
        json!({
            "total_tokens": input + output, "input_tokens": input, "output_tokens": output,
            "input_tokens_details": {"text_tokens": input_text, "audio_tokens": input_sound},
            "output_tokens_details": {"text_tokens": output_text, "audio_tokens": output_sound},
        })
    }
}

/// A response that has been begun.
pub struct Response {
    id: String,
    modalities: Vec<String>,
    usage: Usage,
}

impl Response {
    /// All of its events: the text's pieces, and their sound where `audio` is asked for. `with_text` is false where the
    /// text is the client's own, so that only sound comes back. Of `usage`, the output is filled in.
    pub fn say(outbox: &mut Outbox, modalities: &[&str], with_text: bool, reply: &str, mut usage: Usage) -> Self {
        let has_sound = modalities.contains(&"audio");
        if has_sound {
            let milliseconds = sound::milliseconds(sound::of_text(reply).len() as u64, SPOKEN_SAMPLES_PER_SECOND);
            usage.output_sound = (milliseconds * TOKENS_PER_SECOND).div_ceil(1000);
        }
        if with_text {
            usage.output_text = text::tokens(reply);
        }
        let modalities = modalities.iter().copied().map(str::to_owned).collect();
        let response = Self { id: text::fresh_id("resp_"), modalities, usage };
        let item_id = text::fresh_id("item_");
        let at_item = |fields: Value| {
            let mut at = json!({"response_id": response.id, "item_id": item_id, "output_index": 0});
            super::merge(&mut at, &fields);
            at
        };
        let at_part = |fields: Value| {
            let mut at = at_item(json!({"content_index": 0}));
            super::merge(&mut at, &fields);
            at
        };
        // A part of sound carries its text as a transcript.
        let part = |words: &str| match (has_sound, with_text) {
            (false, _) => json!({"type": "text", "text": words}),
            (true, true) => json!({"type": "audio", "transcript": words}),
            (true, false) => json!({"type": "audio", "text": ""}),
        };
        let item = |status: &str, content: Value| {
            json!({
                "id": item_id, "object": "realtime.item", "type": "message", "status": status, "role": "assistant",
                "content": content,
            })
        };
        let created = response.json("in_progress", &json!([]), &Value::Null);
        outbox.say(&event("response.created", json!({"response": created})));
        let begun = item("in_progress", json!([]));
        outbox.say(&event("response.output_item.added", at_item(json!({"item": begun}))));
        if with_text {
            outbox.say(&event("conversation.item.created", json!({"item": begun})));
        }
        outbox.say(&event("response.content_part.added", at_part(json!({"part": part("")}))));
        let words = if has_sound { "response.audio_transcript" } else { "response.text" };
        for piece in text::pieces(reply) {
            if with_text {
                outbox.say_piece(&event(&format!("{words}.delta"), at_part(json!({"delta": piece}))));
            }
            if has_sound {
                let delta =
                    event("response.audio.delta", at_part(json!({"delta": BASE64.encode(sound::of_text(piece))})));
                // The words, where there are any, have made the pause.
                if with_text { outbox.say(&delta) } else { outbox.say_piece(&delta) }
            }
        }
        if with_text {
            let name = if has_sound { "transcript" } else { "text" };
            outbox.say(&event(&format!("{words}.done"), at_part(json!({name: reply}))));
        }
        if has_sound {
            outbox.say(&event("response.audio.done", at_part(json!({}))));
        }
        outbox.say(&event("response.content_part.done", at_part(json!({"part": part(reply)}))));
        let finished = item("completed", json!([part(reply)]));
        outbox.say(&event("response.output_item.done", at_item(json!({"item": finished}))));
        let done = response.json("completed", &json!([finished]), &response.usage.json());
        outbox.say(&event("response.done", json!({"response": done})));
        response
    }

    /// The last event of a response that was taken back: its input was used all the same.
    pub fn cancelled(self) -> Value {
        let usage = Usage { output_text: 0, output_sound: 0, ..self.usage };
        let response = Self { usage, ..self };
        event("response.done", json!({"response": response.json("cancelled", &json!([]), &response.usage.json())}))
    }

    fn json(&self, status: &str, output: &Value, usage: &Value) -> Value {
        json!({
            "id": self.id, "object": "realtime.response", "status": status, "modalities": self.modalities,
            "output": output, "usage": usage,
        })
    }
}
