"""Where the gateway is, and with which proxy keys; `run` sets this up.

The tests say what a user of a provider's own SDK sees when only the base URL and the key are changed.
"""

import os
import time

import pytest


@pytest.fixture(scope="session")
def url():
    """Of the gateway, without a trailing slash."""
    return os.environ["AIPROXY_URL"].rstrip("/")


@pytest.fixture(scope="session")
def socket_url(url):
    """The same for WebSockets."""
    return "ws" + url.removeprefix("http")


@pytest.fixture(scope="session")
def bailian_key():
    return os.environ["AIPROXY_BAILIAN_KEY"]


@pytest.fixture(scope="session")
def gemini_key():
    return os.environ["AIPROXY_GEMINI_KEY"]


class Arrivals:
    """When the pieces of a streamed reply came in."""

    def __init__(self, stream):
        self.pieces, self.times = [], []
        for piece in stream:
            self.pieces.append(piece)
            self.times.append(time.monotonic())

    def assert_streamed(self):
        """The upstream pauses 20 ms after each of a dozen pieces and more: a buffered reply arrives in one lump."""
        assert len(self.pieces) > 5
        assert self.times[-1] - self.times[0] > 0.1, "the reply was buffered on its way"


@pytest.fixture(scope="session")
def arrivals():
    return Arrivals
