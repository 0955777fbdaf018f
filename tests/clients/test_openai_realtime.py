"""The `openai` SDK's realtime client; the short path leads to bailian's realtime socket.

Events keep bailian's names (`response.text.delta`): the gateway translates nothing.
"""

import asyncio
import base64

import openai
import pytest
from websockets.exceptions import InvalidStatus

MODEL = "qwen3-omni-flash-realtime"


@pytest.fixture(params=["/v1", ""], ids=["v1", "root"])
def base_url(request, url):
    return url + request.param


@pytest.fixture
def client(base_url, bailian_key):
    return openai.OpenAI(api_key=bailian_key, base_url=base_url)


def until(connection, kind):
    events = []
    for event in connection:
        events.append(event)
        if event.type == kind:
            return events
    raise AssertionError(f"no {kind} in {[event.type for event in events]}")


def text_of(events, kind):
    return "".join(event.delta for event in events if event.type == kind)


def ask(connection, text, modalities):
    content = [{"type": "input_text", "text": text}]
    connection.conversation.item.create(item={"type": "message", "role": "user", "content": content})
    connection.response.create(response={"output_modalities": modalities})


def test_a_text_is_answered_with_its_usage(client):
    with client.realtime.connect(model=MODEL) as connection:
        created = connection.recv()
        assert (created.type, created.session.model) == ("session.created", MODEL)
        connection.session.update(session={"type": "realtime", "output_modalities": ["text"]})
        assert connection.recv().type == "session.updated"
        ask(connection, "ping pong", ["text"])
        events = until(connection, "response.done")
        assert "ping pong" in text_of(events, "response.text.delta")
        usage = events[-1].response.usage
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens > 0


def test_a_session_has_many_turns_and_each_costs_more(client):
    with client.realtime.connect(model=MODEL) as connection:
        costs = []
        for text in ["first", "second", "third"]:
            ask(connection, text, ["text"])
            events = until(connection, "response.done")
            assert text in text_of(events, "response.text.delta")
            costs.append(events[-1].response.usage.input_tokens)
        assert costs == sorted(set(costs))


def test_sound_is_answered_with_sound(client):
    with client.realtime.connect(model=MODEL) as connection:
        connection.send({"type": "session.update", "session": {"turn_detection": None}})
        connection.input_audio_buffer.append(audio=base64.b64encode(b"\1" * 32_000).decode())
        connection.input_audio_buffer.commit()
        connection.response.create()
        events = until(connection, "response.done")
        transcript = text_of(events, "response.audio_transcript.delta")
        assert "32000 bytes of sound" in transcript
        sound = b"".join(base64.b64decode(event.delta) for event in events if event.type == "response.audio.delta")
        assert sound[::16].decode() == transcript


def test_the_asynchronous_client(base_url, bailian_key):
    async def run():
        client = openai.AsyncOpenAI(api_key=bailian_key, base_url=base_url)
        async with client.realtime.connect(model=MODEL) as connection:
            await connection.send({"type": "response.create", "response": {"modalities": ["text"]}})
            return [event.type async for event in until_done(connection)]

    async def until_done(connection):
        async for event in connection:
            yield event
            if event.type == "response.done":
                return

    kinds = asyncio.run(run())
    assert kinds[:2] == ["session.created", "response.created"] and kinds[-1] == "response.done"


def test_an_error_ends_nothing(client):
    with client.realtime.connect(model=MODEL) as connection:
        connection.send({"type": "no.such.event"})
        assert until(connection, "error")[-1].error.code == "invalid_value"
        ask(connection, "ping pong", ["text"])
        assert "ping pong" in text_of(until(connection, "response.done"), "response.text.delta")


def test_a_model_that_there_is_not_is_an_error(client):
    with client.realtime.connect(model="no-such-model") as connection:
        assert until(connection, "error")[-1].error.code == "model_not_found"


def test_an_unknown_key_is_refused_by_the_gateway(base_url):
    client = openai.OpenAI(api_key="sk-nobody-ever-had-this-key-0000", base_url=base_url)
    with pytest.raises(InvalidStatus) as refused, client.realtime.connect(model=MODEL):
        pass
    assert refused.value.response.status_code == 403
    assert b"proxy_key_unknown" in refused.value.response.body
