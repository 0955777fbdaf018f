"""The `google-genai` SDK's Live client, which opens its socket over TLS whatever its base URL says.

So these go to a gateway with a certificate, and trust the authority that signed it.
"""

import asyncio
import os
import ssl

import pytest
from google import genai
from google.genai import errors, types
from websockets.exceptions import InvalidStatus

MODEL = "gemini-live-2.5-flash-preview"

pytestmark = pytest.mark.skipif("AIPROXY_TLS_URL" not in os.environ, reason="no gateway with a certificate")


# The default is `v1`.
@pytest.fixture(params=[None, "v1beta", "v1alpha"], ids=["default", "v1beta", "v1alpha"])
def version(request):
    return request.param


def client(version, key, headers=None):
    # One context for both of the SDK's asynchronous transports.
    trust = {"ssl": ssl.create_default_context(cafile=os.environ["AIPROXY_CA"])}
    options = {"base_url": os.environ["AIPROXY_TLS_URL"], "async_client_args": trust}
    if version:
        options["api_version"] = version
    if headers:
        options["headers"] = headers
    return genai.Client(api_key=key, http_options=options)


@pytest.fixture
def key():
    return os.environ["AIPROXY_TLS_GEMINI_KEY"]


def converse(client, modality, say, model=MODEL, **config):
    """The messages of one turn."""

    async def run():
        async with client.aio.live.connect(model=model, config={"response_modalities": [modality]} | config) as session:
            await say(session)
            async with asyncio.timeout(3):
                return [message async for message in session.receive()]

    return asyncio.run(run())


def turn(text):
    return types.Content(role="user", parts=[types.Part(text=text)])


def test_a_turn_is_answered_with_its_usage(version, key):
    def say(session):
        return session.send_client_content(turns=turn("ping pong"))

    messages = converse(client(version, key), "TEXT", say)
    text = "".join(message.text or "" for message in messages)
    assert "ping pong" in text
    assert len(messages) > 5
    assert messages[-1].server_content.turn_complete
    usage = messages[-1].usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.response_token_count > 0


def test_sound_is_answered_with_sound(key):
    async def say(session):
        for _ in range(3):
            await session.send_realtime_input(audio=types.Blob(data=b"\1" * 3200, mime_type="audio/pcm;rate=16000"))
        await session.send_realtime_input(audio_stream_end=True)

    transcripts = {"input_audio_transcription": {}, "output_audio_transcription": {}}
    contents = [message.server_content for message in converse(client(None, key), "AUDIO", say, **transcripts)]
    assert contents[0].input_transcription.text == "9600 bytes of sound"
    written = "".join(content.output_transcription.text for content in contents if content.output_transcription)
    parts = [part for content in contents if content.model_turn for part in content.model_turn.parts]
    assert {part.inline_data.mime_type for part in parts} == {"audio/pcm;rate=24000"}
    assert b"".join(part.inline_data.data for part in parts)[::16].decode() == written
    assert "9600 bytes of sound" in written


def test_a_session_has_many_turns(key):
    async def run():
        costs = []
        live = client("v1beta", key).aio.live
        async with live.connect(model=MODEL, config={"response_modalities": ["TEXT"]}) as session:
            for text in ["first", "second", "third"]:
                await session.send_realtime_input(text=text)
                messages = [message async for message in session.receive()]
                assert text in "".join(message.text or "" for message in messages)
                costs.append(messages[-1].usage_metadata.prompt_token_count)
        return costs

    costs = asyncio.run(run())
    assert costs == sorted(set(costs)) and len(costs) == 3


def test_an_ephemeral_token_goes_through_beside_the_proxy_key(key):
    # The SDK would show the token as a key, too: there stands the proxy key.
    with pytest.warns(errors.ExperimentalWarning):
        messages = converse(
            client("v1alpha", "auth_tokens/of-a-demo", {"x-goog-api-key": key}),
            "TEXT",
            lambda session: session.send_client_content(turns=turn("ping pong")),
        )
    assert "ping pong" in "".join(message.text or "" for message in messages)


@pytest.mark.parametrize(
    ("model", "code", "reason"),
    [("no-such-model", 1008, "is not found"), ("status-429", 1011, "quota"), ("status-500", 1011, "internal error")],
)
def test_a_session_that_cannot_be_is_closed_with_a_reason(key, model, code, reason):
    with pytest.raises(errors.APIError) as closed:
        converse(client(None, key), "TEXT", lambda session: session.send_realtime_input(text="Hello"), model=model)
    assert closed.value.code == code and reason in str(closed.value)


def test_an_unknown_key_is_refused_by_the_gateway(version):
    with pytest.raises(InvalidStatus) as refused:
        converse(client(version, "sk-nobody-ever-had-this-key-0000"), "TEXT", None)
    assert refused.value.response.status_code == 403
    assert b"proxy_key_unknown" in refused.value.response.body
