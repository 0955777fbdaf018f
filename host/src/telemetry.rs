//! Logs: the operational log on stderr, and the access log, one JSON line an exchange.
//!
//! Neither makes an exchange wait: see [`lines`].

mod lines;
mod rotation;

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use anyhow::Context;
use tracing::Level;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::config::{AccessLog, Log, LogFormat, Rotation};

pub use lines::{LineBuffer, LineWriter, Sink};
pub use rotation::LogFile;

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();
static LOG: OnceLock<LineBuffer> = OnceLock::new();
static FORMAT: OnceLock<reload::Handle<Formatted, Filtering>> = OnceLock::new();

type Filtering = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Formatted = Box<dyn Layer<Filtering> + Send + Sync>;

/// Starts the operational log on stderr, with `AIPROXY_LOG` (filter directives such as `info,plugin=debug`) or `level`.
/// Called once by the process, which keeps what it gives to its end; without it (in tests) nothing is logged.
pub fn init(level: Level) -> anyhow::Result<LineWriter> {
    let writer = LineWriter::start("log", Box::new(io::stderr()))?;
    let _ = LOG.set(writer.buffer());
    let (filter, filter_handle) = reload::Layer::new(filter(level));
    let (format, format_handle) = reload::Layer::new(formatted(LogFormat::Text));
    if tracing_subscriber::registry().with(filter).with(format).try_init().is_ok() {
        let _ = FILTER.set(filter_handle);
        let _ = FORMAT.set(format_handle);
    }
    Ok(writer)
}

/// One line of the operational log on its way to its buffer.
struct LogLine;

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if let Some(log) = LOG.get() {
            log.append(|lines| lines.extend_from_slice(bytes));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What gateway.json says of the log. The environment's directives win over its level.
pub fn apply(log: &Log) {
    if let (Some(filter_handle), Some(format_handle)) = (FILTER.get(), FORMAT.get()) {
        let _ = filter_handle.reload(filter(log.level));
        let _ = format_handle.reload(formatted(log.format));
    }
}

fn filter(level: Level) -> EnvFilter {
    let from_environment = std::env::var("AIPROXY_LOG").ok().filter(|directives| !directives.is_empty());
    let fallback = || EnvFilter::new(level.as_str());
    match from_environment.map(EnvFilter::try_new) {
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            eprintln!("warning: AIPROXY_LOG is not valid ({error}); use e.g. `info` or `info,plugin=debug`");
            fallback()
        }
        None => fallback(),
    }
}

fn formatted(format: LogFormat) -> Formatted {
    let layer = tracing_subscriber::fmt::layer().with_writer(|| LogLine).with_ansi(io::stderr().is_terminal());
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Starts the access log; `None` when it is off.
pub fn access_log(target: &AccessLog, rotation: Option<Rotation>) -> anyhow::Result<Option<LineWriter>> {
    let sink: Box<dyn Sink> = match target {
        AccessLog::Off => return Ok(None),
        AccessLog::Stdout => Box::new(io::stdout()),
        AccessLog::File(path) => Box::new(
            LogFile::open("access log", path, rotation)
                .with_context(|| format!("the access log {} cannot be opened for appending", path.display()))?,
        ),
    };
    LineWriter::start("access log", sink).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_appended_is_in_the_file_once_the_writer_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let writer = access_log(&AccessLog::File(path.clone()), None).unwrap().unwrap();
        let (one, two) = (writer.buffer(), writer.buffer());
        let threads: Vec<_> = [one, two]
            .into_iter()
            .map(|buffer| {
                std::thread::spawn(move || {
                    for _ in 0..1_000 {
                        buffer.append(|lines| lines.extend_from_slice(b"{}\n"));
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        drop(writer);
        assert_eq!(std::fs::read_to_string(path).unwrap(), "{}\n".repeat(2_000));
    }
}
