"""Every language decides the same: what the upstream gets, and what the client is told."""

from dataclasses import dataclass, field

import pytest
from gateway import soon
from wire import Upstream

JSON = ("content-type", "application/json")


@dataclass
class Case:
    """A request, and what is to become of it."""

    name: str
    channel: str
    method: str
    target: str
    headers: list = field(default_factory=list)
    body: bytes = b""
    # What the upstream gets; None: the gateway answers by itself, with `status` and `code`.
    upstream_target: str | None = None
    upstream_body: bytes | None = None  # as `body` where it is left out
    organization: list = field(default_factory=list)
    status: int = 200
    code: str = ""
    message: str = ""


def post(name, channel, target, body, **more):
    return Case(name, channel, "POST", target, more.pop("headers", []) + [JSON], body, **more)


def user(channel):
    return b'"user":"alice-%s"' % channel.encode()


NO_CHANNEL = {"status": 404, "code": "no_channel_for_request"}

CASES = [
    Case("a get", "plain", "GET", "/v1/models", upstream_target="/v1/models"),
    Case("a query", "plain", "GET", "/v1/models?a=1&b=%20x", upstream_target="/v1/models?a=1&b=%20x"),
    Case("an escaped path", "plain", "GET", "/v1/a%2Fb//c", upstream_target="/v1/a%2Fb//c"),
    Case("a prefix", "prefixed", "GET", "/v1/models?x", upstream_target="/api/v3/models?x"),
    Case("the root as prefix", "root", "GET", "/v1/models", upstream_target="/models"),
    Case("nothing but the version", "plain", "GET", "/v1/", upstream_target="/v1/"),
    post(
        "a model and no user",
        "plain",
        "/v1/chat/completions",
        b'{"model":"small","messages":[]}',
        upstream_target="/v1/chat/completions",
        upstream_body=b'{"model":"small","messages":[],' + user("plain") + b"}",
    ),
    post(
        "a user already there",
        "plain",
        "/v1/chat/completions",
        b'{"model": "small", "user": "bob"}',
        upstream_target="/v1/chat/completions",
    ),
    post("no model", "plain", "/v1/things", b'{"thing": 1}', upstream_target="/v1/things"),
    Case(
        "a model in a form, which cannot be edited",
        "plain",
        "POST",
        "/v1/audio/transcriptions",
        [("content-type", "multipart/form-data; boundary=x")],
        b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nsmall\r\n--x--\r\n',
        status=415,
        code="body_not_json",
    ),
    post("a body without json", "plain", "/v1/things", b"plain", upstream_target="/v1/things"),
    Case(
        "a body that is not a post",
        "plain",
        "PUT",
        "/v1/things",
        [JSON],
        b'{"model":"small"}',
        upstream_target="/v1/things",
    ),
    Case(
        "a tenant",
        "plain",
        "GET",
        "/v1/models",
        [("x-tenant", "blue")],
        upstream_target="/v1/models",
        organization=["blue"],
    ),
    Case(
        "two tenants, and an organization of the client's own",
        "plain",
        "GET",
        "/v1/models",
        [("x-organization", "mine"), ("X-Tenant", "blue"), ("x-tenant", "green")],
        upstream_target="/v1/models",
        organization=["blue"],
    ),
    Case(
        "an organization without a tenant",
        "plain",
        "GET",
        "/v1/models",
        [("x-organization", "mine")],
        upstream_target="/v1/models",
        organization=["mine"],
    ),
    Case(
        "a client's name of its own making",
        "plain",
        "GET",
        "/v1/models",
        [("x-client", "somebody")],
        upstream_target="/v1/models",
    ),
    Case("another path", "plain", "GET", "/v2/models", **NO_CHANNEL),
    Case("the version without a slash", "plain", "GET", "/v1", **NO_CHANNEL),
    Case("the version deeper down", "plain", "GET", "/x/v1/models", **NO_CHANNEL),
    post(
        "a model that is listed",
        "listed",
        "/v1/chat/completions",
        b'{"model":"large"}',
        upstream_target="/v1/chat/completions",
        upstream_body=b'{"model":"large",' + user("listed") + b"}",
    ),
    post(
        "a model that is not listed",
        "listed",
        "/v1/chat/completions",
        '{"model":"größer"}'.encode(),
        status=404,
        code="model_not_found",
        message="the model `größer` is not served by this channel",
    ),
    post("no model where some are listed", "listed", "/v1/things", b"{}", upstream_target="/v1/things"),
    post(
        "a list of no models",
        "closed",
        "/v1/chat/completions",
        b'{"model":"small"}',
        status=404,
        code="model_not_found",
        message="the model `small` is not served by this channel",
    ),
]

# Of the first language that was asked, by case: what it takes to be the same.
first = {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_language_decides_the_same(serving, case):
    reply, got = serving.ask(case.channel, case.method, case.target, case.headers, case.body)
    assert reply.status == case.status, reply
    if case.upstream_target is None:
        assert got is None
        error = reply.json()["error"]
        assert error["code"] == case.code
        if case.message:
            assert error["message"] == case.message
    else:
        assert reply.body == Upstream.REPLY
        assert got.start == f"{case.method} {case.upstream_target} HTTP/1.1"
        assert got.body == (case.body if case.upstream_body is None else case.upstream_body)
        assert got.values("x-client") == [f"alice-{case.channel}"]
        assert got.values("x-tenant") == []
        assert got.values("x-organization") == case.organization
        assert got.values("authorization") == ["Bearer upstream-secret-0123456789"]
    alike = comparable(reply), got and comparable(got)
    assert alike == first.setdefault(case.name, alike)


def comparable(message):
    """Without what is another each time: names of this run's gateway, of its upstream and of the exchange."""
    varying = {"host", "date", "x-forwarded-host", "x-aiproxy-request-id"}
    body = message.body
    for request_id in message.values("x-aiproxy-request-id"):
        body = body.replace(request_id.encode(), b"ID")
    return message.start, [pair for pair in message.headers if pair[0] not in varying], body


def test_usage_is_metered_as_the_profile_says(serving):
    reply, _ = serving.ask("plain", "POST", "/v1/metered", [JSON], b'{"model":"small"}')
    request_id = reply.values("x-aiproxy-request-id")[0]
    line = soon(lambda: serving.gateway.logged(request_id))
    assert line["usage"] == {"input": 3, "output": 5}
    assert line["model"] == "small"


@pytest.mark.parametrize(("channel", "prefix"), [("plain", "/v1"), ("prefixed", "/api/v3/"), ("root", "/")])
def test_the_log_says_where_it_serves(serving, channel, prefix):
    assert set(soon(lambda: serving.gateway.configured(channel))) == {prefix}
