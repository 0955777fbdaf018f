//! A profile and changes to a plan, as a test writes them in `settings`.

use serde_json::Value;

use crate::bindings::aiproxy::plugin::types::{
    BodyEdit, Credential, Field, Fold, HeaderEdit, Meter, Placement, Plan, Profile, Reuse, Signature,
};

/// `{"headers": […], "reads_model": true, "body": […], "socket_model": […], "meters": [[{…}]], "reuse": "any-caller"}`
pub fn profile(written: &Value) -> Profile {
    Profile {
        headers: strings(&written["headers"]),
        reads_model: written["reads_model"] == true,
        body: strings(&written["body"]),
        socket_model: strings(&written["socket_model"]),
        meters: list(&written["meters"]).iter().map(|set| list(set).iter().map(meter).collect()).collect(),
        reuse: match written["reuse"].as_str() {
            Some("same-caller") => Reuse::SameCaller,
            Some("any-caller") => Reuse::AnyCaller,
            _ => Reuse::Never,
        },
    }
}

/// What `settings.plan` names replaces that part of the plan; header edits are added to it.
pub fn apply(written: &Value, plan: &mut Plan) {
    let text = |name: &str| written[name].as_str().map(String::from);
    plan.endpoint = text("endpoint").or(plan.endpoint.take());
    plan.path = text("path").unwrap_or_else(|| std::mem::take(&mut plan.path));
    plan.query = text("query").or(plan.query.take());
    plan.model = text("model").or(plan.model.take());
    plan.meters = written["meters"].as_u64().and_then(|index| index.try_into().ok());
    plan.headers.extend(list(&written["headers"]).iter().map(|edit| match word(edit, 0) {
        "remove" => HeaderEdit::Remove(word(edit, 1).into()),
        "set-if-absent" => HeaderEdit::SetIfAbsent(field(edit, 1)),
        _ => HeaderEdit::Set(field(edit, 1)),
    }));
    plan.body.extend(list(&written["body"]).iter().map(|edit| match word(edit, 0) {
        "remove" => BodyEdit::Remove(word(edit, 1).into()),
        "set-if-absent" => BodyEdit::SetIfAbsent(field(edit, 1)),
        _ => BodyEdit::Set(field(edit, 1)),
    }));
    if written["credentials"].is_array() {
        plan.credentials = list(&written["credentials"]).iter().map(credential).collect();
    }
    plan.options = list(&written["options"]).iter().map(|option| field(option, 0)).collect();
}

/// `["key", "authorization" | "header" | "query" | "signed", "name"]`
fn credential(written: &Value) -> Credential {
    let name = word(written, 2).to_owned();
    let place = match word(written, 1) {
        "header" => Placement::Header(name),
        "query" => Placement::Query(name),
        "signed" => Placement::Signed(Signature { scheme: name, parameters: Vec::new() }),
        _ => Placement::Authorization(name),
    };
    Credential { secret: word(written, 0).into(), place }
}

/// `{"name": "input", "alternatives": [["/usage/input_tokens"]], "fold": "sum", "group": "/id"}`
fn meter(written: &Value) -> Meter {
    Meter {
        name: written["name"].as_str().unwrap_or_default().into(),
        alternatives: list(&written["alternatives"]).iter().map(strings).collect(),
        fold: if written["fold"] == "sum" { Fold::Sum } else { Fold::Last },
        group: written["group"].as_str().map(String::from),
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn strings(value: &Value) -> Vec<String> {
    list(value).iter().filter_map(|v| v.as_str().map(String::from)).collect()
}

fn word(value: &Value, index: usize) -> &str {
    value[index].as_str().unwrap_or_default()
}

fn field(value: &Value, index: usize) -> Field {
    (word(value, index).into(), word(value, index + 1).into())
}
