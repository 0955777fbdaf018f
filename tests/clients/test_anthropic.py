"""The `anthropic` SDK against bailian's Anthropic-compatible path, with either form of its credential."""

import anthropic
import pytest


@pytest.fixture(params=["api_key", "auth_token"])
def client(request, url, bailian_key, monkeypatch):
    # The SDK would take the other credential from here.
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.delenv("ANTHROPIC_AUTH_TOKEN", raising=False)
    return anthropic.Anthropic(**{request.param: bailian_key}, base_url=f"{url}/apps/anthropic", max_retries=0)


REQUEST = {"model": "qwen-plus", "max_tokens": 100, "messages": [{"role": "user", "content": "ping pong"}]}


def test_a_message_is_answered_with_its_usage(client):
    reply = client.messages.create(**REQUEST)
    assert "ping pong" in reply.content[0].text
    assert reply.usage.input_tokens > 0 and reply.usage.output_tokens > 0


def test_a_stream_arrives_piece_by_piece(client, arrivals):
    whole = client.messages.create(**REQUEST)
    with client.messages.stream(**REQUEST) as stream:
        pieces = arrivals(stream.text_stream)
        final = stream.get_final_message()
    pieces.assert_streamed()
    assert "".join(pieces.pieces) == whole.content[0].text == final.content[0].text
    assert final.usage.output_tokens == whole.usage.output_tokens


def test_errors_of_gateway_and_provider_reach_the_client(client, url):
    stranger = anthropic.Anthropic(
        api_key="sk-nobody-ever-had-this-key-0000", base_url=f"{url}/apps/anthropic", max_retries=0
    )
    with pytest.raises(anthropic.PermissionDeniedError) as refused:
        stranger.messages.create(**REQUEST)
    assert refused.value.body["error"]["code"] == "proxy_key_unknown"
    with pytest.raises(anthropic.RateLimitError) as limited:
        client.messages.create(**REQUEST | {"model": "status-429"})
    assert limited.value.body["error"]["type"] == "rate_limit_error"
    with pytest.raises(anthropic.InternalServerError):
        client.messages.create(**REQUEST | {"model": "status-500"})
