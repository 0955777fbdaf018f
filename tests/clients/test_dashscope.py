"""The `dashscope` SDK, with its base URL set to the gateway."""

import asyncio

import dashscope
import pytest
from dashscope.aigc.generation import AioGeneration


@pytest.fixture(autouse=True)
def key(monkeypatch, url, bailian_key):
    monkeypatch.setattr(dashscope, "base_http_api_url", f"{url}/api/v1")
    monkeypatch.setattr(dashscope, "api_key", bailian_key)
    return bailian_key


MESSAGES = [{"role": "user", "content": "ping pong"}]


def generate(**options):
    options = {"model": "qwen-plus", "messages": MESSAGES, "result_format": "message"} | options
    return dashscope.Generation.call(**options)


def content(reply):
    assert reply.status_code == 200, reply
    return reply.output.choices[0].message.content


def test_a_generation_is_answered_with_its_usage():
    reply = generate()
    assert "ping pong" in content(reply)
    assert reply.usage.total_tokens == reply.usage.input_tokens + reply.usage.output_tokens > 0
    assert reply.request_id


def test_a_prompt_is_answered_as_text():
    reply = dashscope.Generation.call(model="qwen-plus", prompt="ping pong", result_format="text")
    assert reply.status_code == 200 and "ping pong" in reply.output.text


def test_increments_arrive_piece_by_piece(arrivals):
    whole = generate()
    events = arrivals(generate(stream=True, incremental_output=True))
    events.assert_streamed()
    assert "".join(content(event) for event in events.pieces) == content(whole)
    assert events.pieces[-1].usage.total_tokens == whole.usage.total_tokens


def test_without_increments_every_event_holds_all_so_far(arrivals):
    # This model is one of those which the SDK does not turn to increments by itself.
    events = arrivals(generate(model="qwen-plus", stream=True, incremental_output=False))
    events.assert_streamed()
    texts = [content(event) for event in events.pieces]
    assert all(longer.startswith(shorter) for shorter, longer in zip(texts, texts[1:]))


def test_the_asynchronous_client():
    async def run():
        stream = await AioGeneration.call(
            model="qwen-plus", messages=MESSAGES, result_format="message", stream=True, incremental_output=True
        )
        text = "".join([content(event) async for event in stream])
        await dashscope.close_shared_aio_session()
        return text

    assert asyncio.run(run()) == content(generate())


def test_a_multimodal_conversation(arrivals):
    messages = [{"role": "user", "content": [{"image": "https://example.com/cat.png"}, {"text": "ping pong"}]}]
    reply = dashscope.MultiModalConversation.call(model="qwen-vl-plus", messages=messages)
    assert "ping pong" in content(reply)[0]["text"]
    stream = dashscope.MultiModalConversation.call(
        model="qwen-vl-plus", messages=messages, stream=True, incremental_output=True
    )
    events = arrivals(stream)
    events.assert_streamed()
    text = "".join(part["text"] for event in events.pieces for part in content(event))
    assert text == content(reply)[0]["text"]


def test_embeddings_and_reranking():
    reply = dashscope.TextEmbedding.call(model="text-embedding-v4", input=["one", "two"], dimension=64)
    assert [len(entry["embedding"]) for entry in reply.output["embeddings"]] == [64, 64]
    assert reply.usage["total_tokens"] > 0
    ranked = dashscope.TextReRank.call(
        model="gte-rerank-v2", query="red cat", documents=["a dog", "a red cat"], return_documents=True
    )
    assert ranked.output.results[0].index == 1
    assert ranked.output.results[0]["document"]["text"] == "a red cat"


def test_a_job_is_submitted_and_fetched():
    submitted = dashscope.ImageSynthesis.async_call(model="wan2.2-t2i-flash", prompt="a cat")
    assert submitted.status_code == 200, submitted
    assert submitted.output.task_status == "PENDING"
    states = [dashscope.ImageSynthesis.fetch(submitted).output.task_status for _ in range(2)]
    assert states == ["RUNNING", "SUCCEEDED"]


def test_models():
    reply = dashscope.Models.list()
    assert reply.status_code == 200, reply
    assert "qwen-plus" in [model["model"] for model in reply.output["models"]]


def test_an_unknown_key_is_refused_by_the_gateway():
    reply = generate(api_key="sk-nobody-ever-had-this-key-0000")
    assert (reply.status_code, reply.code) == (403, "proxy_key_unknown")
    assert reply.message and reply.request_id
    (streamed,) = generate(api_key="sk-nobody-ever-had-this-key-0000", stream=True, incremental_output=True)
    assert (streamed.status_code, streamed.code) == (403, "proxy_key_unknown")


@pytest.mark.parametrize(
    ("model", "status", "code"),
    [
        ("status-429", 429, "Throttling.RateQuota"),
        ("status-500", 500, "InternalError"),
        ("no-such-model", 404, "ModelNotFound"),
    ],
)
def test_the_providers_errors_reach_the_client(model, status, code):
    reply = generate(model=model)
    assert (reply.status_code, reply.code) == (status, code)
    assert reply.message and reply.request_id
