//! bailian's tasks over a socket (`/api-ws/v1/inference`): speech from text, text from speech.
//!
//! A socket carries one task after the other. Text is spoken as it comes; of sound, a recognition says how much it
//! heard: so far for every second, and of the whole at its end. A failed task ends its socket.

use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use super::dashscope::FAMILIES;
use super::fault::{Fault, Shape};
use super::route::model_of;
use super::session::{Outbox, Protocol};
use super::{sound, text};

/// Of one synthesis, as the provider has it.
const CHARACTERS_MAX: u64 = 200_000;

#[derive(Default)]
pub struct Inference {
    task: Option<Task>,
}

struct Task {
    id: String,
    work: Work,
}

enum Work {
    Synthesis(Synthesis),
    Recognition(Recognition),
}

impl Protocol for Inference {
    fn text(&mut self, message: &str, outbox: &mut Outbox) {
        let message: Value = serde_json::from_str(message).unwrap_or_default();
        let id = message["header"]["task_id"].as_str().unwrap_or_default().to_owned();
        if let Err(fault) = self.obey(&id, &message, outbox) {
            self.fail(&id, &fault, outbox);
        }
    }

    fn binary(&mut self, bytes: &[u8], outbox: &mut Outbox) {
        match &mut self.task {
            Some(Task { id, work: Work::Recognition(recognition) }) => recognition.hear(id, bytes, outbox),
            Some(Task { id, work: Work::Synthesis(_) }) => {
                let id = id.clone();
                self.fail(&id, &Fault::Body("a synthesis takes no binary message".into()), outbox);
            }
            None => self.fail("", &Fault::Body("a binary message belongs to a task".into()), outbox),
        }
    }
}

impl Inference {
    fn obey(&mut self, id: &str, message: &Value, outbox: &mut Outbox) -> Result<(), Fault> {
        let input = &message["payload"]["input"];
        if id.is_empty() {
            return Err(Fault::Body("field `header.task_id` is required".into()));
        }
        match (message["header"]["action"].as_str(), &mut self.task) {
            (Some("run-task"), None) => self.run(id, message, outbox),
            (Some("run-task"), Some(_)) => Err(Fault::Body("another task is running on this socket".into())),
            (Some("continue-task"), Some(task)) if task.id == id => match &mut task.work {
                Work::Synthesis(synthesis) => synthesis.speak(id, input["text"].as_str().unwrap_or_default(), outbox),
                // The context of a conversation may be told at any time.
                Work::Recognition(_) => Ok(()),
            },
            (Some("finish-task"), Some(task)) if task.id == id => {
                if input["directive"] == "cancel" {
                    outbox.clear();
                }
                let (output, usage) = match &mut task.work {
                    Work::Synthesis(synthesis) => (json!({"sentence": {"words": []}}), synthesis.usage()),
                    Work::Recognition(recognition) => (json!({}), recognition.end(id, outbox)),
                };
                outbox.say(&event(id, "task-finished", &json!({"output": output, "usage": usage})));
                self.task = None;
                Ok(())
            }
            (Some("continue-task" | "finish-task"), _) => Err(Fault::Body(format!("the task {id} is not running"))),
            _ => Err(Fault::Body("field `header.action` must be run-task, continue-task or finish-task".into())),
        }
    }

    fn run(&mut self, id: &str, message: &Value, outbox: &mut Outbox) -> Result<(), Fault> {
        let payload = &message["payload"];
        model_of(payload["model"].as_str().unwrap_or_default(), FAMILIES)?;
        let work = match payload["task"].as_str() {
            Some("tts") => Work::Synthesis(Synthesis::new(&payload["parameters"])),
            Some("asr") => Work::Recognition(Recognition::new(&payload["parameters"])),
            _ => return Err(Fault::Body("field `payload.task` must be tts or asr".into())),
        };
        outbox.say(&event(id, "task-started", &json!({})));
        match (work, payload["input"]["text"].as_str()) {
            // All of the text is there, and nobody will say that it ends.
            (Work::Synthesis(mut synthesis), Some(text)) if message["header"]["streaming"] != "duplex" => {
                synthesis.speak(id, text, outbox)?;
                let payload = json!({"output": null, "usage": synthesis.usage()});
                outbox.say(&event(id, "task-finished", &payload));
            }
            (work, _) => self.task = Some(Task { id: id.into(), work }),
        }
        Ok(())
    }

    fn fail(&mut self, id: &str, fault: &Fault, outbox: &mut Outbox) {
        self.task = None;
        let mut failed = event(id, "task-failed", &json!({}));
        failed["header"]["error_code"] = json!(fault.code(Shape::DashScope));
        failed["header"]["error_message"] = json!(fault.message(Shape::DashScope));
        outbox.clear();
        outbox.say(&failed);
        outbox.close(CloseCode::Normal, "");
    }
}

fn event(id: &str, name: &str, payload: &Value) -> Value {
    json!({"header": {"task_id": id, "event": name, "attributes": {}}, "payload": payload})
}

/// Where sound says how fast its samples follow each other.
fn samples_per_second(parameters: &Value, default: u64) -> u64 {
    parameters["sample_rate"].as_u64().filter(|&rate| rate > 0).unwrap_or(default)
}

struct Synthesis {
    samples_per_second: u64,
    characters: u64,
    sentences: u64,
    bytes: u64,
}

impl Synthesis {
    fn new(parameters: &Value) -> Self {
        Self { samples_per_second: samples_per_second(parameters, 22_050), characters: 0, sentences: 0, bytes: 0 }
    }

    /// The text's sound in pieces, and behind them the usage so far.
    fn speak(&mut self, id: &str, text: &str, outbox: &mut Outbox) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        self.characters += text::characters(text);
        if self.characters > CHARACTERS_MAX {
            return Err(Fault::Body(format!("a synthesis takes at most {CHARACTERS_MAX} characters")));
        }
        let begin = self.bytes;
        for piece in text::pieces(text) {
            let sound = sound::of_text(piece);
            self.bytes += sound.len() as u64;
            outbox.put(Message::binary(sound), true);
        }
        let time = |bytes| sound::milliseconds(bytes, self.samples_per_second);
        let sentence = json!({
            "index": self.sentences, "begin_time": time(begin), "end_time": time(self.bytes), "words": [],
        });
        self.sentences += 1;
        let payload = json!({"output": {"sentence": sentence}, "usage": self.usage()});
        outbox.say(&event(id, "result-generated", &payload));
        Ok(())
    }

    fn usage(&self) -> Value {
        json!({"characters": self.characters})
    }
}

struct Recognition {
    format: String,
    samples_per_second: u64,
    bytes: u64,
    /// Of which an event has told.
    seconds_told: u64,
}

impl Recognition {
    fn new(parameters: &Value) -> Self {
        Self {
            format: parameters["format"].as_str().unwrap_or("pcm").chars().take(16).collect(),
            samples_per_second: samples_per_second(parameters, 16_000),
            bytes: 0,
            seconds_told: 0,
        }
    }

    fn milliseconds(&self) -> u64 {
        sound::milliseconds(self.bytes, self.samples_per_second)
    }

    fn hear(&mut self, id: &str, sound: &[u8], outbox: &mut Outbox) {
        self.bytes += sound.len() as u64;
        let seconds = self.milliseconds() / 1000;
        if seconds > self.seconds_told {
            self.seconds_told = seconds;
            outbox.say_piece(&self.result(id, false));
        }
    }

    /// The usage of the whole.
    fn end(&mut self, id: &str, outbox: &mut Outbox) -> Value {
        // No sound, no sentence.
        if self.bytes > 0 {
            outbox.say_piece(&self.result(id, true));
        }
        self.usage()
    }

    fn usage(&self) -> Value {
        json!({"duration": self.milliseconds().div_ceil(1000)})
    }

    /// A sentence that goes on has neither an end nor a price.
    fn result(&self, id: &str, is_last: bool) -> Value {
        let Self { format, samples_per_second, bytes, .. } = self;
        let sentence = json!({
            "sentence_id": 1, "begin_time": 0, "end_time": is_last.then(|| self.milliseconds()), "words": [],
            "text": format!("Heard {bytes} bytes of {format} at {samples_per_second} Hz."),
            "heartbeat": false, "sentence_end": is_last,
        });
        let usage = if is_last { self.usage() } else { Value::Null };
        event(id, "result-generated", &json!({"output": {"sentence": sentence}, "usage": usage}))
    }
}
