"""Answers of `GET /stats` for the mock gateway: an empty one, a small one, and one that is hard to show."""

import math
import random

NOW = 1795555560
WINDOWS = {"1h": (3600, 60), "24h": (86400, 900), "7d": (604800, 3600 * 2), "30d": (2592000, 21600)}
OUTCOMES = ["complete", "failed", "client_gone", "upstream_broken", "gateway_closed"]

#: Names that would do harm if they were taken for markup, and names that are hard to lay out.
HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "</script><script>alert(2)</script>",
    '"><svg onload=alert(3)>',
    "javascript:alert(4)",
    "{window}{name}",
    "__proto__",
    "constructor",
    "",
    "a-model-with-a-name-that-goes-on-and-on-" + "x" * 200,
    "通义千问-超长模型名称-" + "千" * 40,
    "\u202eright-to-left",
    "line\nbreak",
]


def spread(value):
    return {"avg": value * 1.3, "p50": value, "p90": value * 2.4, "p99": value * 6}


def figures(requests=0, failed=0, latency=0.4, tokens=0, partial=0, missing=0, **amounts):
    usage = {
        "measured": {"requests": requests - partial - missing, "amounts": {}},
        "partial": {"requests": partial, "amounts": {"output": partial * 37} if partial else {}},
        "missing": {"requests": missing},
    }
    if tokens:
        usage["measured"]["amounts"] = {"input": tokens, "output": tokens // 3, **amounts}
    some = requests > 0
    return {
        "requests": requests,
        "succeeded": requests - failed,
        "failed": failed,
        "success_rate": (requests - failed) / requests * 100 if some else None,
        "bytes_in": requests * 2100,
        "bytes_out": requests * 18400,
        "attempts": requests + failed // 2,
        "latency_seconds": spread(latency) if some else None,
        "first_byte_seconds": spread(latency / 3) if some else None,
        "gateway_seconds": spread(0.000061) if some else None,
        "plugin_seconds_avg": 0.0000021 if some else None,
        "usage": usage,
    }


def series(name, models, scale, start=0):
    """`start`: the first step with traffic, as for a gateway that has just been started."""
    length, step = WINDOWS[name]
    count = length // step
    seed = random.Random(7)
    wave = [
        max(0, scale * (1.2 + math.sin(at / count * 9) + seed.random() * 0.7)) if at >= start and scale else 0
        for at in range(count)
    ]
    quiet = {at for at in range(count) if wave[at] == 0 or (scale and count // 2 < at < count // 2 + 4)}

    def line(value):
        return [None if at in quiet else round(value * (0.7 + seed.random() * 0.6), 6) for at in range(count)]

    def counts(share):
        return [0 if at in quiet else int(wave[at] * share) for at in range(count)]

    shares = zip(OUTCOMES, [1, 0.08, 0.05, 0.03, 0.01])
    return {
        "time": [NOW - length + at * step for at in range(count)],
        "requests": {outcome: counts(share) for outcome, share in shares} if scale else {},
        "latency_seconds": {"p50": line(0.42), "p90": line(1.1), "p99": line(3.2)},
        "first_byte_seconds": {"p50": line(0.12), "p90": line(0.31), "p99": line(0.9)},
        "tokens": {model: counts(700 / (at + 1)) for at, model in enumerate(models)},
        "websockets_open": [0 if at in quiet else int(3 + 3 * math.sin(at / 5)) for at in range(count)],
    }


def answer(
    window="1h",
    key=None,
    channel=None,
    *,
    keys=(),
    channels=(),
    models=(),
    scale=0,
    start=0,
    totals=None,
    previous=None,
    **more,
):
    """`keys`, `channels` and `models`: rows that stand in their tables as they are."""
    length, step = WINDOWS[window]
    totals = totals or figures()
    whole = totals["requests"]
    parts = [(name, int(whole * share)) for name, share in zip(OUTCOMES, [0.83, 0.08, 0.05, 0.03, 0.01])]
    named = [row["model"] for row in models][:8] + (["other"] if len(models) > 8 else [])
    stats = {
        "service": "aiproxy-host",
        "version": "0.1.0",
        "uptime_seconds": 93784,
        "total_requests": whole,
        "successful_requests": totals["succeeded"],
        "failed_requests": totals["failed"],
        "success_rate": totals["success_rate"] or 0.0,
        "protocol_stats": {
            "http_requests": whole,
            "websocket_requests": 12,
            "websocket_connections": 11,
            "websocket_connection_rate": 91.67,
        },
        "channel_stats": {
            row["id"]: {"name": row["name"], "requests": row["requests"], "status": row["status"]}
            for row in channels
            if row["id"] != "other"
        },
        "avg_response_time": 0.52,
        "last_request_time": NOW - 3 if whole else None,
        "api_keys_count": len(keys),
        "timestamp": NOW,
        "websockets": {
            "open": 3 if whole else 0,
            "messages_in": 18230,
            "messages_out": 40112,
            "bytes_in": 18230000,
            "bytes_out": 90400000,
            "avg_duration": 12.5,
            "closes": {"1000": 220, "1001": 14, "1006": 3},
        },
        "generation": 4,
        "in_flight": 7 if whole else 0,
        "connections": 19 if whole else 1,
        "plugins": [plugin("bailian", ["bailian"]), plugin("gemini", ["gemini"])],
        "files": [
            {"name": "api_keys.json", "version": "c4" * 32, "state": "active", "last_error": None, "warnings": []},
            {
                "name": "channels_config.json",
                "version": "9f" * 32,
                "state": "active",
                "last_error": None,
                "warnings": [],
            },
            {"name": "gateway.json", "version": None, "state": "absent", "last_error": None, "warnings": []},
        ],
        "window": {
            "name": window,
            "from": NOW - length,
            "to": NOW,
            "step_seconds": step,
            "key": key,
            "channel": channel,
            "totals": totals,
            "previous": previous or figures(),
            "keys": list(keys),
            "channels": list(channels),
            "models": list(models),
            "endpoints": [
                {
                    "endpoint": "POST /v1/chat/completions",
                    **figures(int(whole * 0.9), int(whole * 0.02), 0.42, 9 * whole),
                },
                {"endpoint": "POST /v1/embeddings", **figures(int(whole * 0.1), 0, 0.04, whole)},
            ]
            if whole
            else [],
            "transports": [{"transport": "http", **totals}] if whole else [],
            "status_classes": [
                {"status_class": name, **figures(int(whole * share), 0, 0.3)}
                for name, share in [("2xx", 0.94), ("4xx", 0.04), ("5xx", 0.01), ("none", 0.01)]
            ]
            if whole
            else [],
            "outcomes": [{"outcome": name, **figures(part, 0, 0.4)} for name, part in parts if part],
            "series": series(window, named, scale, start),
        },
        "statistics": {
            "since": NOW - 5_000_000,
            "persistence": "ok",
            "last_error": None,
            "last_write": NOW - 1,
            "loss_seconds_max": 3,
            "series": 42,
            "series_max": 2000,
            "folded_requests": 0,
        },
        "process": {"memory_bytes": 33_000_000, "cpu_seconds": 812.5, "open_files": 33, "threads": 6},
        "events": [
            {
                "time": NOW - 93784,
                "level": "info",
                "kind": "start",
                "subject": "aiproxy-host",
                "message": "version 0.1.0, 2 workers",
                "count": 1,
            }
        ],
    }
    return stats | more


def plugin(name, channels, **more):
    return {
        "name": name,
        "version": "5e0c" * 16,
        "source": "embedded",
        "state": "active",
        "last_error": None,
        "channels": channels,
        "loaded_at": NOW - 90000,
        "calls": 48210,
        "calls_by_outcome": {"ok": 48210},
        "call_seconds": {"avg": 2.1e-6, "p50": 1.9e-6, "p90": 3.2e-6, "p99": 9.4e-6},
        "last_failure": None,
        "interface": "0.1.0",
        "trial": None,
        "pin": None,
        "versions": [
            {
                "version": "5e0c" * 16,
                "accepted_at": NOW - 90000,
                "interface": "0.1.0",
                "bytes": 139_264,
                "source": "embedded",
                "serves": True,
                "on_trial": False,
            }
        ],
        **more,
    }


def version(letter, **more):
    """A version in a plugin's history, named by one letter."""
    return {
        "version": letter * 64,
        "accepted_at": NOW - ord(letter) * 100,
        "interface": "0.1.0",
        "bytes": 18_874_368,
        "source": "file",
        "serves": False,
        "on_trial": False,
        **more,
    }


def channel(id, name, status="active", signals=True, **row):
    health = {"in_flight": 3, "latency_seconds": 0.41, "error_rate": 0.004} if signals else None
    return {"id": id, "name": name, "status": status, "signals": health, **figures(**row)}


def key(id, description=None, active=True, **row):
    return {"id": id, "description": description, "active": active, **figures(**row)}


def model(name, **row):
    return {"model": name, **figures(**row)}


def empty(**choice):
    """Just started: everything is there, and nothing has happened."""
    return answer(
        **choice,
        keys=[key("team-a", "Team A"), key("team-b")],
        channels=[channel("bailian", "阿里云百炼"), channel("gemini", "Google Gemini")],
    )


def small(requests=12480, **choice):
    """A gateway on an ordinary day."""
    return answer(
        **choice,
        scale=90,
        totals=figures(
            requests,
            requests // 60,
            0.42,
            9_412_000,
            118,
            43,
            **{"cached-input": 1_208_000, "reasoning": 88_000, "characters": 4100},
        ),
        previous=figures(11020, 260, 0.47, 8_100_000),
        keys=[
            key("team-a", "Search and recommendations", requests=8100, failed=31, tokens=6_000_000, partial=100),
            key(
                "team-b",
                "Customer service",
                requests=4100,
                failed=160,
                latency=0.9,
                tokens=3_400_000,
                missing=43,
                partial=18,
            ),
            key("batch", "Nightly batch", active=False),
        ],
        channels=[
            channel(
                "bailian",
                "阿里云百炼",
                requests=9000,
                failed=40,
                tokens=7_000_000,
                partial=118,
                missing=12,
                characters=4100,
            ),
            channel("gemini", "Google Gemini", requests=3480, failed=168, latency=0.8, tokens=2_400_000, missing=31),
            channel("openai", "OpenAI", "disabled"),
        ],
        models=[
            model("qwen-plus", requests=7300, failed=31, tokens=5_200_000, **{"cached-input": 1_208_000}),
            model(
                "gemini-2.5-flash",
                requests=3480,
                failed=168,
                latency=0.8,
                tokens=2_400_000,
                missing=31,
                reasoning=88_000,
            ),
            model("qwen3-max", requests=1400, failed=9, latency=2.7, tokens=1_700_000, partial=118),
            model("text-embedding-v4", requests=300, latency=0.03, tokens=112_000),
        ],
    )


def large(**choice):
    """Much of everything, long and hostile names, and everything broken that can be."""
    names = HOSTILE + [f"vendor/model-{number}" for number in range(28)] + ["other"]
    long_text = "the file is no component: " + "unexpected end of a section; " * 20 + HOSTILE[0]
    stats = answer(
        **choice,
        scale=52_000,
        totals=figures(
            48_212_991,
            1_904_112,
            14.2,
            912_000_000_000,
            118_223,
            4_399_111,
            characters=88,
            seconds=1e6,
            images=12,
            **{"x-" + HOSTILE[0]: 7},
        ),
        previous=figures(310_000, 10, 1.1, 810_000),
        keys=[
            key(
                f"team-{number}-{HOSTILE[number % 12]}",
                HOSTILE[number % 12] or None,
                requests=10 ** (number % 8),
                tokens=10 ** (number % 11),
                missing=number % 3 and 1,
            )
            for number in range(30)
        ],
        channels=[
            channel(
                "bailian", HOSTILE[0], "unavailable", requests=40_000_000, failed=1_900_000, latency=33, tokens=8e11
            ),
            channel("other", "other", "active", signals=False, requests=20, tokens=7),
            *[
                channel(f"channel-{number}", HOSTILE[number], requests=number * 10, tokens=number * 100)
                for number in range(1, 12)
            ],
        ],
        models=[
            model(
                name,
                requests=48_000_000 // (at + 1),
                failed=at,
                latency=0.0004 * 4 ** (at % 9),
                tokens=9_000_000 // (at + 1),
                missing=at % 3,
                **{f"x-unit-{one}": one + 1 for one in range(at % 4)},
            )
            for at, name in enumerate(names)
        ],
        plugins=[
            plugin(
                "bailian",
                ["bailian", *[f"channel-{number}" for number in range(12)]],
                source="file",
                calls_by_outcome={"ok": 48000, "trap": 12, "deadline": 3},
                last_failure=long_text,
                trial="c" * 64,
                pin={"version": "b" * 64, "since": NOW - 3600, "reason": HOSTILE[0]},
                versions=[version("c", on_trial=True), version("b", serves=True), version("a")],
            ),
            plugin(
                "broken",
                [],
                state="refused",
                version=None,
                source="file",
                loaded_at=None,
                calls=0,
                calls_by_outcome={},
                call_seconds=None,
                last_error=long_text,
            ),
            plugin(
                HOSTILE[1],
                [],
                state="absent",
                version=None,
                call_seconds=None,
                calls=0,
                calls_by_outcome={},
                last_error=None,
            ),
        ],
        events=[
            {
                "time": NOW - number * 700,
                "level": ["info", "warn", "error"][number % 3],
                "kind": ["reload", "plugin", "exchange", "statistics", "start"][number % 5],
                "subject": HOSTILE[number % 12],
                "message": long_text if number % 7 == 1 else "applied",
                "count": number + 1,
            }
            for number in range(100)
        ],
    )
    stats["files"][0] |= {"state": "refused", "last_error": "line 3, column 7: " + HOSTILE[0]}
    stats["files"][1]["warnings"] = ["the channel “old” is not used by any proxy key", HOSTILE[2]]
    stats["statistics"] |= {
        "persistence": "failing",
        "last_error": "No space left on device (os error 28).",
        "folded_requests": 12_345,
    }
    return stats
