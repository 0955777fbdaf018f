//! Tasks: speech from text, text from speech.

use super::*;

#[tokio::test]
async fn a_synthesis_speaks_what_it_is_told_and_the_next_task_takes_the_same_socket() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    for id in ["one", "two"] {
        socket.say(run(id, "tts", "cosyvoice-v2")).await;
        assert_eq!(socket.json().await["header"]["event"], "task-started");
        socket.say(task("continue-task", id, input("Hello you, "))).await;
        socket.say(task("continue-task", id, input("你好"))).await;
        socket.say(task("finish-task", id, json!({"input": {}}))).await;
        let (first, so_far) = socket.sound_until("result-generated").await;
        assert_eq!((first, &so_far["payload"]["usage"]), (sound::of_text("Hello you, "), &json!({"characters": 11})));
        let (second, finished) = socket.sound_until("task-finished").await;
        assert_eq!((second, &finished["header"]["task_id"]), (sound::of_text("你好"), &json!(id)));
        assert_eq!(finished["payload"]["usage"]["characters"], 15);
    }
    socket.0.close(None).await.unwrap();
    assert_eq!(socket.0.next().await.unwrap().unwrap(), Message::Close(None));
    assert!(socket.0.next().await.is_none());
}

#[tokio::test]
async fn a_synthesis_that_is_taken_back_falls_silent() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    socket.say(run("one", "tts", "cosyvoice-v2")).await;
    socket.say(task("continue-task", "one", input(&"word ".repeat(100)))).await;
    socket.say(task("finish-task", "one", json!({"input": {"directive": "cancel"}}))).await;
    let (sound, finished) = socket.sound_until("task-finished").await;
    assert!(sound.len() < sound::of_text(&"word ".repeat(100)).len());
    assert_eq!(finished["payload"]["usage"]["characters"], 500);
}

#[tokio::test]
async fn a_text_that_is_there_at_once_needs_no_end() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    let payload = json!({"model": "sambert-zhichu-v1", "task": "tts", "parameters": {}, "input": {"text": "Hello"}});
    socket
        .say(json!({"header": {"action": "run-task", "task_id": "one", "streaming": "out"}, "payload": payload}))
        .await;
    let (sound, finished) = socket.sound_until("task-finished").await;
    assert_eq!(
        (sound, finished["payload"].clone()),
        (sound::of_text("Hello"), json!({"output": null, "usage": {"characters": 5}}))
    );
}

#[tokio::test]
async fn a_recognition_says_how_much_it_heard() {
    let demo = Demo::start().await;
    let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
    socket.say(run("one", "asr", "paraformer-realtime-v2")).await;
    assert_eq!(socket.json().await["header"]["event"], "task-started");
    for _ in 0..5 {
        socket.send(vec![1; 10_000]).await;
    }
    socket.say(task("finish-task", "one", json!({"input": {}}))).await;
    let events = socket.until(|event| event["header"]["event"] == "task-finished").await;
    let results: Vec<_> =
        events.iter().map(|event| (&event["payload"]["output"]["sentence"], &event["payload"]["usage"])).collect();
    assert_eq!(results.len(), 3);
    assert_eq!((&results[0].0["end_time"], results[0].1), (&Value::Null, &Value::Null));
    assert_eq!((&results[1].0["end_time"], results[1].1), (&json!(1562), &json!({"duration": 2})));
    assert_eq!(results[1].0["text"], "Heard 50000 bytes of pcm at 16000 Hz.");
    assert_eq!(events[2]["payload"], json!({"output": {}, "usage": {"duration": 2}}));
}

#[tokio::test]
async fn a_task_that_cannot_be_done_fails_in_the_providers_words_and_ends_the_socket() {
    let demo = Demo::start().await;
    for (message, code) in [
        (run("one", "tts", "status-429"), "Throttling.RateQuota"),
        (run("one", "tts", "status-500"), "InternalError"),
        (run("one", "asr", "nothing"), "ModelNotFound"),
        (run("one", "asr", ""), "InvalidParameter"),
        (run("one", "video", "qwen-plus"), "InvalidParameter"),
        (run("", "tts", "cosyvoice-v2"), "InvalidParameter"),
        (task("continue-task", "one", input("Hello")), "InvalidParameter"),
        (task("sing", "one", json!({})), "InvalidParameter"),
        (json!("no object"), "InvalidParameter"),
    ] {
        let mut socket = Socket::at(&demo, INFERENCE, BAILIAN).await;
        socket.say(message.clone()).await;
        let failed = socket.json().await;
        assert_eq!(failed["header"]["event"], "task-failed", "{message}");
        assert_eq!(failed["header"]["error_code"], code, "{message}");
        assert!(failed["header"]["error_message"].is_string());
        assert_eq!(failed["header"]["task_id"], message["header"]["task_id"].as_str().unwrap_or_default());
        assert_eq!(socket.next().await, Heard::Close(1000, String::new()));
    }
}
