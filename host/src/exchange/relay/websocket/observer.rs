//! What is noted of the messages that pass: their number and size, the model that the client names, the usage that the
//! upstream tells.

use std::sync::Arc;

use tokio_tungstenite::tungstenite::Message;

use crate::exchange::settle::{Closing, Party, Settle};
use crate::json::{Documents, Kind, Query, Scanner};
use crate::meter::MessageMeter;

/// The model is looked for in so many of a client's text messages …
const MODEL_MESSAGES_MAX: u32 = 16;
/// … none of them longer than this.
const MODEL_MESSAGE_BYTES_MAX: usize = 256 << 10;

pub struct Observer {
    settle: Settle,
    meter: Option<MessageMeter>,
    model: Option<ModelSearch>,
    messages: u64,
    /// One side said goodbye: all that was used has been told.
    is_orderly: bool,
}

struct ModelSearch {
    query: Arc<Query>,
    messages_left: u32,
}

impl Observer {
    /// `model` is where to look for it, where the plan does not name it.
    pub fn new(settle: Settle, meter: Option<MessageMeter>, model: Option<Arc<Query>>) -> Self {
        let model = model.map(|query| ModelSearch { query, messages_left: MODEL_MESSAGES_MAX });
        Self { settle, meter, model, messages: 0, is_orderly: false }
    }

    /// The client's connection has switched.
    pub fn open(&mut self) {
        self.settle.opened();
    }

    /// How many messages have passed, both ways.
    pub fn messages(&self) -> u64 {
        self.messages
    }

    /// The channel that serves.
    pub fn channel(&self) -> String {
        self.settle.channel_id().to_owned()
    }

    pub fn from_client(&mut self, message: &Message) {
        self.messages += 1;
        self.settle.message_in(message.len());
        if let (Some(search), Message::Text(text)) = (&mut self.model, message) {
            search.messages_left -= 1;
            let found = search.look(text.as_bytes());
            if found.is_some() || search.messages_left == 0 {
                self.model = None;
            }
            if found.is_some() {
                self.settle.model(found);
            }
        }
    }

    pub fn from_upstream(&mut self, message: &Message) {
        self.messages += 1;
        self.settle.message_out(message.len());
        self.read_usage(message);
    }

    /// The client is not there to get it, but it may tell what was used.
    pub fn after_the_end(&mut self, message: &Message) {
        self.read_usage(message);
    }

    fn read_usage(&mut self, message: &Message) {
        match (&mut self.meter, message) {
            (Some(meter), Message::Text(text)) => meter.text(text.as_bytes()),
            (Some(meter), Message::Binary(bytes)) => meter.binary(bytes),
            _ => {}
        }
    }

    /// It is over; the guard inside settles once this is dropped.
    pub fn closed(&mut self, closing: Closing) {
        self.is_orderly = closing.is_orderly;
        self.settle.closed(closing);
    }
}

impl Drop for Observer {
    /// A socket that was cut has used what it has used.
    fn drop(&mut self) {
        if self.settle.is_open() {
            let why = Some(("gateway", "the connection was cut"));
            self.closed(Closing { by: Party::Gateway, code: 1006, why, is_orderly: false });
        }
        if let Some(meter) = self.meter.take() {
            let mut usage = meter.finish();
            usage.is_partial |= !self.is_orderly;
            self.settle.usage(usage);
        }
    }
}

impl ModelSearch {
    fn look(&self, text: &[u8]) -> Option<String> {
        if text.len() > MODEL_MESSAGE_BYTES_MAX {
            return None;
        }
        let mut scanner = Scanner::new(self.query.clone(), Documents::One);
        if scanner.push(text).is_err() || scanner.finish().is_err() {
            return None;
        }
        let is_name = |found: &crate::json::Found<'_>| found.kind == Kind::String;
        let found =
            (0..self.query.pointer_count()).find(|index| scanner.found(*index).as_ref().is_some_and(is_name))?;
        scanner.found_text(found).map(std::borrow::Cow::into_owned).filter(|name| !name.is_empty())
    }
}
