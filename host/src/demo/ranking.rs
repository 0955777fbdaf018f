//! Reranking, in bailian's native and in its compatible form.
//!
//! Relevance is the share of the query's words that a document has.

use http::Method;
use serde_json::{Value, json};

use super::dashscope;
use super::fault::Fault;
use super::reply::{Reply, json};
use super::route::{Call, model_of};
use super::text;

pub fn compatible(call: &Call, rest: &str) -> Result<Reply, Fault> {
    if (&call.method, rest) != (&Method::POST, "reranks") {
        return Err(Fault::Path);
    }
    let body = call.json()?;
    let model = model_of(body["model"].as_str().unwrap_or_default(), dashscope::FAMILIES)?;
    let (results, tokens) = rank(&body["query"], &body["documents"], &body["top_n"], false)?;
    Ok(json(&json!({
        "object": "list", "id": call.request_id, "model": model, "results": results,
        "usage": {"total_tokens": tokens},
    })))
}

/// `input` and `parameters` of a native request to `output` and `usage`.
pub fn native(input: &Value, parameters: &Value) -> Result<(Value, Value), Fault> {
    let with_documents = parameters["return_documents"] == json!(true);
    let (results, tokens) = rank(&input["query"], &input["documents"], &parameters["top_n"], with_documents)?;
    Ok((json!({"results": results}), json!({"total_tokens": tokens})))
}

fn rank(query: &Value, documents: &Value, top: &Value, with_documents: bool) -> Result<(Vec<Value>, u64), Fault> {
    let query = query.as_str().ok_or_else(|| Fault::Body("field `query` must be a string".into()))?;
    let documents =
        documents.as_array().ok_or_else(|| Fault::Body("field `documents` must be a list of strings".into()))?;
    let words: Vec<String> = query.split_whitespace().map(str::to_lowercase).collect();
    let mut tokens = 0;
    let mut ranked: Vec<(usize, f64, String)> = Vec::new();
    for (index, document) in documents.iter().enumerate() {
        let document = text::text_of(document);
        tokens += text::tokens(query) + text::tokens(&document);
        let lower = document.to_lowercase();
        let hits = words.iter().filter(|word| lower.contains(word.as_str())).count();
        ranked.push((index, hits as f64 / words.len().max(1) as f64, document));
    }
    // Stable, so that equals stay in the order of the request.
    ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
    ranked.truncate(top.as_u64().map_or(ranked.len(), |top| top as usize));
    let results = ranked
        .into_iter()
        .map(|(index, score, document)| {
            let mut result = json!({"index": index, "relevance_score": score});
            if with_documents {
                result["document"] = json!({"text": document});
            }
            result
        })
        .collect();
    Ok((results, tokens))
}
