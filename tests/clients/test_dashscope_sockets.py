"""The `dashscope` SDK over WebSockets: speech, recognition, and the two kinds of realtime sessions."""

import base64
import contextlib
import json
import threading

import dashscope
import pytest
from dashscope.audio import asr, qwen_omni, qwen_tts_realtime, tts_v2
from dashscope.common.error import RequestFailure

NOBODY = "sk-nobody-ever-had-this-key-0000"


@pytest.fixture(autouse=True)
def inference(monkeypatch, socket_url, bailian_key):
    monkeypatch.setattr(dashscope, "base_websocket_api_url", f"{socket_url}/api-ws/v1/inference")
    monkeypatch.setattr(dashscope, "api_key", bailian_key)


@pytest.fixture
def realtime(socket_url):
    return f"{socket_url}/api-ws/v1/realtime"


def words(sound):
    """The demo upstream holds every byte of a text for eight samples of sixteen bits."""
    return sound[::16].decode()


def in_background(connect):
    """Where an SDK waits for five seconds for a socket that will never be open again."""

    def run():
        with contextlib.suppress(TimeoutError):
            connect()

    threading.Thread(target=run, daemon=True).start()


def refusal(connecting):
    """What a handshake was refused with; the SDK itself tells only of its time-out."""
    refused, failed = [], threading.Event()

    def on_error(_, error):
        refused.append(error)
        failed.set()

    in_background(lambda: connecting(on_error))
    assert failed.wait(3)
    return refused[0].status_code, json.loads(refused[0].resp_body)


# Speech from text.


def test_a_text_is_spoken():
    synthesizer = tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2")
    assert words(synthesizer.call("Hello from the gateway. 你好")) == "Hello from the gateway. 你好"
    last = synthesizer.get_response()
    assert last["header"]["event"] == "task-finished"
    assert last["payload"]["usage"]["characters"] == 24 + 2 * 2


class Listener(tts_v2.ResultCallback):
    """Of a synthesis; `done` is set when it has ended, whichever way."""

    def __init__(self):
        self.sound, self.chunks, self.errors, self.usage = b"", 0, [], None
        self.done = threading.Event()

    def on_data(self, data):
        self.sound += data
        self.chunks += 1

    def on_event(self, message):
        self.usage = json.loads(message)["payload"]["usage"]

    def on_error(self, message):
        self.errors.append(json.loads(message)["header"]["error_code"])

    def on_close(self):
        self.done.set()


def test_a_text_is_spoken_while_it_is_written():
    listener = Listener()
    synthesizer = tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2", callback=listener)
    for piece in ["One, ", "two, ", "and three"]:
        synthesizer.streaming_call(piece)
    synthesizer.streaming_complete(3000)
    assert words(listener.sound) == "One, two, and three"
    assert listener.chunks > 3
    assert listener.usage == {"characters": 19}
    assert listener.done.is_set() and not listener.errors


def test_a_socket_is_used_for_one_synthesis_after_the_other(socket_url):
    pool = tts_v2.SpeechSynthesizerObjectPool(max_size=1, url=f"{socket_url}/api-ws/v1/inference")
    try:
        sockets = []
        for text in ["first", "second"]:
            listener = Listener()
            synthesizer = pool.borrow_synthesizer("cosyvoice-v2", "longxiaochun_v2", callback=listener)
            synthesizer.streaming_call(text)
            synthesizer.streaming_complete(3000)
            assert words(listener.sound) == text
            sockets.append(synthesizer.ws)
            pool.return_synthesizer(synthesizer)
        assert sockets[0] is sockets[1]
    finally:
        pool.shutdown()
        sockets[0].close()


@pytest.mark.parametrize(
    ("model", "code"),
    [("status-429", "Throttling.RateQuota"), ("status-500", "InternalError"), ("no-such-model", "ModelNotFound")],
)
def test_a_failed_synthesis_says_why(model, code):
    with pytest.raises(RequestFailure) as failed:
        tts_v2.SpeechSynthesizer(model=model, voice="longxiaochun_v2").call("Hello")
    assert failed.value.name == code and failed.value.message


def test_an_unknown_key_opens_no_synthesis(monkeypatch):
    monkeypatch.setattr(dashscope, "api_key", NOBODY)

    def connect(on_error):
        synthesizer = tts_v2.SpeechSynthesizer(model="cosyvoice-v2", voice="longxiaochun_v2")
        synthesizer.on_error = on_error
        synthesizer.call("Hello")

    status, body = refusal(connect)
    assert (status, body["code"]) == (403, "proxy_key_unknown")


# Text from speech.


class Hearing(asr.RecognitionCallback):
    """Of a recognition."""

    def __init__(self):
        self.results, self.errors, self.is_complete = [], [], False

    def on_event(self, result):
        self.results.append(result)

    def on_complete(self):
        self.is_complete = True

    def on_error(self, result):
        self.errors.append((result.status_code, result.code))


def recognition(callback, model="paraformer-realtime-v2"):
    return asr.Recognition(model=model, callback=callback, format="pcm", sample_rate=16000)


def test_speech_is_recognized_while_it_is_spoken():
    hearing = Hearing()
    recognizer = recognition(hearing)
    recognizer.start()
    for _ in range(15):
        recognizer.send_audio_frame(b"\1" * 3200)
    recognizer.stop()
    assert hearing.is_complete and not hearing.errors
    *partial, last = [result.get_sentence() for result in hearing.results]
    assert partial and not any(asr.RecognitionResult.is_sentence_end(sentence) for sentence in partial)
    assert asr.RecognitionResult.is_sentence_end(last)
    assert last["text"] == "Heard 48000 bytes of pcm at 16000 Hz." and last["end_time"] == 1500
    assert hearing.results[-1].get_usage(last) == {"duration": 2}


def test_speech_is_recognized_in_a_file(tmp_path):
    (tmp_path / "speech.pcm").write_bytes(b"\1" * 64_000)
    result = recognition(None).call(str(tmp_path / "speech.pcm"))
    assert result.status_code == 200, result
    (sentence,) = result.get_sentence()
    assert sentence["text"] == "Heard 64000 bytes of pcm at 16000 Hz."
    assert result.get_usage(sentence) == {"duration": 2}


def test_a_failed_recognition_says_why(tmp_path):
    (tmp_path / "speech.pcm").write_bytes(b"\1" * 3200)
    result = recognition(None, model="status-429").call(str(tmp_path / "speech.pcm"))
    assert (result.status_code, result.code) == (44, "Throttling.RateQuota")


def test_an_unknown_key_opens_no_recognition(monkeypatch, tmp_path):
    monkeypatch.setattr(dashscope, "api_key", NOBODY)
    (tmp_path / "speech.pcm").write_bytes(b"\1" * 3200)
    assert recognition(None).call(str(tmp_path / "speech.pcm")).status_code == 403


# Realtime sessions.


class Events(qwen_tts_realtime.QwenTtsRealtimeCallback, qwen_omni.OmniRealtimeCallback):
    """Those of a realtime session; whoever waits for a kind gets the first of it that he has not waited for before."""

    def __init__(self):
        self.events, self.waited, self.closed = [], 0, None
        self.changed = threading.Condition()

    def on_event(self, message):
        with self.changed:
            self.events.append(message)
            self.changed.notify_all()

    def on_close(self, close_status_code, close_msg):
        with self.changed:
            self.closed = close_status_code
            self.changed.notify_all()

    def until(self, kind):
        """The events up to the next one of this kind."""
        with self.changed:
            end = self.changed.wait_for(lambda: self._next(kind), 3)
            assert end, f"no {kind} in {[event['type'] for event in self.events[self.waited :]]}"
            events, self.waited = self.events[self.waited : end], end
        return events

    def until_closed(self):
        with self.changed:
            assert self.changed.wait_for(lambda: self.closed, 3)
        return self.closed

    def _next(self, kind):
        for index in range(self.waited, len(self.events)):
            if self.events[index]["type"] == kind:
                return index + 1
        return None


def deltas(events, kind):
    return [event["delta"] for event in events if event["type"] == kind]


def sound_of(events):
    return b"".join(base64.b64decode(delta) for delta in deltas(events, "response.audio.delta"))


@pytest.mark.parametrize("mode", ["commit", "server_commit"])
def test_a_realtime_session_speaks(realtime, mode):
    events = Events()
    session = qwen_tts_realtime.QwenTtsRealtime(model="qwen-tts-realtime", callback=events, url=realtime)
    session.connect()
    session.update_session(voice="Cherry", mode=mode)
    assert events.until("session.updated")[-1]["session"]["mode"] == mode
    assert session.get_session_id()
    session.append_text("Hello. ")
    if mode == "commit":
        session.commit()
    spoken = events.until("response.done")
    assert words(sound_of(spoken)).strip() == "Hello."
    usage = spoken[-1]["response"]["usage"]
    assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"] > 0
    session.append_text("Goodbye")
    session.finish()
    assert words(sound_of(events.until("session.finished"))).strip() == "Goodbye"
    assert events.until_closed() == 1000


def test_a_newer_realtime_session_is_billed_by_the_character(realtime):
    events = Events()
    session = qwen_tts_realtime.QwenTtsRealtime(model="qwen3-tts-flash-realtime", callback=events, url=realtime)
    session.connect()
    session.append_text("Hello")
    session.finish()
    assert events.until("response.done")[-1]["response"]["usage"] == {"characters": 5}
    events.until_closed()


@pytest.fixture
def conversation(realtime):
    events = Events()
    conversation = qwen_omni.OmniRealtimeConversation(
        model="qwen3-omni-flash-realtime", callback=events, url=realtime
    )
    conversation.connect()
    yield conversation, events
    conversation.close()


BOTH = [qwen_omni.MultiModality.TEXT, qwen_omni.MultiModality.AUDIO]


def test_a_conversation_is_answered_in_text_and_sound(conversation):
    session, events = conversation
    session.update_session(output_modalities=BOTH, voice="Cherry", enable_turn_detection=False)
    events.until("session.updated")
    session.append_audio(base64.b64encode(b"\1" * 32_000).decode())
    session.commit()
    assert [event["type"] for event in events.until("input_audio_buffer.committed")] == ["input_audio_buffer.committed"]
    session.create_response()
    answer = events.until("response.done")
    transcript = "".join(deltas(answer, "response.audio_transcript.delta"))
    assert "32000 bytes of sound" in transcript and words(sound_of(answer)) == transcript
    assert session.get_last_response_id() == answer[-1]["response"]["id"]
    usage = answer[-1]["response"]["usage"]
    assert usage["input_tokens_details"]["audio_tokens"] == 25 and usage["output_tokens_details"]["audio_tokens"] > 0
    session.end_session(3)


def test_a_conversation_notices_who_has_finished(conversation):
    session, events = conversation
    session.update_session(output_modalities=[qwen_omni.MultiModality.TEXT], voice="Cherry")
    for byte in [b"\1", b"\0"]:
        session.append_audio(base64.b64encode(byte * 32_000).decode())
    answer = events.until("response.done")
    kinds = [event["type"] for event in answer]
    assert kinds.index("input_audio_buffer.speech_started") < kinds.index("input_audio_buffer.speech_stopped")
    assert "64000 bytes of sound" in "".join(deltas(answer, "response.text.delta"))


def test_an_answer_is_taken_back_and_errors_end_nothing(conversation):
    session, events = conversation
    session.create_response()
    events.until("response.audio.delta")
    session.cancel_response()
    assert events.until("response.done")[-1]["response"]["status"] == "cancelled"
    session.send_raw('{"type": "no.such.event"}')
    assert events.until("error")[-1]["error"]["code"] == "invalid_value"
    session.create_item({"type": "message", "role": "user", "content": [{"type": "input_text", "text": "ping pong"}]})
    session.create_response(output_modalities=[qwen_omni.MultiModality.TEXT])
    assert "ping pong" in "".join(deltas(events.until("response.done"), "response.text.delta"))


def test_a_model_that_there_is_not_is_an_error(realtime):
    events = Events()
    session = qwen_omni.OmniRealtimeConversation(model="no-such-model", callback=events, url=realtime)
    # The socket may be closed before the SDK looks whether it is open.
    in_background(session.connect)
    assert events.until("error")[-1]["error"]["code"] == "model_not_found"
    assert events.until_closed() == 1007


@pytest.mark.parametrize("kind", ["speech", "conversation"])
def test_an_unknown_key_opens_no_realtime_session(monkeypatch, realtime, kind):
    monkeypatch.setattr(dashscope, "api_key", NOBODY)

    def connect(on_error):
        if kind == "speech":
            session = qwen_tts_realtime.QwenTtsRealtime(model="qwen-tts-realtime", callback=Events(), url=realtime)
            session.on_error = on_error
        else:
            session = qwen_omni.OmniRealtimeConversation(model="qwen-omni", callback=Events(), url=realtime)
            session._on_error = on_error
        session.connect()

    status, body = refusal(connect)
    assert (status, body["code"]) == (403, "proxy_key_unknown")
