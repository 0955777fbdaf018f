"""What the page makes of figures that a real gateway does not easily have, and how it behaves while they change."""

import json

import pytest

import sample

ROWS = "document.querySelectorAll('#models tbody tr')"


def test_names_from_strangers_are_shown_as_text(tabs, gateway):
    tab = tabs(gateway(sample.large).url)
    tab.click("#models .more")
    shown = tab.texts("#models tbody th")
    assert len(shown) == 41
    for name in sample.HOSTILE:
        assert (name or "–") in shown
    # Not one element more than the page makes by itself.
    assert (
        tab.run("document.querySelectorAll('img, iframe, object, main svg, main script, [onerror], [onload]').length")
        == 0
    )
    assert tab.run("document.scripts.length") == 1
    assert "x-<img src=x onerror=alert(1)>" in tab.texts("#usage tbody th")


def test_what_needs_attention_is_said_above_the_figures(tabs, gateway):
    tab = tabs(gateway(sample.large).url)
    assert tab.text("#health") == "Needs attention"
    notes = "\n".join(tab.texts("#notes li"))
    for part in [
        "is unavailable",
        "Plugin broken is refused",
        "No space left on device",
        "under “other”: 12,345",
        "not at all: 4,399,111",
        "Plugin bailian is pinned to version bbbbbbbbbb",
    ]:
        assert part in notes, part
    assert tab.run("document.querySelector('#plugins tbody').textContent.includes('trap 12, deadline 3')")


def test_the_versions_of_plugins_are_listed_with_what_became_of_them(tabs, gateway):
    tab = tabs(gateway(sample.large).url)
    rows = "[...document.querySelectorAll('#versions tbody tr')].map(row => [...row.children].map(cell => cell.textContent))"
    states = {row[1]: row[2] for row in tab.run(rows) if row[0] == "bailian"}
    assert states == {"cccccccccc": "on trial", "bbbbbbbbbb": "pinned", "aaaaaaaaaa": "kept"}


def test_amounts_that_are_known_in_part_stand_apart(tabs, gateway):
    tab = tabs(gateway(sample.small).url)
    assert tab.text("[data-figure=tokens_in] .figure-note") == "118 partial · 43 missing"
    row = "[...document.querySelectorAll('#usage tbody tr')].find(row => row.textContent.startsWith('output'))"
    assert tab.run(f"[...{row}.children].map(cell => cell.title)")[1:] == ["3,137,333", "4,366"]
    coverage = "[...document.querySelectorAll('#channels tbody tr .coverage')].map(bar => bar.title)"
    assert "measured 8,870, partial 118, missing 12" in tab.run(coverage)


def test_a_gateway_without_traffic_says_how_to_send_the_first_request(tabs, gateway):
    tab = tabs(gateway(sample.empty).url)
    assert tab.run("!document.querySelector('#welcome').hidden")
    assert tab.text("#welcome code").startswith(f"curl {tab.run('location.origin')}/v1/")
    assert tab.text("[data-figure=success_rate] .figure-value") == "–"
    assert tab.text("#chart-requests .none") == "No requests in this window"
    assert tab.run("document.querySelectorAll('.none:not([hidden])').length") == 4


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (401, "The admin token is needed"),
        (403, "This address may not read the statistics"),
        (503, "The gateway answered with status 503."),
        (None, "The gateway does not answer."),
        ("<html>", "This page cannot show what the gateway sent"),
        ("{}", "This page cannot show what the gateway sent"),
    ],
)
def test_a_failed_refresh_keeps_the_old_figures_and_says_why(tabs, gateway, answer, said):
    mock = gateway(sample.small)
    tab = tabs(mock.url)
    tab.expected = ["Failed to load resource", "TypeError"]
    requests = tab.text("[data-figure=requests] .figure-value")
    mock.answer = lambda query: answer
    tab.click("#refresh")
    tab.until("!document.querySelector('#banner').hidden")
    assert said in tab.text("#banner")
    assert "The figures below are from" in tab.text("#banner")
    assert tab.run("document.body.classList.contains('stale')")
    assert tab.text("#health") == "Not up to date"
    assert tab.text("[data-figure=requests] .figure-value") == requests
    # And it recovers.
    mock.answer = lambda query: sample.small(**query)
    tab.click("#banner button")
    tab.until("document.querySelector('#banner').hidden && document.querySelectorAll('.figure').length > 0")
    assert tab.run("!document.body.classList.contains('stale')")


def test_a_refresh_changes_figures_in_place(tabs, gateway):
    mock = gateway(sample.large)
    tab = tabs(mock.url)
    tab.click("#models [data-column=success] button")
    tab.run(
        f"""window.kept = [...{ROWS}, ...document.querySelectorAll('.figure, .chart canvas, .legend li, #events li')]"""
    )
    tab.run("document.querySelector('#models .scroll').scrollLeft = 60; scrollTo(0, 900)")
    tab.run("document.querySelector('#models thead [data-column=p99] button').focus({ preventScroll: true })")
    before = tab.run("[scrollY, document.querySelector('#models .scroll').scrollLeft]")
    changed = sample.large()
    changed["window"]["totals"]["requests"] = 777
    mock.answer = lambda query: changed
    tab.run("document.querySelector('#refresh').click()")
    tab.until("document.querySelector('[data-figure=requests] .figure-value').textContent === '777'")
    assert tab.run("window.kept.every(node => node.isConnected)")
    assert tab.run("[scrollY, document.querySelector('#models .scroll').scrollLeft]") == before
    assert tab.run("document.activeElement.closest('th').dataset.column") == "p99"
    assert tab.run("document.querySelector('#models [data-column=success]').ariaSort") == "descending"


def test_it_refreshes_by_itself_until_it_is_switched_off(tabs, gateway):
    mock = gateway(sample.small)
    tab = tabs(mock.url)
    assert tab.run("document.querySelector('#interval').value") == "10"
    tab.choose("#interval", "5")
    asked = len(mock.queries)
    tab.run("new Promise(done => setTimeout(done, 6000))")
    assert len(mock.queries) == asked + 1
    # Nothing is asked for a tab that nobody sees.
    tab.run(
        "Object.defineProperty(document, 'hidden', { value: true, configurable: true });"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )
    asked = len(mock.queries)
    tab.run("new Promise(done => setTimeout(done, 6000))")
    assert len(mock.queries) == asked
    tab.run("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
    tab.run("new Promise(done => setTimeout(done, 1000))")
    assert len(mock.queries) == asked + 1
    tab.choose("#interval", "0")
    tab.reload()
    tab.until("document.querySelectorAll('.figure').length > 0")
    assert tab.run("document.querySelector('#interval').value") == "0"
    assert "refresh is off" in tab.text("#updated")


def test_heads_sort_by_mouse_and_keyboard(tabs, gateway):
    tab = tabs(gateway(sample.small).url)

    def names():
        return tab.texts("#models tbody th")

    assert names() == ["qwen-plus", "gemini-2.5-flash", "qwen3-max", "text-embedding-v4"]
    assert tab.run("document.querySelector('#models [aria-sort]').dataset.column") == "requests"
    tab.click("#models [data-column=p50] button")
    assert names()[0] == "qwen3-max"
    tab.press("Enter")
    assert names()[0] == "text-embedding-v4"
    assert tab.run("document.querySelector('#models [aria-sort]').ariaSort") == "ascending"
    tab.press("Tab")
    tab.press(" ")
    assert tab.run("document.querySelector('#models [aria-sort]').dataset.column") == "p99"
    # What is not known comes last, both ways.
    for _ in range(2):
        tab.click("#channels [data-column=p99] button")
        assert tab.texts("#channels tbody th")[-1] == "OpenAI"


def test_window_and_filters_are_asked_for_and_stand_in_the_address(tabs, gateway):
    mock = gateway(sample.small)
    tab = tabs(mock.url)
    assert mock.queries[-1] == {"window": "1h"}

    def until_asked(query, fragment):
        asked = json.dumps([query["window"], query.get("key"), query.get("channel")])
        tab.until(
            "(({ name, key, channel }) => JSON.stringify([name, key, channel]))(page.stats.window)"
            f" === JSON.stringify({asked})"
        )
        assert (tab.run("location.hash"), mock.queries[-1]) == (fragment, query)

    tab.click("#window input[value='24h']")
    until_asked({"window": "24h"}, "#window=24h")
    tab.click("#channels tbody tr:nth-child(2) button")
    until_asked({"window": "24h", "channel": "gemini"}, "#window=24h&channel=gemini")
    assert tab.run("document.querySelector('#channels .picked th').textContent") == "Google Gemini"
    tab.choose("#by-key", "team-b")
    until_asked({"window": "24h", "channel": "gemini", "key": "team-b"}, "#window=24h&channel=gemini&key=team-b")
    tab.run("history.back()")
    until_asked({"window": "24h", "channel": "gemini"}, "#window=24h&channel=gemini")
    assert tab.run("document.querySelector('#by-key').value") == ""
    tab.click("#clear")
    until_asked({"window": "24h"}, "#window=24h")
    # A link shows the same, and can be chosen from although the answer tells only of what was chosen.
    link = tabs(mock.url, "#channel=gemini")
    link.until("document.querySelector('#by-channel').value === 'gemini'")
    assert "bailian" in link.run("[...document.querySelector('#by-channel').options].map(option => option.value)")


def test_a_chart_shows_the_values_at_the_pointer(tabs, gateway):
    tab = tabs(gateway(sample.small).url)
    value = "document.querySelector('#chart-requests .legend .value').textContent"
    whole = tab.run(value)
    x, y = tab.run(
        "(({ x, y }) => [x + 100, y + 50])(document.querySelector('#chart-requests .u-over').getBoundingClientRect())"
    )
    tab.hover(x, y)
    tab.until(
        f"document.querySelector('#chart-requests .chart-time').textContent !== '' && {value} !== {json.dumps(whole)}"
    )
    # The others point at the same time.
    assert len(set(tab.texts(".chart-time"))) == 1
    tab.hover(5, 5)
    tab.until(f"{value} === {json.dumps(whole)}")
    tab.run("document.querySelector('#chart-requests .canvas').focus()")
    tab.press("ArrowRight")
    assert tab.text("#chart-requests .chart-time") == tab.run("lately(page.stats.window.series.time[0])")
    tab.click("#chart-requests .legend button")
    assert tab.run("document.querySelector('#chart-requests .legend button').ariaPressed") == "false"


def test_every_text_is_there_in_both_languages(tabs, gateway):
    tab = tabs(gateway(sample.small).url)
    incomplete = (
        "Object.entries(TEXTS).filter(([, both]) => both.length !== 2 || both.some(one => !one)).map(([name]) => name)"
    )
    assert tab.run(incomplete) == []
    named = "[...document.querySelectorAll('[data-t], [data-t-title], [data-t-label]')]"
    names = f"{named}.flatMap(({{ dataset }}) => [dataset.t, dataset.tTitle, dataset.tLabel])"
    assert tab.run(f"{names}.filter(name => name && !TEXTS[name])") == []
    # Nothing that is written by name has no text: it would be shown as the name.
    assert tab.run("document.body.innerText.match(/\\b(column|title|note|fact|chart|persistence)_\\w+/g)") is None


@pytest.mark.parametrize("language", ["en-GB", "zh-CN"])
@pytest.mark.parametrize("answer", [sample.empty, sample.small, sample.large])
def test_a_phone_scrolls_tables_and_not_the_page(tabs, gateway, answer, language):
    tab = tabs(gateway(answer).url, width=390, language=language)
    assert tab.run("document.documentElement.scrollWidth") == 390
    assert tab.run("document.documentElement.lang") == language
    inside = "[...document.querySelectorAll('main *')].filter(node => !node.closest('.scroll, pre, .canvas, .unseen'))"
    assert tab.run(f"{inside}.filter(node => node.getBoundingClientRect().right > 390).length") == 0


def test_it_looks_as_it_should(tabs, gateway, screenshots):
    """Nothing is compared: the pictures are for people."""
    for name, answer, width, language, theme in [
        ("small", sample.small, 1280, "en-GB", "light"),
        ("small", sample.small, 1280, "zh-CN", "dark"),
        ("small", sample.small, 390, "zh-CN", "light"),
        ("small", sample.small, 390, "en-GB", "dark"),
        ("large", sample.large, 1280, "en-GB", "dark"),
        ("large", sample.large, 390, "zh-CN", "light"),
        ("empty", sample.empty, 1280, "zh-CN", "light"),
    ]:
        tab = tabs(gateway(answer).url, width=width, language=language, theme=theme)
        tab.screenshot(screenshots / f"{name}-{width}-{language[:2]}-{theme}.png")
