//! The default plugins' meters against replies as the providers send them, wherever these are cut.
//!
//! The files are described in `samples/README.md`. Which meters a reply has is what its plugin answers to the request.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use proptest::prelude::*;

use super::{CompiledMeters, ExtraChunk, MessageMeter, Meter, Usage};
use crate::plugin::{Decision, Presented, Request, Transport, defaults};

/// The plugin, the request (`WS` opens a socket), the file with the reply, and what it comes to.
type Row = (&'static str, &'static str, &'static str, &'static [(&'static str, f64)]);

const GENERATION: &str = "POST /api/v1/services/aigc/text-generation/generation";
const MULTIMODAL: &str = "POST /api/v1/services/aigc/multimodal-generation/generation";
const TASK: &str = "GET /api/v1/tasks/00000000-0000-4000-8000-0000000000aa";
const CHAT: &str = "POST /v1/chat/completions";
const LIVE: &str = "WS /ws/google.ai.generativelanguage.v1beta.GenerativeService.BidiGenerateContent";

const ROWS: &[Row] = &[
    (
        "bailian",
        GENERATION,
        "bailian-generation-cumulative.sse",
        &[("input", 22.), ("output", 15.), ("cached-input", 0.)],
    ),
    (
        "bailian",
        GENERATION,
        "bailian-generation-incremental.sse",
        &[("input", 22.), ("output", 15.), ("cached-input", 0.)],
    ),
    (
        "bailian",
        GENERATION,
        "bailian-generation.json",
        &[("input", 1056.), ("output", 95.), ("cached-input", 1024.), ("reasoning", 80.)],
    ),
    ("bailian", MULTIMODAL, "bailian-multimodal.json", &[("input", 1269.), ("output", 7.)]),
    ("bailian", "POST /api/v1/apps/a-1/completion", "bailian-application.sse", &[("input", 86.), ("output", 14.)]),
    (
        "bailian",
        "POST /api/v1/services/embeddings/text-embedding/text-embedding",
        "bailian-embedding.json",
        &[("input", 26.)],
    ),
    ("bailian", "POST /api/v1/services/rerank/text-rerank/text-rerank", "bailian-rerank.json", &[("input", 79.)]),
    ("bailian", TASK, "bailian-task-running.json", &[]),
    ("bailian", TASK, "bailian-task-images.json", &[("images", 2.)]),
    ("bailian", TASK, "bailian-task-video.json", &[("seconds", 5.)]),
    ("bailian", TASK, "bailian-task-video-with-sound.json", &[("seconds", 10.)]),
    ("bailian", TASK, "bailian-task-transcription.json", &[("seconds", 9.5)]),
    ("bailian", MULTIMODAL, "bailian-image.json", &[("images", 1.)]),
    ("bailian", MULTIMODAL, "bailian-speech-by-characters.sse", &[("characters", 195.)]),
    ("bailian", MULTIMODAL, "bailian-speech-by-tokens.sse", &[("input", 14.), ("output", 120.)]),
    ("bailian", MULTIMODAL, "bailian-recognition.json", &[("seconds", 3.)]),
    (
        "bailian",
        CHAT,
        "bailian-chat.sse",
        &[("input", 1043.), ("output", 97.), ("cached-input", 1024.), ("reasoning", 76.)],
    ),
    ("bailian", CHAT, "bailian-chat-unasked.sse", &[]),
    ("bailian", CHAT, "bailian-chat.json", &[("input", 22.), ("output", 17.), ("cached-input", 0.)]),
    ("bailian", "POST /v1/embeddings", "bailian-embeddings.json", &[("input", 23.)]),
    ("bailian", "POST /v1/reranks", "bailian-reranks.json", &[("input", 79.)]),
    (
        "bailian",
        "POST /v1/responses",
        "bailian-responses.sse",
        &[("input", 1448.), ("output", 61.), ("cached-input", 1280.), ("reasoning", 33.)],
    ),
    (
        "bailian",
        "POST /v1/responses",
        "bailian-responses.json",
        &[("input", 1448.), ("output", 61.), ("cached-input", 1280.), ("reasoning", 33.)],
    ),
    (
        "bailian",
        "POST /v1/messages",
        "bailian-messages.sse",
        &[("input", 1149.), ("output", 15.), ("cached-input", 1024.)],
    ),
    (
        "bailian",
        "POST /v1/messages",
        "bailian-messages.json",
        &[("input", 1049.), ("output", 15.), ("cached-input", 1024.)],
    ),
    ("bailian", "WS /api-ws/v1/inference", "bailian-inference.messages", &[("characters", 13.), ("seconds", 4.)]),
    (
        "bailian",
        "WS /api-ws/v1/realtime",
        "bailian-realtime.messages",
        &[("input", 897.), ("output", 133.), ("cached-input", 256.)],
    ),
    ("bailian", "WS /api-ws/v1/realtime", "bailian-realtime-speech.messages", &[("characters", 23.)]),
    (
        "gemini",
        "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        "gemini-stream.sse",
        &[("input", 1105.), ("output", 82.), ("cached-input", 1024.), ("reasoning", 68.)],
    ),
    (
        "gemini",
        "POST /v1beta/models/gemini-2.5-flash:streamGenerateContent",
        "gemini-stream.json",
        &[("input", 1105.), ("output", 82.), ("cached-input", 1024.), ("reasoning", 68.)],
    ),
    (
        "gemini",
        "POST /v1beta/models/gemini-2.5-flash:generateContent",
        "gemini-generate.json",
        &[("input", 1135.), ("output", 82.), ("cached-input", 1024.), ("reasoning", 68.)],
    ),
    ("gemini", "POST /v1beta/models/gemini-2.5-flash:generateContent", "gemini-error.json", &[]),
    ("gemini", "POST /v1beta/models/gemini-embedding-001:embedContent", "gemini-embed.json", &[("input", 8.)]),
    ("gemini", "POST /v1beta/models/gemini-embedding-001:batchEmbedContents", "gemini-embed-untold.json", &[]),
    ("gemini", CHAT, "gemini-chat.sse", &[("input", 9.), ("output", 14.)]),
    ("gemini", CHAT, "gemini-chat-usage-in-every-chunk.sse", &[("input", 9.), ("output", 12.)]),
    ("gemini", CHAT, "gemini-chat.json", &[("input", 9.), ("output", 14.)]),
    ("gemini", "POST /v1/embeddings", "gemini-embeddings.json", &[("input", 8.)]),
    (
        "gemini",
        LIVE,
        "gemini-live.messages",
        &[("input", 497.), ("output", 91.), ("cached-input", 128.), ("reasoning", 7.)],
    ),
    (
        "openai",
        CHAT,
        "openai-chat.sse",
        &[("input", 2006.), ("output", 300.), ("cached-input", 1920.), ("reasoning", 256.)],
    ),
    ("openai", "POST /v1/audio/transcriptions", "openai-transcription.json", &[("seconds", 9.)]),
    ("openai", "POST /v1/audio/transcriptions", "openai-transcription.sse", &[("input", 14.), ("output", 45.)]),
    ("openai", "POST /v1/images/generations", "openai-images.json", &[("input", 48.), ("output", 4160.)]),
    (
        "openai",
        "WS /v1/realtime",
        "openai-realtime.messages",
        &[("input", 415.), ("output", 102.), ("cached-input", 128.), ("seconds", 2.5)],
    ),
];

/// Replies with numbers that nobody is billed for.
const UNMETERED: &[(&str, &str, &str)] = &[
    ("bailian", "POST /v1/messages/count_tokens", "bailian-messages-count.json"),
    ("gemini", "POST /v1beta/models/gemini-2.5-flash:countTokens", "gemini-count.json"),
];

/// A row with its reply read and its meters found.
struct Sample {
    file: &'static str,
    reply: String,
    set: Arc<CompiledMeters>,
    expected: &'static [(&'static str, f64)],
}

static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(|| {
    let sample = |&(plugin, request, file, expected): &Row| Sample {
        file,
        reply: std::fs::read_to_string(folder().join(file)).unwrap_or_else(|error| panic!("{file}: {error}")),
        set: set(plugin, request).unwrap_or_else(|| panic!("{request} has no meters")),
        expected,
    };
    ROWS.iter().map(sample).collect()
});

fn folder() -> PathBuf {
    concat!(env!("CARGO_MANIFEST_DIR"), "/src/meter/samples").into()
}

/// The meters that a plugin has for a request.
fn set(plugin: &'static str, request: &str) -> Option<Arc<CompiledMeters>> {
    let (method, target) = request.split_once(' ').expect("METHOD target");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query.to_owned())));
    let is_socket = method == "WS";
    let request = Request {
        transport: if is_socket { Transport::Websocket } else { Transport::Http },
        method: if is_socket { "GET" } else { method }.to_owned(),
        path: path.to_owned(),
        query,
        presented: Presented::Authorization("bearer".into()),
        headers: Vec::new(),
        model: None,
        streaming: false,
        body: Vec::new(),
    };
    match defaults::decide(plugin, &request) {
        Decision::Send(plan) => Some(defaults::deployed(plugin).profile.compiled_meters().swap_remove(plan.meters?)),
        other => panic!("{path}: {other:?}"),
    }
}

impl Sample {
    fn ending(&self) -> &str {
        self.file.rsplit_once('.').expect("a file has an ending").1
    }

    fn is_stream(&self) -> bool {
        self.ending() == "sse"
    }

    /// What the reply comes to in these pieces.
    fn usage(&self, pieces: &[&[u8]]) -> Usage {
        let content_type = match self.ending() {
            "sse" => "text/event-stream;charset=utf-8",
            "json" => "application/json; charset=UTF-8",
            _ => "application/x-ndjson",
        };
        let mut meter = Meter::new(self.set.clone(), Some(content_type), None).expect("it can be read");
        for piece in pieces {
            meter.push(piece);
        }
        meter.finish()
    }

    fn check(&self, usage: &Usage, how: &str) {
        let found: Vec<_> = usage.totals.iter().map(|(name, total)| (&**name, *total)).collect();
        assert_eq!((&found[..], usage.is_partial), (self.expected, false), "{} {how}", self.file);
    }

    /// As it is, with the line ends and between-the-lines that a stream may have too.
    fn variants(&self) -> Vec<String> {
        let plain = self.reply.replace("\r\n", "\n");
        let mut variants = vec![self.reply.clone(), plain.replace('\n', "\r\n")];
        if self.is_stream() {
            variants.push(plain.replace('\n', "\r"));
            variants.push(format!(": begin\n\n{}: keep-alive\n\n", plain.replace("\ndata", "\n: c\nid\ndata")));
            variants.push(plain.split_inclusive('\n').map(in_several_lines).collect());
            variants.push(plain.trim_end().to_owned());
        }
        variants
    }
}

/// A line of data broken up at every comma between members and elements, which JSON allows.
fn in_several_lines(line: &str) -> String {
    let Some(data) = line.strip_prefix("data:") else { return line.to_owned() };
    let mut broken = String::from("data:");
    let (mut is_text, mut is_escaped) = (false, false);
    for letter in data.chars() {
        broken.push(letter);
        is_text ^= letter == '"' && !is_escaped;
        is_escaped = letter == '\\' && !is_escaped;
        if letter == ',' && !is_text {
            broken.push_str("\ndata:");
        }
    }
    broken
}

#[test]
fn every_reply_comes_to_what_it_says_wherever_it_is_cut_in_two() {
    for sample in &*SAMPLES {
        let bytes = sample.reply.as_bytes();
        for cut in 0..=bytes.len() {
            sample.check(&sample.usage(&[&bytes[..cut], &bytes[cut..]]), &format!("cut at {cut}"));
        }
    }
}

#[test]
fn every_way_to_write_a_reply_comes_to_the_same_byte_by_byte() {
    for sample in &*SAMPLES {
        for variant in sample.variants() {
            sample.check(&sample.usage(&variant.as_bytes().chunks(1).collect::<Vec<_>>()), &variant);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn every_way_to_write_a_reply_comes_to_the_same_however_it_is_cut(
        sample in any::<prop::sample::Index>(),
        variant in any::<prop::sample::Index>(),
        mut cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..16),
    ) {
        let sample = sample.get(&SAMPLES[..]);
        let variants = sample.variants();
        let bytes = variant.get(&variants[..]).as_bytes();
        let mut cuts: Vec<usize> = cuts.drain(..).map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let pieces: Vec<_> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
        sample.check(&sample.usage(&pieces), &format!("cut at {cuts:?}"));
    }
}

#[test]
fn a_sockets_messages_come_to_what_they_say_as_text_and_as_binary() {
    for sample in SAMPLES.iter().filter(|sample| sample.ending() == "messages") {
        for is_text in [true, false] {
            let mut meter = MessageMeter::new(sample.set.clone());
            for message in sample.reply.lines() {
                // Sound goes beside them.
                meter.binary(b"\x00\x7b\x01");
                if is_text { meter.text(message.as_bytes()) } else { meter.binary(message.as_bytes()) }
            }
            sample.check(&meter.finish(), if is_text { "as text" } else { "as binary" });
        }
    }
}

#[test]
fn what_nobody_is_billed_for_has_no_meters() {
    for (plugin, request, _) in UNMETERED {
        assert!(set(plugin, request).is_none(), "{request}");
    }
}

#[test]
fn of_the_streams_only_those_with_an_extra_chunk_lose_it_to_a_client_that_did_not_ask() {
    let mut shortened = Vec::new();
    for sample in SAMPLES.iter().filter(|sample| sample.is_stream()) {
        for (index, variant) in sample.variants().iter().enumerate() {
            let mut filter = ExtraChunk::default();
            let mut left: Vec<u8> = variant.as_bytes().chunks(7).fold(Vec::new(), |mut left, piece| {
                left.extend_from_slice(&filter.push(&Bytes::copy_from_slice(piece)));
                left
            });
            left.extend_from_slice(&filter.finish());
            if left != variant.as_bytes() {
                let left = String::from_utf8(left).unwrap();
                assert!(!left.contains("total_tokens") && left.contains("[DONE]"), "{left}");
                shortened.push((sample.file, index));
            }
        }
    }
    let files = ["bailian-chat.sse", "gemini-chat.sse", "openai-chat.sse"];
    let all: Vec<_> = files.iter().flat_map(|file| (0..6).map(move |index| (*file, index))).collect();
    assert_eq!(shortened, all);
}

#[test]
fn every_sample_is_looked_at() {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let files: BTreeSet<String> = files.filter(|file| file != "README.md").collect();
    let used = ROWS.iter().map(|row| row.2).chain(UNMETERED.iter().map(|row| row.2));
    assert_eq!(files, used.map(str::to_owned).collect());
}
