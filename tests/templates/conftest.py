"""The components that `run` has built, each serving in a gateway of its own before an upstream."""

import os
from pathlib import Path

import gateway
import pytest
import wire

COMPONENTS = Path(os.environ.get("AIPROXY_COMPONENTS", "components"))
LANGUAGES = sorted(path.stem for path in COMPONENTS.glob("*.wasm"))

# What the channels are set to; the tests choose one by its id.
CHANNELS = {
    "plain": {},
    "prefixed": {"prefix": "/api/v3/", "_note": "a comment"},
    "root": {"prefix": "/"},
    "listed": {"models": ["small", "large"]},
    "closed": {"models": []},
}


class Serving:
    """A gateway with one language's component, and the upstream that it sends to."""

    def __init__(self, language, folder):
        self.language = language
        self.component = COMPONENTS / f"{language}.wasm"
        self.upstream = wire.Upstream()
        gateway.lay_out(folder, self.component, CHANNELS, self.upstream.url)
        self.state = folder / "state"
        self.gateway = gateway.Gateway(folder, self.state)

    def ask(self, channel, method, target, headers=(), body=b""):
        """The gateway's reply, and what the upstream got, if anything."""
        client = wire.Client(self.gateway.address)
        authorization = ("authorization", f"Bearer {gateway.key(channel)}")
        reply = client.ask(method, target, [authorization, *headers], body)
        client.close()
        return reply, self.upstream.take()


@pytest.fixture(scope="session", params=LANGUAGES)
def serving(request, tmp_path_factory):
    serving = Serving(request.param, tmp_path_factory.mktemp(request.param))
    yield serving
    serving.gateway.stop()
    serving.upstream.close()


@pytest.fixture(scope="session")
def measured():
    """What was measured, by language and column; written as a table when all is done."""
    found = {}
    yield found
    if found and "AIPROXY_TABLE" in os.environ:
        Path(os.environ["AIPROXY_TABLE"]).write_text(table(found))


def table(found):
    columns = list(dict.fromkeys(column for row in found.values() for column in row))
    rows = [["", *columns], ["---"] * (len(columns) + 1)]
    rows += [[language, *(row.get(column, "–") for column in columns)] for language, row in sorted(found.items())]
    return "".join("| " + " | ".join(row) + " |\n" for row in rows)
