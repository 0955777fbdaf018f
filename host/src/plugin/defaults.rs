//! The default plugins as tests ask them: deployed on a channel without settings.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use serde_json::json;

use super::embedded::EMBEDDED;
use super::tests::{channel, engine, sandbox};
use super::{Caller, Decision, Deployed, Instances, Request};

/// Compiled once for all tests.
pub fn deployed(name: &'static str) -> Arc<Deployed> {
    static DEPLOYED: Mutex<Option<HashMap<&str, Arc<Deployed>>>> = Mutex::new(None);
    let mut deployed = DEPLOYED.lock().unwrap();
    let known = deployed.get_or_insert_default().entry(name).or_insert_with(|| {
        let (_, bytes) = EMBEDDED.iter().find(|(known, _)| *known == name).expect("a default plugin");
        let version = engine().load(name, bytes).unwrap();
        Deployed::new(engine(), version, channel(&json!({})), sandbox()).unwrap()
    });
    known.clone()
}

/// What a default plugin answers.
pub fn decide(name: &'static str, request: &Request) -> Decision {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let caller = Caller { id: "tester".into(), tags: Vec::new() };
    let instances = Instances::new(deployed(name));
    runtime.block_on(instances.decide(request, &caller, "request-1")).unwrap()
}
