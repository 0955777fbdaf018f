"""One instance answers ten thousand requests one after the other; and what that costs is measured."""

import re
import shutil

import gateway
import pytest
import wire
from gateway import soon

CALLS = 10_000
# Such calls make more garbage than an instance has memory.
LONG_CALLS = 2_000
LONG_QUERY = "q" * 50_000

BODY = b'{"model":"small","messages":[]}'
HEADERS = [
    ("authorization", f"Bearer {gateway.key('plain')}"),
    ("content-type", "application/json"),
    ("x-tenant", "blue"),
]


@pytest.fixture
def one_instance(serving):
    """Fails the test if another instance takes the place of the one that serves."""
    if serving.language.endswith("-stub"):
        pytest.skip("the same code")
    before = soon(lambda: serving.gateway.configured("plain"))
    yield
    assert serving.gateway.configured("plain") == before


def test_ten_thousand_calls_of_one_instance_do_not_fail(serving, one_instance, measured):
    client = wire.Client(serving.gateway.address)
    calls, seconds = plugin_calls(client)
    for number in range(CALLS):
        # Another path each time: an equal request would get the answer again, without a call.
        reply = client.ask("POST", f"/v1/calls/{number}", HEADERS, BODY)
        assert reply.status == 200, f"call {number}: {reply}\n{serving.gateway.said()[-2000:]}"
    further_calls, further_seconds = plugin_calls(client)
    assert sum(further_calls.values()) == sum(calls.values()) + CALLS
    # Nothing has ended in a trap, at a deadline or without memory.
    assert set(further_calls) == {"ok"}, further_calls
    client.close()

    row = measured.setdefault(serving.language, {})
    row["component, bytes"] = f"{serving.component.stat().st_size:,}"
    row["start, compiled anew, s"] = f"{serving.gateway.start_seconds:.2f}"
    row["a call, µs"] = f"{(further_seconds - seconds) / CALLS * 1e6:.0f}"


def test_what_a_call_leaves_behind_is_used_again(serving, one_instance):
    client = wire.Client(serving.gateway.address)
    for number in range(LONG_CALLS):
        reply = client.ask("POST", f"/v1/long/{number}?{LONG_QUERY}", HEADERS, BODY)
        assert reply.status == 200, f"call {number}: {reply}\n{serving.gateway.said()[-2000:]}"
    client.close()


def test_a_start_with_compiled_code_at_hand_serves(serving, measured, tmp_path):
    gateway.lay_out(tmp_path, serving.component, {"plain": {}}, serving.upstream.url)
    shutil.copytree(serving.state / "compiled", tmp_path / "state" / "compiled")
    (tmp_path / "state").chmod(0o700)
    again = gateway.Gateway(tmp_path, tmp_path / "state")
    row = measured.setdefault(serving.language, {})
    row["start, compiled before, s"] = f"{again.start_seconds:.2f}"
    row["memory with one channel, MiB"] = f"{again.resident_bytes() / 2**20:.0f}"
    again.stop()


def plugin_calls(client):
    """How often the plugin was called, by outcome, and how long that took in total, in seconds."""
    text = client.ask("GET", "/metrics").body.decode()
    calls = re.findall(r'^aiproxy_plugin_calls_total{.*outcome="([^"]+)".*} (\S+)$', text, re.MULTILINE)
    seconds = re.findall(r"^aiproxy_plugin_call_duration_seconds_sum{.*} (\S+)$", text, re.MULTILINE)
    return {outcome: int(float(count)) for outcome, count in calls if float(count)}, sum(map(float, seconds))
