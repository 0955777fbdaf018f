//! Gemini Live.

use super::*;

#[tokio::test]
async fn a_live_session_takes_turns_and_sends_its_json_as_bytes() {
    let demo = Demo::start().await;
    for (path, header) in [(LIVE, GEMINI), (CONSTRAINED, ("authorization", "Token auth_tokens/x"))] {
        let mut socket = Socket::at(&demo, path, header).await;
        let generation = json!({"responseModalities": ["TEXT"]});
        socket
            .say(json!({"setup": {"model": "models/gemini-live-2.5-flash-preview", "generationConfig": generation}}))
            .await;
        assert_eq!(socket.next().await, Heard::Binary(b"{\"setupComplete\":{}}".to_vec()));
        let mut prompts = Vec::new();
        for (words, message) in [
            (
                "ping pong",
                json!({"client_content": {"turns": [{"parts": [{"text": "ping pong"}]}], "turn_complete": true}}),
            ),
            ("once more", json!({"realtimeInput": {"text": "once more"}})),
        ] {
            socket.send(message.to_string().into_bytes()).await;
            let messages = socket.until(|message| message["serverContent"]["turnComplete"] == true).await;
            let texts = messages
                .iter()
                .filter_map(|message| message["serverContent"]["modelTurn"]["parts"][0]["text"].as_str());
            assert!(texts.collect::<String>().contains(words));
            let [.., before, last] = &messages[..] else { panic!("{messages:?}") };
            assert_eq!(before["serverContent"], json!({"generationComplete": true}));
            let usage = &last["usageMetadata"];
            let count = |name: &str| usage[name].as_u64().unwrap();
            assert_eq!(count("totalTokenCount"), count("promptTokenCount") + count("responseTokenCount"));
            prompts.push(count("promptTokenCount"));
        }
        assert!(prompts[1] > prompts[0], "a turn pays for what was before it");
    }
}

#[tokio::test]
async fn a_live_session_hears_and_speaks_and_is_interrupted() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, LIVE, GEMINI).await;
    socket.say(json!({"setup": {"model": "models/gemini-2.5-flash", "inputAudioTranscription": {}, "outputAudioTranscription": {}}})).await;
    socket.json().await;
    let blob = json!({"mimeType": "audio/pcm;rate=16000", "data": BASE64.encode([1; 3200])});
    socket.say(json!({"realtimeInput": {"audio": blob}})).await;
    socket.say(json!({"realtimeInput": {"audioStreamEnd": true}})).await;
    let messages = socket.until(|message| message["serverContent"]["turnComplete"] == true).await;
    assert_eq!(messages[0]["serverContent"]["inputTranscription"]["text"], "3200 bytes of sound");
    let spoken =
        messages.iter().map(|message| &message["serverContent"]["modelTurn"]["parts"][0]["inlineData"]["data"]);
    let written: String = messages
        .iter()
        .filter_map(|message| message["serverContent"]["outputTranscription"]["text"].as_str())
        .collect();
    assert_eq!(words_of(spoken.filter(|data| data.is_string())), written);
    assert!(written.contains("3200 bytes of sound"));

    for _ in 0..2 {
        socket.say(json!({"realtimeInput": {"text": "listen"}})).await;
    }
    let messages = socket.until(|message| message["serverContent"]["turnComplete"] == true).await;
    assert!(messages.iter().any(|message| message["serverContent"]["interrupted"] == true));
    let whole = socket.until(|message| message["serverContent"]["turnComplete"] == true).await;
    assert!(whole.len() > 10);
}

#[tokio::test]
async fn a_live_session_that_cannot_be_is_closed_with_a_reason() {
    let demo = Demo::start().await;
    for (message, code, reason) in [
        (json!({"clientContent": {}}), 1007, "The first message must be"),
        (json!({"setup": {}}), 1007, "field `model` is required"),
        (json!({"setup": {"model": "models/nothing"}}), 1008, "models/nothing is not found for this API version"),
        (json!({"setup": {"model": "models/status-429"}}), 1011, "You exceeded your current quota"),
        (json!({"setup": {"model": "models/status-500"}}), 1011, "An internal error has occurred"),
    ] {
        let mut socket = Socket::at(&demo, LIVE, GEMINI).await;
        socket.say(message).await;
        let closed = socket.next().await;
        assert!(matches!(&closed, Heard::Close(found, why) if *found == code && why.contains(reason)), "{closed:?}");
    }
    let mut socket = Socket::at(&demo, LIVE, GEMINI).await;
    socket.say(json!({"setup": {"model": "models/gemini-2.5-flash"}})).await;
    socket.json().await;
    socket.say(json!({"nothing": 1})).await;
    assert!(matches!(socket.next().await, Heard::Close(1007, _)));
}
