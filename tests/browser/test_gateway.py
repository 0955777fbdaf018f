"""The dashboard of the real gateway, with traffic of known numbers."""

import time
import urllib.request

import pytest

import mock_gateway
from traffic import Traffic

REQUESTS = "document.querySelector('[data-figure=requests] .figure-value').textContent"


def figure(tab, name):
    return tab.text(f"[data-figure={name}] .figure-value")


def rows(tab, table, *columns):
    """The named columns' texts, by the rows' names."""
    heads = tab.run(f"[...document.querySelectorAll('#{table} thead th')].map(head => head.dataset.column)")
    cells = tab.run(
        f"[...document.querySelectorAll('#{table} tbody tr')]"
        ".map(row => [...row.children].map(cell => cell.textContent))"
    )
    return {row[0]: tuple(row[heads.index(column)] for column in columns) for row in cells}


@pytest.fixture(scope="module")
def traffic(url, proxy_keys):
    """12 requests: 10 good ones of three models on two channels, one of them streamed, and two that fail."""
    traffic = Traffic(url, proxy_keys)
    for _ in range(4):
        assert traffic.chat("qwen-plus")[0] == 200
    status, streamed = traffic.chat("qwen-plus", stream=True, stream_options={"include_usage": True})
    assert status == 200 and streamed.endswith("data: [DONE]\n\n")
    for _ in range(2):
        assert traffic.chat("qwen-max")[0] == 200
    for _ in range(3):
        assert traffic.gemini("gemini-2.5-flash")[0] == 200
    assert traffic.chat("status-429")[0] == 429
    assert traffic.chat("qwen-plus", key="sk-aiproxy-of-nobody")[0] in (401, 403)
    traffic.sent = 12
    traffic.until_counted()
    return traffic


def test_the_gateway_serves_the_page_as_it_is_in_the_sources(url):
    page, policy = mock_gateway.assemble()
    with urllib.request.urlopen(f"{url}/dashboard", timeout=30) as reply:
        assert reply.read().decode() == page
        assert reply.headers["content-security-policy"] == policy


def test_it_shows_what_was_sent(tabs, url, traffic):
    tab = tabs(url)
    assert figure(tab, "requests") == "12"
    assert tab.text("[data-figure=success_rate] .figure-note") == "2 failed"
    assert figure(tab, "success_rate") == "83.3%"
    # The demo upstream counts 5 tokens in “Hello”, and in its answers 28, 27 and 30.
    stats = traffic.stats()
    measured = stats["window"]["totals"]["usage"]["measured"]["amounts"]
    assert measured["input"] == 50
    assert figure(tab, "tokens_in") == "50"
    assert figure(tab, "tokens_out") == f"{measured['output']:.0f}"
    channels = rows(tab, "channels", "status", "requests", "success")
    assert channels == {
        "阿里云百炼 (demo)": ("active", "8", "87.5%"),
        "Google Gemini (demo)": ("active", "3", "100%"),
    }
    assert rows(tab, "keys", "requests") == {"demo-bailian": ("8",), "demo-gemini": ("3",)}
    models = rows(tab, "models", "requests", "tokens_in", "coverage")
    assert models["qwen-plus"] == ("5", "25", "100%")
    assert models["qwen-max"] == ("2", "10", "100%")
    assert models["gemini-2.5-flash"] == ("3", "15", "100%")
    assert rows(tab, "endpoints", "requests")["POST /v1/chat/completions"][0] in ("8", "9")
    assert rows(tab, "classes", "requests") == {"2xx": ("10",), "4xx": ("2",)}
    assert rows(tab, "plugins", "state", "failures") == {"bailian": ("active", "0"), "gemini": ("active", "0")}
    assert rows(tab, "files", "state")["api_keys.json"] == ("active",)
    assert tab.run("sum(page.stats.window.series.requests.complete)") >= 10
    assert {"qwen-plus", "qwen-max", "gemini-2.5-flash"} <= set(tab.texts("#chart-tokens .legend .label"))
    # The upstream's limit of the rate is its answer, and says nothing of usage.
    assert tab.text("[data-figure=tokens_in] .figure-note") in ("1 missing", "every request measured")


def test_it_refreshes_by_itself_and_in_place(tabs, url, traffic):
    tab = tabs(url)
    tab.choose("#interval", "5")
    tab.run("window.kept = [...document.querySelectorAll('#models tbody tr, .figure, .chart canvas')]")
    before = figure(tab, "requests")
    for _ in range(3):
        assert traffic.chat("qwen-plus")[0] == 200
    traffic.sent += 3
    tab.until(f"{REQUESTS} === '{traffic.sent}'", seconds=15)
    assert before != str(traffic.sent)
    assert tab.run("window.kept.length > 10 && window.kept.every(node => node.isConnected)")


def test_an_open_websocket_is_seen(tabs, url, traffic):
    tab = tabs(url)
    assert figure(tab, "open_websockets") == "0"
    with traffic.socket():
        end = time.monotonic() + 10
        while traffic.stats()["websockets"]["open"] != 1:
            assert time.monotonic() < end
        tab.click("#refresh")
        tab.until("document.querySelector('[data-figure=open_websockets] .figure-value').textContent === '1'")
    traffic.sent += 1
    traffic.until_counted()


def test_language_and_theme_are_switched_and_remembered(tabs, url, traffic):
    tab = tabs(url, language="en-GB", theme="light")
    background = "getComputedStyle(document.body).backgroundColor"
    light = tab.run(background)
    assert tab.text("#channels h2") == "Channels"
    tab.click("#language input[value=zh]")
    tab.click("#theme input[value=dark]")
    assert tab.text("#channels h2") == "通道"
    dark = tab.run(background)
    assert dark != light
    tab.reload()
    tab.until("document.querySelectorAll('.figure').length > 0")
    assert (tab.text("#keys h2"), tab.run("document.documentElement.lang")) == ("代理密钥", "zh-CN")
    assert tab.run(background) == dark
    # Another browser has its own.
    other = tabs(url, language="zh-CN", theme="dark")
    assert (other.text("#channels h2"), other.run(background)) == ("通道", dark)


def test_a_table_is_sorted(tabs, url, traffic):
    tab = tabs(url)
    tab.click("#models [data-column=model] button")
    names = tab.texts("#models tbody th")
    assert names == sorted(names) and len(names) >= 3
    tab.press("Enter")
    assert tab.texts("#models tbody th") == names[::-1]
    assert tab.run("document.querySelector('#models [data-column=model]').ariaSort") == "descending"


def test_window_and_filters_ask_the_gateway(tabs, url, traffic):
    tab = tabs(url)
    tab.click("#channels tbody tr:nth-child(2) button")
    tab.until(f"{REQUESTS} === '3'")
    assert rows(tab, "models", "requests") == {"gemini-2.5-flash": ("3",)}
    tab.click("#clear")
    tab.until(f"{REQUESTS} === '{traffic.sent}'")
    tab.choose("#by-key", "demo-gemini")
    tab.until(f"{REQUESTS} === '3'")
    for window in ["24h", "7d", "30d"]:
        tab.click(f"#window input[value='{window}']")
        tab.until(f"page.stats.window.name === '{window}' && {REQUESTS} === '3'")
    assert tab.run("location.hash") == "#window=30d&key=demo-gemini"


def test_a_phone_scrolls_tables_and_not_the_page(tabs, url, traffic):
    for language in ["en-GB", "zh-CN"]:
        tab = tabs(url, width=390, language=language)
        assert tab.run("document.documentElement.scrollWidth") == 390


def test_it_looks_as_it_should(tabs, url, traffic, screenshots):
    """Nothing is compared: the pictures are for people."""
    for width in [1280, 390]:
        for language in ["en-GB", "zh-CN"]:
            for theme in ["light", "dark"]:
                tab = tabs(url, width=width, language=language, theme=theme)
                tab.screenshot(screenshots / f"gateway-{width}-{language[:2]}-{theme}.png")
