"use strict";
// What is neither figure, chart nor table: notes, events, facts on the gateway, the line on persistence, and the state.

/** Events shown; the gateway sends at most a hundred. */
const EVENTS_SHOWN = 100;

const eventKind = kind => (kind === "reload" ? text("event_reload") : word(kind));

/** What somebody should look at: `{mood, shown}`; those that are `bad` or `odd` change the state above. */
function notesOf(stats) {
  const { statistics, window } = stats;
  const notes = [];
  const add = (mood, shown) => notes.push({ mood, shown });
  for (const [id, { name, status }] of Object.entries(stats.channel_stats)) {
    if (status === "unavailable") add("bad", text("note_channel", { name: name || id }));
  }
  for (const { name, state, last_error: error } of stats.plugins) {
    if (error || state === "refused")
      add("bad", text("note_plugin", { name, state: word(state), error: error ?? DASH }));
  }
  for (const { name, pin } of stats.plugins) {
    if (pin) {
      const version = shortVersion(pin.version);
      add("odd", text("note_pin", { name, version, time: lately(pin.since), reason: pin.reason }));
    }
  }
  for (const [id, { name, trial }] of Object.entries(stats.channel_stats)) {
    if (!trial) continue;
    const failed = arm => exact(arm.plugin_failures + arm.refusals + arm.upstream_errors);
    const { old, new: tried, percent: share, version } = trial;
    add(
      "even",
      text("note_trial", {
        name: name || id,
        version: shortVersion(version),
        share: exact(share),
        tried: exact(tried.exchanges),
        failed: failed(tried),
        old: exact(old.exchanges),
        old_failed: failed(old),
      }),
    );
  }
  for (const { name, state, last_error: error } of stats.files) {
    if (error) add("bad", text("note_file", { name, state: word(state), error }));
  }
  if (statistics?.persistence === "failing") {
    add(
      "bad",
      text("note_persistence", {
        error: statistics.last_error ?? "",
        time: lately(statistics.last_write ?? statistics.since),
      }),
    );
  }
  if (statistics?.folded_requests > 0) {
    // Strangers may call models and paths that there are not; only a full dictionary is something to look after.
    const full = statistics.series >= statistics.series_max * 0.95;
    add(
      full ? "odd" : "even",
      text("note_folded", { count: exact(statistics.folded_requests), max: exact(statistics.series_max) }),
    );
  }
  const partial = usageRequests(window.totals, "partial");
  const missing = usageRequests(window.totals, "missing");
  if (partial + missing > 0) add("even", text("note_usage", { partial: exact(partial), missing: exact(missing) }));
  return notes;
}

function showNotes(stats) {
  const notes = notesOf(stats);
  keyed(
    at("notes"),
    notes,
    ({ shown }) => shown,
    () => element("li"),
    (node, { mood, shown }) => put(node, shown, "", mood),
  );
  const worst = ["bad", "odd"].find(mood => notes.some(note => note.mood === mood));
  showHealth(worst ?? "good", worst ? "attention" : "healthy");
}

function showHealth(mood, name) {
  put(at("health"), text(name), "", `pill dot ${mood}`);
}

function showEvents(events) {
  put(at("events-count"), events.length > 0 ? exact(events.length) : "");
  const make = () =>
    element(
      "li",
      "",
      element("time"),
      element("span", "pill"),
      element("span", "subject"),
      element("span", "message"),
      element("span", "times"),
    );
  const levels = { info: "even", warn: "odd", error: "bad" };
  const shown = events.slice(0, EVENTS_SHOWN);
  // Without its time: the same event again is counted, and has the time of the last.
  const key = event => [event.level, event.kind, event.subject, event.message].join("\u0001");
  keyed(
    at("events"),
    shown.length > 0 ? shown : [null],
    event => (event ? key(event) : "none"),
    event => (event ? make() : element("li", "nothing")),
    (node, event) => {
      if (!event) return put(node, text("no_events"));
      const [time, level, subject, message, times] = node.children;
      put(time, lately(event.time), fullMoment(event.time));
      time.dateTime = new Date(event.time * 1000).toISOString();
      put(level, eventKind(event.kind), word(event.level), `pill ${levels[event.level] ?? "even"}`);
      put(subject, event.subject ?? "");
      put(message, event.message ?? "");
      put(times, event.count > 1 ? `×${compact(event.count)}` : "", event.count > 1 ? exact(event.count) : "");
    },
  );
}

function showFacts(stats) {
  const { protocol_stats: protocols, websockets, process, statistics } = stats;
  const closes = Object.entries(websockets.closes ?? {}).sort((a, b) => b[1] - a[1]);
  const facts = [
    [
      "total",
      text("fact_total", { time: moment(statistics?.since ?? stats.timestamp - stats.uptime_seconds) }),
      compact(stats.total_requests),
      exact(stats.total_requests),
    ],
    [
      "success",
      text("fact_success"),
      stats.total_requests > 0 ? percent(stats.success_rate) : DASH,
      exact(stats.successful_requests),
    ],
    ["average", text("fact_average"), stats.total_requests > 0 ? duration(stats.avg_response_time) : DASH],
    ["last", text("fact_last"), lately(stats.last_request_time), fullMoment(stats.last_request_time)],
    [
      "sockets",
      text("fact_sockets"),
      `${compact(protocols.websocket_connections)} / ${compact(protocols.websocket_requests)}`,
    ],
    [
      "messages",
      text("fact_messages"),
      `${compact(websockets.messages_in)} / ${compact(websockets.messages_out)}`,
      `${bytes(websockets.bytes_in)} / ${bytes(websockets.bytes_out)}`,
    ],
    [
      "closes",
      text("fact_closes"),
      closes
        .slice(0, 4)
        .map(([code, times]) => `${code} ×${compact(times)}`)
        .join(", ") || DASH,
      closes.map(([code, times]) => `${code}: ${exact(times)}`).join("\n"),
    ],
    ["keys", text("fact_keys"), exact(stats.api_keys_count)],
    ["generation", text("fact_generation"), exact(stats.generation)],
    ["connections", text("fact_connections"), exact(stats.connections)],
    ["memory", text("fact_memory"), bytes(process?.memory_bytes), exact(process?.memory_bytes)],
    ["cpu", text("fact_cpu"), duration(process?.cpu_seconds)],
    ["files", text("fact_open_files"), exact(process?.open_files)],
    ["threads", text("fact_threads"), exact(process?.threads)],
    [
      "series",
      text("fact_series"),
      statistics ? `${exact(statistics.series)} / ${exact(statistics.series_max)}` : DASH,
    ],
  ];
  keyed(
    at("gateway"),
    facts,
    ([id]) => id,
    () => element("div", "", element("dt"), element("dd")),
    (node, [id, label, value, title]) => {
      node.dataset.fact = id;
      put(node.firstElementChild, label);
      put(node.lastElementChild, value, title ?? "");
    },
  );
}

function showFooter({ statistics }) {
  const name = { ok: "persistence_ok", failing: "persistence_failing", off: "persistence_off" }[
    statistics?.persistence
  ];
  put(
    at("footer"),
    name
      ? text(name, {
          since: moment(statistics.since),
          written: clock(statistics.last_write),
          loss: exact(statistics.loss_seconds_max),
        })
      : "",
  );
}

/** How to send the first request, before there was any. */
function showWelcome(stats) {
  at("welcome").hidden = stats.total_requests > 0 || stats.window.totals.requests > 0;
  const body = '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}';
  put(
    at("welcome").querySelector("code"),
    `curl ${location.origin}/v1/chat/completions \\\n  -H 'Authorization: Bearer PROXY_KEY' \\\n  -H 'Content-Type: application/json' \\\n  -d '${body}'`,
  );
}

function showPanels(stats) {
  showNotes(stats);
  showEvents(stats.events ?? []);
  showFacts(stats);
  showFooter(stats);
  showWelcome(stats);
  put(at("about"), text("about", { version: stats.version, uptime: uptime(stats.uptime_seconds) }));
}
