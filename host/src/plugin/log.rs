//! What a plugin says: its `log` import, stdout and stderr, as lines of the host's log.
//!
//! A panic's text appears nowhere else, so every line is kept that a bound allows: so many lines a call and so many a
//! second for all instances of a plugin on a channel. What is left out is counted and said. Control characters are
//! escaped: a plugin cannot forge a line.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use super::bindings::log::Level;

const LINE_BYTES_MAX: usize = 4096;
const LINES_A_CALL_MAX: u32 = 64;
const LINES_A_SECOND_MAX: u64 = 200;
/// Of a plugin in rehearsal, until they are taken.
const HEARD_LINES_MAX: usize = 1000;

/// Whose lines they are: shared by all instances of one version on one channel.
pub struct Speaker {
    pub plugin: String,
    pub channel: String,
    /// The beginning of the version's hash.
    pub version: String,
    started: Instant,
    /// The second that is being counted, in the upper half; lines in it, in the lower.
    window: AtomicU64,
    dropped: AtomicU64,
    /// Takes the lines in place of the log, for a plugin in rehearsal.
    ear: Option<Mutex<Vec<Said>>>,
}

/// A line that a plugin in rehearsal said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// `trace` to `error`; standard output is `info`, standard error `warn`.
    pub level: &'static str,
    /// As the log would show it.
    pub message: String,
}

impl Speaker {
    pub fn new(plugin: &str, channel: &str, hash: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            channel: channel.to_owned(),
            version: hash.chars().take(12).collect(),
            started: Instant::now(),
            window: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            ear: None,
        }
    }

    /// One whose lines are kept until they are taken, and are not logged.
    pub fn heard(plugin: &str, channel: &str, hash: &str) -> Self {
        Self { ear: Some(Mutex::default()), ..Self::new(plugin, channel, hash) }
    }

    /// What was said since this was asked last.
    pub fn take_heard(&self) -> Vec<Said> {
        let ear = self.ear.as_ref().map(|ear| ear.lock().unwrap_or_else(PoisonError::into_inner));
        ear.map(|mut said| std::mem::take(&mut *said)).unwrap_or_default()
    }

    /// Whether one more line may be said in this second.
    fn may_speak(&self, second: u64) -> bool {
        let counted = self.window.fetch_update(Relaxed, Relaxed, |window| {
            if window >> 32 != second & 0xffff_ffff {
                return Some((second << 32) | 1);
            }
            (window & 0xffff_ffff < LINES_A_SECOND_MAX).then_some(window + 1)
        });
        counted.is_ok()
    }

    fn say(&self, level: Level, request_id: &str, message: &str) {
        if let Some(ear) = &self.ear {
            let mut said = ear.lock().unwrap_or_else(PoisonError::into_inner);
            if said.len() < HEARD_LINES_MAX {
                said.push(Said { level: level_name(level), message: escaped(message, LINE_BYTES_MAX) });
            }
            return;
        }
        if !self.may_speak(self.started.elapsed().as_secs()) {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        match self.dropped.swap(0, Relaxed) {
            0 => {}
            dropped => tracing::warn!(target: "plugin", plugin = self.plugin, channel = self.channel,
                version = self.version, dropped, "lines were left out: too many"),
        }
        let message = escaped(message, LINE_BYTES_MAX);
        macro_rules! event {
            ($level:ident) => {
                tracing::$level!(target: "plugin", plugin = self.plugin, channel = self.channel,
                    version = self.version, request_id, "{message}")
            };
        }
        match level {
            Level::Trace => event!(trace),
            Level::Debug => event!(debug),
            Level::Info => event!(info),
            Level::Warn => event!(warn),
            Level::Error => event!(error),
        }
    }
}

fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "trace",
        Level::Debug => "debug",
        Level::Info => "info",
        Level::Warn => "warn",
        Level::Error => "error",
    }
}

/// One instance's voice. Cheap to clone: the WASI streams hold one each.
#[derive(Clone)]
pub struct Voice(Arc<Mutex<Spoken>>);

struct Spoken {
    speaker: Arc<Speaker>,
    request_id: String,
    lines_left: u32,
    left_out: u64,
    /// Unfinished lines: stdout's and stderr's.
    unfinished: [Vec<u8>; 2],
}

#[derive(Clone, Copy)]
pub enum Stream {
    Stdout = 0,
    Stderr = 1,
}

impl Voice {
    pub fn new(speaker: Arc<Speaker>) -> Self {
        Self(Arc::new(Mutex::new(Spoken {
            speaker,
            request_id: String::new(),
            lines_left: LINES_A_CALL_MAX,
            left_out: 0,
            unfinished: [Vec::new(), Vec::new()],
        })))
    }

    /// A call begins; what is said from here on belongs to this request.
    pub fn begin(&self, request_id: &str) {
        self.with(|spoken| {
            spoken.request_id.clear();
            spoken.request_id.push_str(request_id);
            spoken.lines_left = LINES_A_CALL_MAX;
        });
    }

    /// The call is over: says what was left unfinished.
    pub fn end(&self) {
        self.with(|spoken| {
            for stream in [Stream::Stdout, Stream::Stderr] {
                spoken.finish_line(stream);
            }
            if spoken.left_out > 0 {
                let message = format!("{} more lines of this call were left out", spoken.left_out);
                spoken.speaker.say(Level::Warn, &spoken.request_id, &message);
                spoken.left_out = 0;
            }
        });
    }

    pub fn say(&self, level: Level, message: &str) {
        self.with(|spoken| spoken.say(level, message));
    }

    pub fn stream(&self, stream: Stream) -> Output {
        Output { voice: self.clone(), stream }
    }

    fn with(&self, act: impl FnOnce(&mut Spoken)) {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Spoken {
    fn say(&mut self, level: Level, message: &str) {
        if self.lines_left == 0 {
            self.left_out += 1;
            return;
        }
        self.lines_left -= 1;
        self.speaker.say(level, &self.request_id, message);
    }

    fn write(&mut self, stream: Stream, bytes: &[u8]) {
        for piece in bytes.split_inclusive(|&byte| byte == b'\n') {
            for part in piece.chunks(LINE_BYTES_MAX) {
                let line = &mut self.unfinished[stream as usize];
                line.extend_from_slice(part);
                if line.ends_with(b"\n") || line.len() >= LINE_BYTES_MAX {
                    self.finish_line(stream);
                }
            }
        }
    }

    fn finish_line(&mut self, stream: Stream) {
        let line = std::mem::take(&mut self.unfinished[stream as usize]);
        let text = String::from_utf8_lossy(&line);
        let text = text.trim_end();
        if !text.is_empty() {
            let level = if matches!(stream, Stream::Stdout) { Level::Info } else { Level::Warn };
            self.say(level, text);
        }
    }
}

/// A guest's stdout or stderr.
pub struct Output {
    voice: Voice,
    stream: Stream,
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Asked for by WASI 0.3 alone, which is not linked.
        Box::new(tokio::io::empty())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self { voice: self.voice.clone(), stream: self.stream })
    }
}

#[wasmtime_wasi::async_trait]
impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.voice.with(|spoken| spoken.write(self.stream, &bytes));
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(16 * LINE_BYTES_MAX)
    }
}

#[wasmtime_wasi::async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

/// `text` without a control character, and not longer than about `bytes_max`.
pub fn escaped(text: &str, bytes_max: usize) -> String {
    let mut safe = String::with_capacity(text.len().min(bytes_max));
    for c in text.chars() {
        if safe.len() >= bytes_max {
            safe.push('…');
            break;
        }
        if c.is_control() || turns_lines(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// What ends a line for some readers, or lets a terminal show one in another order than it was written.
fn turns_lines(c: char) -> bool {
    matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_plugin_says_cannot_forge_a_line() {
        assert_eq!(escaped("a\u{202e}b\u{2066}\u{2028}", 100), r"a\u{202e}b\u{2066}\u{2028}");
        assert_eq!(escaped("a\nb\x1b[31m\u{9b}é", 100), r"a\nb\u{1b}[31m\u{9b}é");
        assert_eq!(escaped("abcdef", 3), "abc…");
    }

    #[test]
    fn lines_are_bounded_by_call_and_by_second() {
        let speaker = Speaker::new("p", "c", "0123456789abcdef");
        assert_eq!((0..1000).filter(|_| speaker.may_speak(7)).count() as u64, LINES_A_SECOND_MAX);
        assert!(speaker.may_speak(8), "a new second, a new portion");

        let voice = Voice::new(Arc::new(speaker));
        voice.begin("r");
        voice.with(|spoken| {
            for _ in 0..100 {
                spoken.write(Stream::Stdout, b"x\n");
            }
            assert_eq!((spoken.lines_left, spoken.left_out), (0, 36));
        });
        voice.begin("s");
        voice.with(|spoken| assert_eq!(spoken.lines_left, LINES_A_CALL_MAX));
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let voice = Voice::new(Arc::new(Speaker::new("p", "c", "h")));
        voice.with(|spoken| {
            spoken.write(Stream::Stderr, &vec![b'x'; 10 * LINE_BYTES_MAX + 5]);
            assert_eq!(spoken.unfinished[1].len(), 5);
            spoken.write(Stream::Stderr, b"\n");
            assert!(spoken.unfinished[1].is_empty());
        });
    }
}
