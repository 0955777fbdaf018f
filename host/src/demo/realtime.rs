//! bailian's realtime events (`/api-ws/v1/realtime`): a conversation by text and sound, or speech from text.
//!
//! The model of the query decides which: one for speech takes text and says it, any other answers what it is told.
//! Events have the names that bailian gives them, which are OpenAI's of the beta (`response.audio.delta`). An event that
//! cannot be followed gets an `error` and changes nothing; a model that does not exist ends the socket.

mod response;
mod speech;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use self::response::{Response, Usage};
use super::dashscope::FAMILIES;
use super::fault::{Fault, Shape};
use super::route::model_of;
use super::session::{Outbox, Protocol};
use super::sound::Ear;
use super::text::{self, Conversation};

/// Of the configuration that a client may give a session.
const SESSION_BYTES_MAX: usize = 64 << 10;
/// What bailian takes a second of sound for, in tokens.
const TOKENS_PER_SECOND: u64 = 25;
const HEARD_SAMPLES_PER_SECOND: u64 = 16_000;
/// Of silence, behind which somebody has finished, unless the session says otherwise.
const SILENCE_MS: u64 = 800;

pub struct Realtime {
    model: Result<String, Fault>,
    session: Value,
    /// The last message of the user, and what the conversation so far is worth.
    last: String,
    text_tokens: u64,
    sound_tokens: u64,
    ear: Ear,
    /// Of a model for speech: not spoken yet.
    unspoken: String,
    /// The one that was begun last; over when nothing waits to be sent.
    response: Option<Response>,
}

/// Why an event is not followed.
struct Misfit {
    code: &'static str,
    message: String,
}

fn invalid(message: impl Into<String>) -> Misfit {
    Misfit { code: "invalid_value", message: message.into() }
}

/// An event of the server.
fn event(kind: &str, fields: Value) -> Value {
    let mut event = json!({"event_id": text::fresh_id("event_"), "type": kind});
    if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
        event.extend(fields);
    }
    event
}

impl Realtime {
    pub fn new(model: &str) -> Self {
        let session = if speaks_only(model) {
            json!({"mode": "server_commit", "voice": "Cherry", "response_format": "pcm", "sample_rate": 24_000})
        } else {
            json!({
                "modalities": ["text", "audio"], "voice": "Cherry", "input_audio_format": "pcm",
                "output_audio_format": "pcm", "input_audio_transcription": null,
                "turn_detection": {"type": "server_vad", "threshold": 0.5, "silence_duration_ms": SILENCE_MS},
            })
        };
        let mut whole = json!({"id": text::fresh_id("sess_"), "object": "realtime.session", "model": model});
        merge(&mut whole, &session);
        Self {
            model: model_of(model, FAMILIES).map(str::to_owned),
            session: whole,
            last: String::new(),
            text_tokens: 0,
            sound_tokens: 0,
            ear: Ear::default(),
            unspoken: String::new(),
            response: None,
        }
    }
}

/// Qwen's models for speech.
fn speaks_only(model: &str) -> bool {
    model.contains("-tts")
}

fn merge(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        into.extend(from.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
}

impl Protocol for Realtime {
    fn open(&mut self, outbox: &mut Outbox) {
        let Err(fault) = &self.model else {
            return outbox.say(&event("session.created", json!({"session": self.session})));
        };
        let (code, message) = (fault.code(Shape::Compatible), fault.message(Shape::Compatible));
        let error = json!({"type": "invalid_request_error", "code": code, "message": message, "param": "model"});
        outbox.say(&event("error", json!({"error": error})));
        let is_request = matches!(fault, Fault::Model(_) | Fault::Body(_));
        outbox.close(if is_request { CloseCode::Invalid } else { CloseCode::Error }, &message);
    }

    fn text(&mut self, message: &str, outbox: &mut Outbox) {
        // Behind a refusal nothing is heard.
        let Ok(model) = self.model.clone() else { return };
        let said: Value = serde_json::from_str(message).unwrap_or_default();
        let kind = said["type"].as_str().unwrap_or_default();
        let followed = match kind {
            "session.update" => self.update(&said["session"], outbox),
            "session.finish" => {
                self.speak(&model, usize::MAX, outbox);
                outbox.say(&event("session.finished", json!({})));
                outbox.close(CloseCode::Normal, "");
                Ok(())
            }
            "response.cancel" => self.cancel(outbox),
            _ if speaks_only(&model) => self.follow_for_speech(&model, kind, &said, outbox),
            _ => self.follow_in_conversation(&model, kind, &said, outbox),
        };
        if let Err(Misfit { code, message }) = followed {
            let error = json!({
                "type": "invalid_request_error", "code": code, "message": message, "param": null,
                "event_id": said["event_id"],
            });
            outbox.say(&event("error", json!({"error": error})));
        }
    }

    fn binary(&mut self, _: &[u8], outbox: &mut Outbox) {
        // No event, so one of no type.
        self.text("{}", outbox);
    }
}

impl Realtime {
    fn update(&mut self, changes: &Value, outbox: &mut Outbox) -> Result<(), Misfit> {
        let mut session = self.session.clone();
        merge(&mut session, changes);
        for name in ["id", "object", "model"] {
            session[name] = self.session[name].clone();
        }
        if !changes.is_object() || session.to_string().len() > SESSION_BYTES_MAX {
            return Err(invalid("`session` must be an object, and not a large one"));
        }
        self.session = session;
        outbox.say(&event("session.updated", json!({"session": self.session})));
        Ok(())
    }

    fn cancel(&mut self, outbox: &mut Outbox) -> Result<(), Misfit> {
        match self.response.take() {
            Some(response) if !outbox.is_empty() => {
                outbox.clear();
                outbox.say(&response.cancelled());
                Ok(())
            }
            _ => Err(Misfit { code: "response_cancel_not_active", message: "no response is under way".into() }),
        }
    }

    fn follow_in_conversation(
        &mut self,
        model: &str,
        kind: &str,
        said: &Value,
        outbox: &mut Outbox,
    ) -> Result<(), Misfit> {
        match kind {
            "input_audio_buffer.append" => {
                let sound = BASE64.decode(said["audio"].as_str().unwrap_or_default());
                self.hear(model, &sound.map_err(|_| invalid("`audio` must be base64"))?, outbox);
            }
            "input_image_buffer.append" => {}
            "input_audio_buffer.commit" => {
                if self.ear.bytes == 0 {
                    let message = "the buffer of sound is empty".into();
                    return Err(Misfit { code: "input_audio_buffer_commit_empty", message });
                }
                self.commit(outbox);
            }
            "input_audio_buffer.clear" => {
                self.ear = Ear::default();
                outbox.say(&event("input_audio_buffer.cleared", json!({})));
            }
            "conversation.item.create" => {
                let mut item = said["item"].clone();
                if !item.is_object() {
                    return Err(invalid("`item` must be an object"));
                }
                let conversation = Conversation::of([&item]);
                self.text_tokens += conversation.tokens;
                if item["role"] == "user" {
                    self.last = conversation.last;
                }
                if item["id"].is_null() {
                    item["id"] = json!(text::fresh_id("item_"));
                }
                merge(&mut item, &json!({"object": "realtime.item", "status": "completed"}));
                outbox.say(&event("conversation.item.created", json!({"item": item})));
            }
            "response.create" => {
                if self.response.is_some() && !outbox.is_empty() {
                    let message = "a response is under way".into();
                    return Err(Misfit { code: "conversation_already_has_active_response", message });
                }
                self.respond(model, &said["response"], outbox);
            }
            _ => return Err(unknown(kind)),
        }
        Ok(())
    }

    /// With turn detection, silence is as good as a commit and a request for an answer.
    fn hear(&mut self, model: &str, sound: &[u8], outbox: &mut Outbox) {
        let had_heard_sound = self.ear.has_heard_sound;
        self.ear.hear(sound);
        let detection = &self.session["turn_detection"];
        if !detection.is_object() {
            return;
        }
        let silence_ms = detection["silence_duration_ms"].as_u64().unwrap_or(SILENCE_MS);
        if self.ear.has_heard_sound && !had_heard_sound {
            outbox.say(&event("input_audio_buffer.speech_started", json!({"audio_start_ms": 0})));
        }
        if self.ear.has_heard_an_end(silence_ms, HEARD_SAMPLES_PER_SECOND) {
            let end_ms = super::sound::milliseconds(self.ear.bytes, HEARD_SAMPLES_PER_SECOND);
            outbox.say(&event("input_audio_buffer.speech_stopped", json!({"audio_end_ms": end_ms})));
            self.commit(outbox);
            self.respond(model, &Value::Null, outbox);
        }
    }

    /// What has been heard becomes the last message of the user.
    fn commit(&mut self, outbox: &mut Outbox) {
        let ear = std::mem::take(&mut self.ear);
        self.last = ear.transcript();
        let milliseconds = super::sound::milliseconds(ear.bytes, HEARD_SAMPLES_PER_SECOND);
        self.sound_tokens += (milliseconds * TOKENS_PER_SECOND).div_ceil(1000);
        let id = text::fresh_id("item_");
        outbox.say(&event("input_audio_buffer.committed", json!({"item_id": id})));
        let item = json!({
            "id": id, "object": "realtime.item", "type": "message", "status": "completed", "role": "user",
            "content": [{"type": "input_audio"}],
        });
        outbox.say(&event("conversation.item.created", json!({"item": item})));
        if !self.session["input_audio_transcription"].is_null() {
            let transcript = json!({"item_id": id, "content_index": 0, "transcript": self.last});
            outbox.say(&event("conversation.item.input_audio_transcription.completed", transcript));
        }
    }

    fn respond(&mut self, model: &str, request: &Value, outbox: &mut Outbox) {
        let asked = [&request["modalities"], &request["output_modalities"]];
        let of_session = [&self.session["output_modalities"], &self.session["modalities"]];
        let modalities = asked.into_iter().chain(of_session).find(|list| list.is_array()).unwrap_or(&Value::Null);
        let has_sound = modalities.as_array().is_some_and(|list| list.contains(&json!("audio")));
        let conversation = Conversation { last: self.last.clone(), tokens: self.text_tokens };
        let reply = conversation.reply("bailian", model);
        let instructions = request["instructions"].as_str().or(self.session["instructions"].as_str());
        let input_text = self.text_tokens + instructions.map_or(0, text::tokens);
        let usage = Usage { input_text, input_sound: self.sound_tokens, ..Usage::default() };
        // What was answered is part of the conversation.
        self.text_tokens += text::tokens(&reply);
        let modalities: &[&str] = if has_sound { &["text", "audio"] } else { &["text"] };
        self.response = Some(Response::say(outbox, modalities, true, &reply, usage));
    }
}

fn unknown(kind: &str) -> Misfit {
    invalid(format!("Invalid value: '{kind}'. The demo upstream knows no such event for this model."))
}
