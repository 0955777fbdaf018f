//! Realtime events.

use super::*;

const SPEECH: &str = "/api-ws/v1/realtime?model=qwen-tts-realtime";

fn kinds(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

fn deltas(events: &[Value], kind: &str) -> String {
    events.iter().filter(|event| event["type"] == kind).map(|event| event["delta"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_conversation_answers_in_text_and_in_sound_and_counts_both() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, OMNI, BAILIAN).await;
    let created = socket.json().await;
    assert_eq!(
        (created["type"].as_str(), &created["session"]["model"]),
        (Some("session.created"), &json!("qwen3-omni-flash-realtime"))
    );
    socket.say(json!({"type": "session.update", "session": {"modalities": ["text"], "turn_detection": null}})).await;
    assert_eq!(socket.json().await["session"]["turn_detection"], Value::Null);
    let item = json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ping pong"}]});
    socket.say(json!({"type": "conversation.item.create", "item": item})).await;
    socket.say(realtime("response.create")).await;
    let events = socket.until_event("response.done").await;
    let text = deltas(&events, "response.text.delta");
    assert!(text.contains("ping pong"), "{text}");
    let done = &events.last().unwrap()["response"];
    assert_eq!(done["output"][0]["content"], json!([{"type": "text", "text": text}]));
    let usage = &done["usage"];
    assert_eq!(
        usage["total_tokens"],
        usage["input_tokens"].as_u64().unwrap() + usage["output_tokens"].as_u64().unwrap()
    );

    socket.say(json!({"type": "input_audio_buffer.append", "audio": BASE64.encode(vec![1; 32_000])})).await;
    socket.say(realtime("input_audio_buffer.commit")).await;
    socket.say(json!({"type": "response.create", "response": {"modalities": ["text", "audio"]}})).await;
    let events = socket.until_event("response.done").await;
    assert_eq!(
        &kinds(&events)[..4],
        ["input_audio_buffer.committed", "conversation.item.created", "response.created", "response.output_item.added"]
    );
    let transcript = deltas(&events, "response.audio_transcript.delta");
    assert!(transcript.contains("32000 bytes of sound"), "{transcript}");
    let sound = events.iter().filter(|event| event["type"] == "response.audio.delta").map(|event| &event["delta"]);
    assert_eq!(words_of(sound), transcript);
    assert_eq!(events.last().unwrap()["response"]["usage"]["input_tokens_details"]["audio_tokens"], 25);
}

#[tokio::test]
async fn silence_ends_what_is_said_where_turns_are_detected() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, OMNI, BAILIAN).await;
    for byte in [1, 0] {
        socket.say(json!({"type": "input_audio_buffer.append", "audio": BASE64.encode(vec![byte; 32_000])})).await;
    }
    let events = socket.until_event("response.done").await;
    let expected = ["session.created", "input_audio_buffer.speech_started", "input_audio_buffer.speech_stopped"];
    assert_eq!(&kinds(&events)[..3], expected);
    assert!(deltas(&events, "response.audio_transcript.delta").contains("64000 bytes of sound"));
}

#[tokio::test]
async fn a_model_for_speech_says_text_when_it_is_committed_or_whole() {
    let demo = Demo::start().await;
    for mode in ["commit", "server_commit"] {
        let mut socket = Socket::at(&demo, SPEECH, BAILIAN).await;
        socket.say(json!({"type": "session.update", "session": {"mode": mode}})).await;
        socket.say(json!({"type": "input_text_buffer.append", "text": "Hello. And "})).await;
        if mode == "commit" {
            socket.say(realtime("input_text_buffer.commit")).await;
        }
        socket.say(json!({"type": "input_text_buffer.append", "text": "goodbye"})).await;
        socket.say(realtime("session.finish")).await;
        let events = socket.until_event("session.finished").await;
        assert!(matches!(socket.next().await, Heard::Close(1000, _)));
        let sound = events.iter().filter(|event| event["type"] == "response.audio.delta").map(|event| &event["delta"]);
        assert_eq!(words_of(sound), "Hello. And goodbye", "{mode}");
        let done: Vec<_> = events.iter().filter(|event| event["type"] == "response.done").collect();
        assert_eq!(done.len(), 2, "{mode}");
        assert!(done[0]["response"]["usage"]["input_tokens"].as_u64().unwrap() > 0);
    }
}

#[tokio::test]
async fn a_response_can_be_taken_back_and_there_is_one_at_a_time() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, OMNI, BAILIAN).await;
    socket.say(realtime("response.create")).await;
    socket.until_event("response.audio_transcript.delta").await;
    socket.say(realtime("response.create")).await;
    let errors = socket.until_event("error");
    // It stands behind the response that is under way.
    let events = errors.await;
    assert_eq!(events.last().unwrap()["error"]["code"], "conversation_already_has_active_response");
    socket.say(realtime("response.create")).await;
    socket.until_event("response.audio_transcript.delta").await;
    socket.say(realtime("response.cancel")).await;
    let done = socket.until_event("response.done").await.pop().unwrap();
    assert_eq!(
        (&done["response"]["status"], &done["response"]["usage"]["output_tokens"]),
        (&json!("cancelled"), &json!(0))
    );
    socket.say(realtime("response.cancel")).await;
    assert_eq!(socket.until_event("error").await.pop().unwrap()["error"]["code"], "response_cancel_not_active");
}

#[tokio::test]
async fn an_event_that_cannot_be_followed_is_an_error_and_no_end() {
    let demo = Demo::start().await;
    for (path, events) in [
        (OMNI, vec![realtime("sing"), realtime("input_text_buffer.commit"), realtime("input_audio_buffer.commit")]),
        (
            OMNI,
            vec![
                json!({"type": "input_audio_buffer.append", "audio": "?"}),
                json!({"type": "session.update"}),
                json!(1),
            ],
        ),
        (SPEECH, vec![realtime("response.create"), realtime("input_text_buffer.append")]),
    ] {
        let mut socket = Socket::at(&demo, path, BAILIAN).await;
        assert_eq!(socket.json().await["type"], "session.created");
        for event in events {
            socket.say(event.clone()).await;
            let error = socket.json().await;
            assert_eq!((&error["type"], &error["error"]["event_id"]), (&json!("error"), &event["event_id"]), "{event}");
        }
        socket.send(vec![1]).await;
        assert_eq!(socket.json().await["type"], "error");
        socket.say(json!({"type": "session.update", "session": {}})).await;
        assert_eq!(socket.json().await["type"], "session.updated");
    }
}

#[tokio::test]
async fn a_realtime_model_that_there_is_not_is_an_error_and_an_end() {
    let demo = Demo::start().await;
    for (query, code, close) in [
        ("", "invalid_parameter_error", 1007),
        ("?model=", "invalid_parameter_error", 1007),
        ("?model=nothing", "model_not_found", 1007),
        ("?model=status-429", "limit_requests", 1011),
        ("?model=status-500", "internal_error", 1011),
    ] {
        let mut socket = Socket::at(&demo, &format!("/api-ws/v1/realtime{query}"), BAILIAN).await;
        let error = socket.json().await;
        assert_eq!((&error["type"], &error["error"]["code"]), (&json!("error"), &json!(code)), "{query}");
        assert!(matches!(socket.next().await, Heard::Close(found, _) if found == close), "{query}");
    }
}
