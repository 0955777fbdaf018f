//! Gemini's resumable uploads: `start` names the URL that the bytes go to, `upload, finalize` ends it.
//!
//! The URL is a capability: whoever has it needs no key. The bytes are counted and forgotten.

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Method};
use indexmap::IndexMap;
use serde_json::json;

use super::Upstream;
use super::fault::Fault;
use super::reply::{Reply, json};
use super::route::Call;
use super::text;

/// The oldest is forgotten beyond.
const UPLOADS_MAX: usize = 1000;

#[derive(Default)]
pub struct Uploads {
    by_id: IndexMap<String, Upload>,
}

struct Upload {
    mime_type: String,
    display_name: String,
    bytes: usize,
}

pub fn answer(upstream: &Upstream, call: &Call, rest: &str) -> Result<Reply, Fault> {
    if (&call.method, rest) != (&Method::POST, "files") {
        return Err(Fault::Path);
    }
    let mut uploads = upstream.uploads.lock().map_err(|_| Fault::Internal)?;
    match call.parameter("upload_id") {
        None => start(upstream, call, &mut uploads),
        Some(id) => proceed(call, &mut uploads, id),
    }
}

fn start(upstream: &Upstream, call: &Call, uploads: &mut Uploads) -> Result<Reply, Fault> {
    if !call.says("x-goog-upload-protocol", "resumable") || !call.says("x-goog-upload-command", "start") {
        return Err(Fault::Body("only the resumable upload protocol is known here".into()));
    }
    let metadata = if call.body.is_empty() { json!({}) } else { call.json()? };
    let name = ["displayName", "display_name"].iter().find_map(|name| metadata["file"][*name].as_str());
    let upload = Upload {
        mime_type: header(&call.headers, "x-goog-upload-header-content-type").into(),
        display_name: name.unwrap_or_default().into(),
        bytes: 0,
    };
    if uploads.by_id.len() >= UPLOADS_MAX {
        uploads.by_id.shift_remove_index(0);
    }
    let id = text::fresh_id("");
    let url = format!("http://{}{}?upload_id={id}&upload_protocol=resumable", upstream.address, call.path);
    uploads.by_id.insert(id, upload);
    let mut reply = with_status(json(&json!({})), "active");
    let url = HeaderValue::from_str(&url).map_err(|_| Fault::Internal)?;
    reply.headers_mut().insert(HeaderName::from_static("x-goog-upload-url"), url);
    Ok(reply)
}

fn proceed(call: &Call, uploads: &mut Uploads, id: &str) -> Result<Reply, Fault> {
    let upload = uploads.by_id.get_mut(id).ok_or(Fault::Path)?;
    let command = header(&call.headers, "x-goog-upload-command");
    let offset = header(&call.headers, "x-goog-upload-offset").parse().ok();
    if !command.contains("upload") || offset != Some(upload.bytes) {
        return Err(Fault::Body("the upload must go on where it stopped".into()));
    }
    upload.bytes += call.body.len();
    if !command.contains("finalize") {
        return Ok(with_status(json(&json!({})), "active"));
    }
    let name = format!("files/{id}");
    let file = json!({
        "name": name, "displayName": upload.display_name, "mimeType": upload.mime_type,
        "sizeBytes": upload.bytes.to_string(), "state": "ACTIVE", "source": "UPLOADED",
        "uri": format!("https://generativelanguage.googleapis.com/v1beta/{name}"),
    });
    uploads.by_id.shift_remove(id);
    Ok(with_status(json(&json!({"file": file})), "final"))
}

fn with_status(mut reply: Reply, status: &'static str) -> Reply {
    reply.headers_mut().insert(HeaderName::from_static("x-goog-upload-status"), HeaderValue::from_static(status));
    reply
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}
