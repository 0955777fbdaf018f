//! Answers that a plugin allows to be reused for an equal request record.
//!
//! Bounded by entries, and by the size of a record and of an answer worth keeping. Belongs to one worker and one deployed plugin,
//! so that a new version starts empty and an old answer never outlives the version that gave it.

use std::rc::Rc;

use lru::LruCache;

use crate::exchange::plan::Answer;
use crate::plugin::{BodyEdit, Caller, HeaderEdit, Presented, Request};

const ENTRIES_MAX: usize = 1024;
/// A record with more text than this is asked anew each time.
const RECORD_BYTES_MAX: usize = 4096;
/// An answer with more text than this is not kept.
const ANSWER_BYTES_MAX: usize = 16 << 10;

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
        let presented = match &request.presented {
            Presented::Authorization(name) | Presented::Header(name) | Presented::Query(name) => Some(name),
            Presented::Subprotocol => None,
        };
        let id = self.caller.as_ref().map(|caller| &caller.id);
        let tags = self.caller.iter().flat_map(|caller| &caller.tags);
        let rest = [Some(&request.method), Some(&request.path), request.query.as_ref(), request.model.as_ref()];
        let rest = rest.into_iter().chain([presented, id]).flatten().chain(tags);
        headers + body + rest.map(String::len).sum::<usize>()
    }
}

/// Of what a plugin answered; what the channel's configuration adds is bounded there.
fn text_bytes(answer: &Answer) -> usize {
    let plan = match answer {
        Answer::Send(prepared) => &prepared.plan,
        Answer::Refuse(failure) => return failure.message.len() + failure.code().len(),
        Answer::KeyMissing(reason) => return reason.len(),
        Answer::Decline => return 0,
    };
    let header = |edit: &HeaderEdit| match edit {
        HeaderEdit::Set(name, value) | HeaderEdit::SetIfAbsent(name, value) => name.as_str().len() + value.len(),
        HeaderEdit::Remove(name) => name.as_str().len(),
    };
    let body = |edit: &BodyEdit| match edit {
        BodyEdit::Set { pointer, json } | BodyEdit::SetIfAbsent { pointer, json } => pointer.len() + json.len(),
        BodyEdit::Remove { pointer } => pointer.len(),
    };
    let rest = [Some(&plan.path), plan.query.as_ref(), plan.model.as_ref()];
    plan.headers.iter().map(header).sum::<usize>()
        + plan.body.iter().map(body).sum::<usize>()
        + rest.into_iter().flatten().map(String::len).sum::<usize>()
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
        if record.text_bytes() > RECORD_BYTES_MAX || text_bytes(&answer) > ANSWER_BYTES_MAX {
            return;
        }
        self.0.put(record, answer);
        if self.0.len() > ENTRIES_MAX {
            self.0.pop_lru();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::header::HeaderName;
    use http::uri::PathAndQuery;

    use super::*;
    use crate::config::Endpoint;
    use crate::error::{Failure, Kind};
    use crate::exchange::plan::Prepared;
    use crate::plugin::{Plan, Transport};

    fn record() -> Record {
        let request = Request {
            transport: Transport::Http,
            method: "GET".into(),
            path: "/".into(),
            query: None,
            presented: Presented::Header("x-api-key".into()),
            headers: Vec::new(),
            model: None,
            streaming: false,
            body: Vec::new(),
        };
        Record { caller: Some(Caller { id: "tester".into(), tags: vec!["a".into()] }), request }
    }

    fn is_kept(record: impl Fn() -> Record, answer: Answer) -> bool {
        let mut answers = Answers::default();
        answers.keep(record(), Rc::new(answer));
        answers.find(&record()).is_some()
    }

    #[test]
    fn a_record_with_much_text_anywhere_is_not_kept() {
        assert!(is_kept(record, Answer::Decline));
        let long = || "x".repeat(RECORD_BYTES_MAX);
        let cases: [fn(&mut Record, String); 8] = [
            |record, text| record.request.method = text,
            |record, text| record.request.path = text,
            |record, text| record.request.query = Some(text),
            |record, text| record.request.presented = Presented::Query(text),
            |record, text| record.request.headers.push((text, String::new())),
            |record, text| record.request.model = Some(text),
            |record, text| record.request.body.push(Some(text)),
            |record, text| record.caller.as_mut().unwrap().tags.push(text),
        ];
        for (index, fill) in cases.into_iter().enumerate() {
            let filled = || {
                let mut record = record();
                fill(&mut record, long());
                record
            };
            assert!(!is_kept(filled, Answer::Decline), "case {index}");
        }
    }

    #[test]
    fn an_answer_with_much_text_is_not_kept() {
        let refusal = |bytes: usize| Answer::Refuse(Failure::new(Kind::PluginRefused, "x".repeat(bytes)));
        assert!(is_kept(record, refusal(1000)));
        assert!(!is_kept(record, refusal(17 << 10)));
    }

    fn sends(plan: impl FnOnce(&mut Plan)) -> Answer {
        let endpoint = Arc::new(Endpoint {
            tls: false,
            host: "127.0.0.1".into(),
            port: 1,
            base_path: String::new(),
            authority: "upstream.example".into(),
            proxy: None,
        });
        let mut sent = Plan {
            endpoint: None,
            path: "/".into(),
            query: None,
            headers: Vec::new(),
            body: Vec::new(),
            credentials: Vec::new(),
            model: None,
            meters: None,
        };
        plan(&mut sent);
        let target = PathAndQuery::from_static("/");
        Answer::Send(Rc::new(Prepared {
            plan: sent,
            endpoint,
            target,
            body_edits: Vec::new(),
            asks_identity: false,
            credentials: Vec::new(),
        }))
    }

    #[test]
    fn a_plan_with_much_text_is_not_kept() {
        let json = |bytes: usize| BodyEdit::Set { pointer: "/a".into(), json: "1".repeat(bytes) };
        let header = || HeaderEdit::Set(HeaderName::from_static("x"), "v".repeat(6 << 10).parse().unwrap());
        assert!(is_kept(record, sends(|plan| plan.body.push(json(15 << 10)))));
        assert!(!is_kept(record, sends(|plan| plan.body.push(json(17 << 10)))));
        assert!(is_kept(record, sends(|plan| plan.headers.extend([header(), header()]))));
        assert!(!is_kept(record, sends(|plan| plan.headers.extend([header(), header(), header()]))));
    }
}
