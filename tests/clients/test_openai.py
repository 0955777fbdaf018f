"""The `openai` SDK against both providers, with and without `/v1` in its base URL."""

import asyncio
from dataclasses import dataclass

import openai
import pytest


@dataclass
class Provider:
    """One provider behind the gateway, as the SDK addresses it."""

    name: str
    key: str
    base_url: str
    chat_model: str
    embedding_model: str

    def client(self, **options):
        options = {"api_key": self.key, "base_url": self.base_url, "max_retries": 0} | options
        return openai.OpenAI(**options)


@pytest.fixture(params=["bailian", "gemini"])
def name(request):
    return request.param


@pytest.fixture(params=["/v1", ""], ids=["v1", "root"])
def provider(request, name, url, bailian_key, gemini_key):
    base_url = url + request.param
    if name == "bailian":
        return Provider(name, bailian_key, base_url, "qwen-plus", "text-embedding-v4")
    return Provider(name, gemini_key, base_url, "gemini-2.5-flash", "gemini-embedding-001")


def messages(text="ping pong"):
    return [{"role": "system", "content": "Be kind."}, {"role": "user", "content": text}]


def test_a_chat_is_answered_with_its_usage(provider):
    reply = provider.client().chat.completions.create(model=provider.chat_model, messages=messages())
    assert "ping pong" in reply.choices[0].message.content
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0


def test_text_beyond_ascii_and_a_large_body_come_back_unchanged(provider):
    text = "你好，世界 🙂 " + "lorem " * 20_000
    reply = provider.client().chat.completions.create(model=provider.chat_model, messages=messages(text))
    assert text.strip() in reply.choices[0].message.content


def test_a_streamed_chat_arrives_piece_by_piece(provider, arrivals):
    client = provider.client()
    whole = client.chat.completions.create(model=provider.chat_model, messages=messages())
    stream = client.chat.completions.create(
        model=provider.chat_model, messages=messages(), stream=True, stream_options={"include_usage": True}
    )
    chunks = arrivals(stream)
    chunks.assert_streamed()
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks.pieces if chunk.choices)
    assert text == whole.choices[0].message.content
    assert chunks.pieces[-1].usage == whole.usage


def test_a_stream_that_is_left_early_leaves_the_client_usable(provider):
    client = provider.client()
    with client.chat.completions.create(model=provider.chat_model, messages=messages(), stream=True) as stream:
        next(iter(stream))
    assert client.models.list().data


def test_embeddings(provider):
    client = provider.client()
    reply = client.embeddings.create(model=provider.embedding_model, input=["one", "two"], dimensions=16)
    assert [len(entry.embedding) for entry in reply.data] == [16, 16]
    assert reply.data[0].embedding != reply.data[1].embedding
    assert reply.usage.total_tokens > 0


def test_models(provider):
    client = provider.client()
    ids = [model.id.removeprefix("models/") for model in client.models.list()]
    assert provider.chat_model in ids
    assert client.models.retrieve(provider.chat_model).id == provider.chat_model


def test_an_unknown_key_is_refused_by_the_gateway(provider):
    client = provider.client(api_key="sk-nobody-ever-had-this-key-0000")
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model=provider.chat_model, messages=messages())
    assert refused.value.code == "proxy_key_unknown"
    assert refused.value.body["message"]
    assert refused.value.response.headers["x-aiproxy-request-id"]


def test_a_missing_key_is_refused_by_the_gateway(provider):
    with pytest.raises(openai.AuthenticationError) as refused:
        provider.client().models.list(extra_headers={"Authorization": openai.Omit()})
    assert refused.value.code == "proxy_key_missing"


def test_the_providers_rate_limit_reaches_the_client(provider):
    with pytest.raises(openai.RateLimitError) as limited:
        provider.client().chat.completions.create(model="status-429", messages=messages())
    if provider.name == "bailian":
        assert limited.value.code == "limit_requests"
        assert limited.value.response.headers["retry-after"] == "1"
    else:
        assert limited.value.response.json()[0]["error"]["details"][0]["retryDelay"] == "1s"


def test_the_providers_failure_reaches_the_client(provider):
    with pytest.raises(openai.InternalServerError) as failed:
        provider.client().chat.completions.create(model="status-500", messages=messages())
    assert failed.value.status_code == 500


def test_the_providers_refusal_of_a_request_reaches_the_client(provider):
    with pytest.raises(openai.BadRequestError):
        provider.client().chat.completions.create(model=provider.chat_model, messages=[])
    with pytest.raises(openai.NotFoundError):
        provider.client().chat.completions.create(model="no-such-model", messages=messages())


def test_the_asynchronous_client_runs_many_at_a_time(provider):
    async def run():
        async with openai.AsyncOpenAI(api_key=provider.key, base_url=provider.base_url, max_retries=0) as client:

            async def one(number):
                stream = await client.chat.completions.create(
                    model=provider.chat_model, messages=messages(f"number {number}"), stream=True
                )
                return "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])

            return await asyncio.gather(*[one(number) for number in range(20)])

    for number, text in enumerate(asyncio.run(run())):
        assert f"number {number} " in text
