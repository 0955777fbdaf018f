"""The browser, and the two gateways that it looks at: the real one, and one that says what a test wants.

Whatever a test does, the page must neither complain (a console error, a violation of its Content-Security-Policy) nor
ask any host but its own.
"""

import os
import shutil
from pathlib import Path

import pytest

import mock_gateway
from chrome import Chrome


@pytest.fixture(scope="session")
def chrome():
    binary = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    assert binary, "there is no chromium; on Debian: apt-get install chromium"
    chrome = Chrome(binary)
    yield chrome
    chrome.close()


@pytest.fixture
def gateway():
    """`gateway(answer)`: a mock gateway whose `/stats` says `answer(**query)`."""
    started = []

    def start(answer):
        started.append(mock_gateway.Mock(lambda query: answer(**query)))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def tabs(chrome, gateway):
    """`tabs(url, fragment, **options)` opens the dashboard of the gateway at `url` and waits for its figures.

    A tab is closed before the gateway that it asks.
    """
    opened = []

    def open(url, fragment="", *, loaded="document.querySelectorAll('.figure').length > 0", **options):
        tab = chrome.tab(**options)
        opened.append(tab)
        tab.expected = []
        tab.open(f"{url}/dashboard{fragment}")
        tab.until(loaded)
        return tab

    yield open
    for tab in opened:
        tab.run("0")
        complaints = [one for one in tab.complaints if not any(part in one for part in tab.expected)]
        assert complaints == [], "the page complains"
        origin = tab.run("location.origin")
        elsewhere = [url for url in tab.requests if not url.startswith((origin + "/", "data:", "about:"))]
        assert elsewhere == [], "the page asks other hosts"
        tab.close()


@pytest.fixture(scope="session")
def url():
    """Of the real gateway, without a trailing slash."""
    return os.environ["AIPROXY_URL"].rstrip("/")


@pytest.fixture(scope="session")
def proxy_keys():
    return {"bailian": os.environ["AIPROXY_BAILIAN_KEY"], "gemini": os.environ["AIPROXY_GEMINI_KEY"]}


@pytest.fixture(scope="session")
def screenshots():
    folder = Path(os.environ["SCREENSHOTS"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder
