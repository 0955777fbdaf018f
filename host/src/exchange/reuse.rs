//! Answers that a plugin allows to be reused for an equal request record.
//!
//! Bounded twice: by entries, and by the size of a record worth keeping. Belongs to one worker and one deployed plugin,
//! so that a new version starts empty and an old answer never outlives the version that gave it.

use std::rc::Rc;

use lru::LruCache;

use crate::exchange::plan::Answer;
use crate::plugin::{Caller, Request};

const ENTRIES_MAX: usize = 1024;
/// A record with more text than this is asked anew each time.
const RECORD_BYTES_MAX: usize = 4096;

/// What must be equal for an answer to be the same.
#[derive(PartialEq, Eq, Hash)]
pub struct Record {
    /// Absent where an answer holds for any caller.
    pub caller: Option<Caller>,
    pub request: Request,
}

impl Record {
    fn text_bytes(&self) -> usize {
        let request = &self.request;
        let headers: usize = request.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let body: usize = request.body.iter().flatten().map(String::len).sum();
        let rest = [Some(&request.path), request.query.as_ref(), request.model.as_ref()];
        headers + body + rest.into_iter().flatten().map(String::len).sum::<usize>()
    }
}

pub struct Answers(LruCache<Record, Rc<Answer>>);

impl Default for Answers {
    fn default() -> Self {
        // A bounded `LruCache` allocates for all its entries at once, and there is one for every channel and worker.
        Self(LruCache::unbounded())
    }
}

impl Answers {
    pub fn find(&mut self, record: &Record) -> Option<Rc<Answer>> {
        self.0.get(record).cloned()
    }

    pub fn keep(&mut self, record: Record, answer: Rc<Answer>) {
        if record.text_bytes() > RECORD_BYTES_MAX {
            return;
        }
        self.0.put(record, answer);
        if self.0.len() > ENTRIES_MAX {
            self.0.pop_lru();
        }
    }
}
