"use strict";
// The headline figures: each with its trend against the window before.

/** How a change is judged: more is good, less is good, or neither. */
const BETTER = { more: 1, less: -1, neither: 0 };

/** Below this share a change is noise and shown as none. */
const CHANGE_LEAST = 0.005;

const amount = (figures, kind, name) => figures.usage?.[kind]?.amounts?.[name] ?? 0;
const usageRequests = (figures, kind) => figures.usage?.[kind]?.requests ?? 0;

/** `{shown, mood, title}` of a change, or null where there is nothing to compare with. */
function trend(now, before, better, window, format) {
  if (!known(now) || !known(before)) return null;
  const title = text("trend_title", { value: format(before), window });
  if (before === 0) return now === 0 ? null : { shown: text("trend_new"), mood: "even", title };
  const change = now / before - 1;
  if (Math.abs(change) < CHANGE_LEAST) return { shown: "≈", mood: "even", title };
  const size =
    Math.abs(change) >= 9.995
      ? `×${compact(now / before)}`
      : `${(Math.abs(change) * 100).toFixed(Math.abs(change) < 0.1 ? 1 : 0)}%`;
  return { shown: `${change > 0 ? "▲" : "▼"} ${size}`, mood: mood(change * better), title };
}

/** The same for what is in per cent already: a difference in points. */
function trendOfRate(now, before, window) {
  if (!known(now) || !known(before)) return null;
  const change = now - before;
  const title = text("trend_title", { value: percent(before), window });
  if (Math.abs(change) < 0.005) return { shown: "≈", mood: "even", title };
  const value = Math.abs(change).toFixed(2);
  return { shown: `${change > 0 ? "▲" : "▼"} ${text("trend_points", { value })}`, mood: mood(change), title };
}

const mood = change => (change > 0 ? "good" : change < 0 ? "bad" : "even");

function makeFigure() {
  return element(
    "div",
    "figure",
    element("span", "figure-label"),
    element("span", "figure-value"),
    element("span", "trend"),
    element("span", "figure-note"),
  );
}

function showFigure(node, { id, label, value, title, note, noteTitle, change, live }) {
  node.dataset.figure = id;
  const [labelNode, valueNode, trendNode, noteNode] = node.children;
  put(labelNode, label);
  put(valueNode, value, title ?? "");
  put(
    trendNode,
    live ? text("now") : (change?.shown ?? ""),
    change?.title ?? "",
    `trend ${live ? "live" : (change?.mood ?? "even")}`,
  );
  put(noteNode, note ?? "", noteTitle ?? "");
}

function showFigures(stats) {
  const { totals, previous, name, from, to } = stats.window;
  const window = text(`window_${name}`);
  const unmeasured = ["partial", "missing"]
    .filter(kind => usageRequests(totals, kind) > 0)
    .map(kind => text(`${kind}_of`, { count: compact(usageRequests(totals, kind)) }))
    .join(" · ");
  const changed = (pick, better, format = compact) => trend(pick(totals), pick(previous), better, window, format);
  const latency = (point, title) => ({
    id: `latency_${point}`,
    label: text(`latency_${point}`),
    value: duration(totals.latency_seconds?.[point]),
    note: text("first_byte_of", { value: duration(totals.first_byte_seconds?.[point]) }),
    change: changed(figures => figures.latency_seconds?.[point], BETTER.less, duration),
  });
  const tokens = (id, name) => ({
    id,
    label: text(id),
    value: compact(amount(totals, "measured", name)),
    title: `${exact(amount(totals, "measured", name))} · ${text("title_measured_tokens")}`,
    note: unmeasured || (totals.requests > 0 ? text("all_measured") : ""),
    noteTitle: text("title_measured_tokens"),
    change: changed(figures => amount(figures, "measured", name), BETTER.neither),
  });
  const rate = totals.requests / Math.max(1, to - from);
  const figures = [
    {
      id: "requests",
      label: text("requests"),
      value: compact(totals.requests),
      title: exact(totals.requests),
      note: text("rate_of", { rate: rate === 0 ? "0" : rate < 0.01 ? "<0.01" : compact(rate) }),
      change: changed(figures => figures.requests, BETTER.neither),
    },
    {
      id: "success_rate",
      label: text("success_rate"),
      value: percent(totals.success_rate),
      note: text("failed_of", { failed: compact(totals.failed) }),
      change: trendOfRate(totals.success_rate, previous.success_rate, window),
    },
    latency("p50"),
    latency("p99"),
    tokens("tokens_in", "input"),
    tokens("tokens_out", "output"),
    {
      id: "open_websockets",
      label: text("open_websockets"),
      value: compact(stats.websockets.open),
      title: exact(stats.websockets.open),
      note: text("messages_of", {
        in: compact(stats.websockets.messages_in),
        out: compact(stats.websockets.messages_out),
      }),
      live: true,
    },
    {
      id: "in_flight",
      label: text("in_flight"),
      value: compact(stats.in_flight),
      title: exact(stats.in_flight),
      note: text("connections_of", { count: compact(stats.connections) }),
      live: true,
    },
  ];
  keyed(at("figures"), figures, ({ id }) => id, makeFigure, showFigure);
}
