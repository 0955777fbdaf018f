//! Gemini Live: a session that is set up by its first message, and turns behind it.
//!
//! The service sends its JSON in binary messages, so a gateway that meters only text messages is found out. Clients
//! write the fields of their messages in either of the two spellings that protobuf's JSON has.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::fault::{Fault, Shape};
use super::gemini::FAMILIES;
use super::route::model_of;
use super::session::{Outbox, Protocol};
use super::sound::{self, Ear};
use super::text::{self, Conversation};

/// What Gemini takes a second of sound for, in tokens.
const TOKENS_PER_SECOND: u64 = 25;
const HEARD_SAMPLES_PER_SECOND: u64 = 16_000;
const SPOKEN_SAMPLES_PER_SECOND: u64 = 24_000;
const SILENCE_MS: u64 = 800;

#[derive(Default)]
pub struct Live {
    setup: Option<Setup>,
    /// The last message of the user, and what the session so far is worth: a turn pays for all that was before it.
    last: String,
    text_tokens: u64,
    sound_tokens: u64,
    ear: Ear,
    /// Of the turn that was begun last; over when nothing waits to be sent.
    usage: Value,
}

struct Setup {
    model: String,
    modality: Modality,
    transcribes_input: bool,
    transcribes_output: bool,
    /// Silence ends what the user says; else the client tells.
    detects_silence: bool,
}

/// In what a model answers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Modality {
    Text,
    Sound,
}

/// A field in camel case or in snake case.
fn field<'a>(value: &'a Value, camel: &str, snake: &str) -> &'a Value {
    value.get(camel).or_else(|| value.get(snake)).unwrap_or(&Value::Null)
}

impl Protocol for Live {
    fn text(&mut self, message: &str, outbox: &mut Outbox) {
        let followed = match serde_json::from_str(message) {
            Ok(message) => self.follow(&message, outbox),
            Err(error) => Err(Fault::Body(error.to_string())),
        };
        if let Err(fault) = followed {
            let code = match fault {
                Fault::Model(_) => CloseCode::Policy,
                Fault::Body(_) => CloseCode::Invalid,
                _ => CloseCode::Error,
            };
            outbox.close(code, &fault.message(Shape::Gemini));
        }
    }

    fn binary(&mut self, bytes: &[u8], outbox: &mut Outbox) {
        self.text(&String::from_utf8_lossy(bytes), outbox);
    }
}

fn say(outbox: &mut Outbox, value: &Value) {
    outbox.put(Message::binary(value.to_string()), false);
}

impl Live {
    fn follow(&mut self, message: &Value, outbox: &mut Outbox) -> Result<(), Fault> {
        let Some(Setup { detects_silence, .. }) = self.setup else {
            self.setup = Some(Setup::read(&message["setup"])?);
            let instruction = text::text_of(field(&message["setup"], "systemInstruction", "system_instruction"));
            self.text_tokens = text::tokens(&instruction);
            say(outbox, &json!({"setupComplete": {}}));
            return Ok(());
        };
        let name = message.as_object().and_then(|message| message.keys().next()).map_or("", String::as_str);
        let said = &message[name];
        match name {
            "clientContent" | "client_content" => {
                let turns = said["turns"].as_array().map(Vec::as_slice).unwrap_or_default();
                self.take_in(&Conversation::of(turns));
                if *field(said, "turnComplete", "turn_complete") == true {
                    self.reply(outbox);
                }
            }
            "realtimeInput" | "realtime_input" => {
                let chunks =
                    field(said, "mediaChunks", "media_chunks").as_array().map(Vec::as_slice).unwrap_or_default();
                for blob in [&said["audio"], &said["media"]].into_iter().chain(chunks) {
                    self.hear(blob)?;
                }
                let is_told = !field(said, "audioStreamEnd", "audio_stream_end").is_null()
                    || !field(said, "activityEnd", "activity_end").is_null();
                let is_silent = detects_silence && self.ear.has_heard_an_end(SILENCE_MS, HEARD_SAMPLES_PER_SECOND);
                if let Some(words) = said["text"].as_str() {
                    self.take_in(&Conversation::of([&json!(words)]));
                    self.reply(outbox);
                } else if self.ear.bytes > 0 && (is_told || is_silent) {
                    self.reply_to_sound(outbox);
                }
            }
            "toolResponse" | "tool_response" => {
                self.take_in(&Conversation::of([&json!(said.to_string())]));
                self.reply(outbox);
            }
            "contextUpdate" | "context_update" => {}
            _ => return Err(Fault::Body(format!("Unknown name \"{name}\": Cannot find field."))),
        }
        Ok(())
    }

    fn take_in(&mut self, conversation: &Conversation) {
        self.text_tokens += conversation.tokens;
        if !conversation.last.is_empty() {
            self.last.clone_from(&conversation.last);
        }
    }

    /// Pictures are taken, and make no difference.
    fn hear(&mut self, blob: &Value) -> Result<(), Fault> {
        let kind = field(blob, "mimeType", "mime_type").as_str().unwrap_or_default();
        if kind.starts_with("audio/") {
            let data = blob["data"].as_str().unwrap_or_default();
            let sound = BASE64.decode(data).or_else(|_| base64::engine::general_purpose::URL_SAFE.decode(data));
            self.ear.hear(&sound.map_err(|_| Fault::Body("\"data\": Base64 decoding failed".into()))?);
        }
        Ok(())
    }

    fn reply_to_sound(&mut self, outbox: &mut Outbox) {
        let ear = std::mem::take(&mut self.ear);
        self.last = ear.transcript();
        self.sound_tokens += sound_tokens(ear.bytes, HEARD_SAMPLES_PER_SECOND);
        if self.setup.as_ref().is_some_and(|setup| setup.transcribes_input) {
            say(outbox, &json!({"serverContent": {"inputTranscription": {"text": self.last}}}));
        }
        self.reply(outbox);
    }

    /// A turn of the model. One that is under way is broken off: somebody spoke.
    fn reply(&mut self, outbox: &mut Outbox) {
        let Some(setup) = &self.setup else { return };
        if !outbox.is_empty() && !self.usage.is_null() {
            outbox.clear();
            say(outbox, &json!({"serverContent": {"interrupted": true}}));
            say(outbox, &json!({"serverContent": {"turnComplete": true}, "usageMetadata": self.usage}));
        }
        let speaks = setup.modality == Modality::Sound;
        let prompt = self.text_tokens + self.sound_tokens;
        let conversation = Conversation { last: self.last.clone(), tokens: prompt };
        let reply = conversation.reply("gemini", &setup.model);
        for piece in text::pieces(&reply) {
            let part = if speaks {
                let kind = format!("audio/pcm;rate={SPOKEN_SAMPLES_PER_SECOND}");
                json!({"inlineData": {"mimeType": kind, "data": BASE64.encode(sound::of_text(piece))}})
            } else {
                json!({"text": piece})
            };
            let mut content = json!({"modelTurn": {"parts": [part], "role": "model"}});
            if speaks && setup.transcribes_output {
                content["outputTranscription"] = json!({"text": piece});
            }
            outbox.put(Message::binary(json!({"serverContent": content}).to_string()), true);
        }
        let (modality, response) = if speaks {
            ("AUDIO", sound_tokens(sound::of_text(&reply).len() as u64, SPOKEN_SAMPLES_PER_SECOND))
        } else {
            ("TEXT", text::tokens(&reply))
        };
        self.usage = json!({
            "promptTokenCount": prompt, "responseTokenCount": response, "totalTokenCount": prompt + response,
            "promptTokensDetails": [
                {"modality": "TEXT", "tokenCount": self.text_tokens},
                {"modality": "AUDIO", "tokenCount": self.sound_tokens},
            ],
            "responseTokensDetails": [{"modality": modality, "tokenCount": response}],
        });
        if speaks {
            self.sound_tokens += response;
        } else {
            self.text_tokens += response;
        }
        say(outbox, &json!({"serverContent": {"generationComplete": true}}));
        say(outbox, &json!({"serverContent": {"turnComplete": true}, "usageMetadata": self.usage}));
    }
}

fn sound_tokens(bytes: u64, samples_per_second: u64) -> u64 {
    (sound::milliseconds(bytes, samples_per_second) * TOKENS_PER_SECOND).div_ceil(1000)
}

impl Setup {
    fn read(setup: &Value) -> Result<Self, Fault> {
        if !setup.is_object() {
            return Err(Fault::Body("The first message must be `setup`.".into()));
        }
        let model = model_of(setup["model"].as_str().unwrap_or_default(), FAMILIES)?.to_owned();
        let generation = field(setup, "generationConfig", "generation_config");
        let modalities = field(generation, "responseModalities", "response_modalities").as_array();
        let input = field(setup, "realtimeInputConfig", "realtime_input_config");
        let detection = field(input, "automaticActivityDetection", "automatic_activity_detection");
        Ok(Self {
            model,
            // As at the provider, sound unless text is asked for.
            modality: match modalities {
                Some(list) if list.contains(&json!("TEXT")) => Modality::Text,
                _ => Modality::Sound,
            },
            transcribes_input: setup_has(setup, "inputAudioTranscription", "input_audio_transcription"),
            transcribes_output: setup_has(setup, "outputAudioTranscription", "output_audio_transcription"),
            detects_silence: detection["disabled"] != true,
        })
    }
}

fn setup_has(setup: &Value, camel: &str, snake: &str) -> bool {
    !field(setup, camel, snake).is_null()
}
