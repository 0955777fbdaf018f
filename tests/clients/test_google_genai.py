"""The `google-genai` SDK, with its base URL set to the gateway, in its default and in its beta version."""

import asyncio

import pytest
from google import genai
from google.genai import errors, types


@pytest.fixture(params=[None, "v1beta"], ids=["default", "v1beta"])
def options(request, url):
    options = {"base_url": url}
    if request.param:
        options["api_version"] = request.param
    return options


@pytest.fixture
def client(gemini_key, options):
    return genai.Client(api_key=gemini_key, http_options=options)


MODEL = "gemini-2.5-flash"


def test_content_is_generated_with_its_usage(client):
    reply = client.models.generate_content(model=MODEL, contents="ping pong")
    assert "ping pong" in reply.text
    usage = reply.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count > 0


def test_thoughts_are_counted_beside_the_candidates(client):
    usage = client.models.generate_content(model="gemini-2.5-pro", contents="ping pong").usage_metadata
    assert usage.thoughts_token_count > 0
    parts = usage.prompt_token_count + usage.candidates_token_count + usage.thoughts_token_count
    assert usage.total_token_count == parts


def test_a_stream_arrives_piece_by_piece(client, arrivals):
    whole = client.models.generate_content(model=MODEL, contents="ping pong")
    chunks = arrivals(client.models.generate_content_stream(model=MODEL, contents="ping pong"))
    chunks.assert_streamed()
    assert "".join(chunk.text for chunk in chunks.pieces) == whole.text
    assert chunks.pieces[-1].usage_metadata.total_token_count == whole.usage_metadata.total_token_count


def test_the_asynchronous_client(client):
    async def run():
        stream = await client.aio.models.generate_content_stream(model=MODEL, contents="ping pong")
        return "".join([chunk.text async for chunk in stream])

    assert "ping pong" in asyncio.run(run())


def test_a_chat_session(client):
    chat = client.chats.create(model=MODEL)
    assert "first" in chat.send_message("first").text
    assert "second" in chat.send_message("second").text


def test_embeddings(client):
    reply = client.models.embed_content(
        model="gemini-embedding-001",
        contents=["one", "two"],
        config=types.EmbedContentConfig(output_dimensionality=16),
    )
    assert [len(embedding.values) for embedding in reply.embeddings] == [16, 16]


def test_tokens_are_counted_as_they_are_billed(client):
    counted = client.models.count_tokens(model=MODEL, contents="ping pong").total_tokens
    billed = client.models.generate_content(model=MODEL, contents="ping pong").usage_metadata.prompt_token_count
    assert counted == billed


def test_models(client):
    assert f"models/{MODEL}" in [model.name for model in client.models.list()]
    assert client.models.get(model=MODEL).name == f"models/{MODEL}"


def test_a_file_is_uploaded_by_way_of_the_gateway(client, tmp_path):
    assert list(client.files.list()) == []
    (tmp_path / "note.txt").write_text("twelve bytes")
    uploaded = client.files.upload(file=tmp_path / "note.txt")
    assert (uploaded.size_bytes, uploaded.mime_type) == (12, "text/plain")


def test_an_unknown_key_is_refused_by_the_gateway(options):
    client = genai.Client(api_key="sk-nobody-ever-had-this-key-0000", http_options=options)
    with pytest.raises(errors.ClientError) as refused:
        client.models.generate_content(model=MODEL, contents="ping pong")
    assert refused.value.code == 403
    assert refused.value.response.json()["error"]["code"] == "proxy_key_unknown"
    assert refused.value.message


def test_the_providers_errors_reach_the_client(client):
    with pytest.raises(errors.ClientError) as limited:
        client.models.generate_content(model="status-429", contents="ping pong")
    assert (limited.value.code, limited.value.status) == (429, "RESOURCE_EXHAUSTED")
    with pytest.raises(errors.ServerError) as failed:
        client.models.generate_content(model="status-500", contents="ping pong")
    assert (failed.value.code, failed.value.status) == (500, "INTERNAL")
    with pytest.raises(errors.ClientError) as unknown:
        client.models.generate_content(model="no-such-model", contents="ping pong")
    assert (unknown.value.code, unknown.value.status) == (404, "NOT_FOUND")
