//! A head that is to be written, without the values that look like credentials.
//!
//! Header and body values that hold one are withheld: who asks for them is not told half of it. Path, query and model are
//! needed to tell what was asked for, so that they stay, with the value masked; a plan that repeats them is masked alike.

use super::Head;
use crate::exchange::capture::secrecy::masked_query;
use crate::exchange::capture::suspects::Suspects;

impl Head {
    /// Masks what looks like a credential in the query by its name, and adds it to the suspects.
    pub fn conceal_parameters(&mut self, suspects: &mut Suspects) {
        if let Some(query) = &mut self.query {
            *query = masked_query(query, suspects);
        }
    }

    /// Of all texts that a client chose, but for names.
    pub fn text_bytes(&self) -> usize {
        let optional = |text: Option<&String>| text.map_or(0, String::len);
        let headers: usize = self.headers.iter().map(|(_, value)| value.len()).sum();
        let body: usize = self.body.iter().map(|(_, value)| optional(value.as_ref())).sum();
        let model = optional(self.model.as_ref().and_then(Option::as_ref));
        self.path.len() + optional(self.query.as_ref()) + model + headers + body
    }

    /// Takes out these values, wherever they are.
    pub fn conceal(&mut self, suspects: &Suspects) {
        let mask = |text: &mut String| {
            if let Some(masked) = suspects.masked(text) {
                *text = masked;
            }
        };
        if let Some(masked) = suspects.masked(&self.path) {
            // As a path, or it would not be read again.
            self.path = if masked.starts_with('/') { masked } else { format!("/{masked}") };
        }
        self.query.iter_mut().for_each(mask);
        self.model.iter_mut().flatten().for_each(mask);
        let headers = std::mem::take(&mut self.headers);
        for (name, value) in headers {
            if suspects.are_in(&value) {
                self.withhold(&name);
            } else {
                self.headers.push((name, value));
            }
        }
        let body = std::mem::take(&mut self.body);
        for (pointer, value) in body {
            if value.as_ref().is_some_and(|value| suspects.are_in(value)) {
                self.withhold(&pointer);
            } else {
                self.body.push((pointer, value));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderName, HeaderValue};

    use super::*;
    use crate::plugin::{Caller, Presented, Profile, Request, Reuse, Transport};

    #[test]
    fn a_secret_is_concealed_wherever_else_the_request_has_it() {
        let pair = |(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value));
        let headers: HeaderMap =
            [("x-token", "secret-1"), ("x-copy", "a=secret%2d1"), ("x-a", "1")].map(pair).into_iter().collect();
        let profile = Profile {
            headers: Vec::new(),
            reads_model: true,
            body: vec!["/key".into(), "/copy".into()],
            socket_model: Vec::new(),
            meters: Vec::new(),
            reuse: Reuse::Never,
        };
        let told = Request {
            path: "/secret-1/b".into(),
            query: Some("t=secret-1&sig=signature-2&b=signature-2".into()),
            model: Some("m-secret-1".into()),
            body: vec![Some("3".into()), Some("so secret-1 it is".into())],
            transport: Transport::Http,
            method: "POST".into(),
            presented: Presented::Subprotocol,
            headers: Vec::new(),
            streaming: false,
        };
        let caller = Caller { id: "tester".into(), tags: Vec::new() };
        let (mut head, mut suspects) = Head::of(&told, &headers, &profile, caller);
        head.conceal_parameters(&mut suspects);
        head.conceal(&suspects);
        assert_eq!((head.path.as_str(), head.query.as_deref()), ("/***/b", Some("t=***&sig=***&b=***")));
        assert_eq!((head.model.as_ref(), &head.body[..]), (Some(&Some("m-***".to_owned())), &[][..]));
        assert_eq!(head.headers, [("x-a".to_owned(), "1".to_owned())]);
        assert_eq!(head.withheld, ["x-token", "/key", "x-copy", "/copy"]);
        assert_eq!(head.shown(&profile).unknown[0], "the body's \"/key\", whose value is not given");
        assert_eq!(Head::read(&head.to_json()).unwrap(), (head.clone(), Vec::new()));
        suspects.add("/***/b");
        head.conceal(&suspects);
        assert_eq!(head.path, "/***", "it is still a path");
    }
}
