//! Usage of a WebSocket, read from the upstream's messages: each is a document of its own.

use std::sync::Arc;

use super::set::{CompiledMeters, Totals, Usage};
use crate::json::{Documents, Scanner};

/// What is longer carries a payload, not a bill; reading it through would hold the worker up.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The meters of one WebSocket.
#[derive(Debug)]
pub struct MessageMeter {
    set: Arc<CompiledMeters>,
    scanner: Scanner,
    totals: Totals,
}

impl MessageMeter {
    pub fn new(set: Arc<CompiledMeters>) -> Self {
        let scanner = Scanner::new(Arc::clone(set.query()), Documents::One);
        Self { totals: Totals::new(&set), scanner, set }
    }

    /// A text message: what is no JSON, or too long to be read, may have said something.
    pub fn text(&mut self, message: &[u8]) {
        if message.len() > MESSAGE_BYTES_MAX || !self.read(message) {
            self.totals.is_partial = true;
        }
    }

    /// A binary message: some providers send their JSON so; anything else is theirs alone.
    pub fn binary(&mut self, message: &[u8]) {
        if message.first() == Some(&b'{') && message.len() <= MESSAGE_BYTES_MAX {
            self.read(message);
        }
    }

    fn read(&mut self, message: &[u8]) -> bool {
        self.scanner.reset();
        let is_sound = self.scanner.push(message).is_ok() && self.scanner.finish().is_ok();
        if is_sound {
            self.totals.count(&self.set, &self.scanner);
        }
        is_sound
    }

    pub fn finish(self) -> Usage {
        self.totals.into_usage(&self.set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meter::{Fold, MeterSpec};

    fn meter() -> MessageMeter {
        let spec = MeterSpec {
            name: "output".into(),
            alternatives: vec![vec!["/usage/output".into()]],
            fold: Fold::Sum,
            group: None,
        };
        MessageMeter::new(Arc::new(CompiledMeters::compile(&[spec]).unwrap()))
    }

    fn output(usage: &Usage) -> Option<f64> {
        usage.totals.first().map(|(_, value)| *value)
    }

    #[test]
    fn every_message_counts_by_itself_and_binary_json_too() {
        let mut meter = meter();
        meter.text(br#"{"usage":{"output":3}}"#);
        meter.text(br#"{"type":"delta"}"#);
        meter.binary(br#"{"usage":{"output":4}}"#);
        meter.binary(b"\x00audio");
        meter.binary(b"{audio");
        let usage = meter.finish();
        assert_eq!((output(&usage), usage.is_partial), (Some(7.0), false));
    }

    #[test]
    fn what_cannot_be_read_is_said_and_spoils_nothing() {
        for unreadable in [b"ping".to_vec(), br#"{"usage":{"output":9}"#.to_vec(), vec![b' '; MESSAGE_BYTES_MAX + 1]] {
            let mut meter = meter();
            meter.text(&unreadable);
            meter.text(br#"{"usage":{"output":1}}"#);
            let usage = meter.finish();
            assert_eq!((output(&usage), usage.is_partial), (Some(1.0), true));
        }
    }
}
