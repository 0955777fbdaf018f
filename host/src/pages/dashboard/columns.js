"use strict";
// The columns that tables are made of: what a cell shows and by what it sorts.
//
// A column is `id`; `head` and `title`, names of texts; `value(row)`, what it sorts by; `show(cell, row)`; `numeric`,
// whether it is aligned and first sorted as numbers are; `heading`, whether it names the row; `wide`, whether it wraps.

const MOODS = {
  active: "good",
  complete: "good",
  "2xx": "good",
  kept: "even",
  on_trial: "odd",
  pinned: "odd",
  disabled: "even",
  absent: "even",
  removed: "even",
  client_gone: "even",
  "1xx": "even",
  "3xx": "even",
  gateway_closed: "odd",
  "4xx": "odd",
  unavailable: "bad",
  refused: "bad",
  failed: "bad",
  upstream_broken: "bad",
  "5xx": "bad",
  none: "bad",
};

function putPill(cell, content, mood = "even", title = "") {
  put(
    part(cell, () => element("span", "pill")),
    content,
    title,
    `pill ${mood}`,
  );
}

/** A column of counts, durations and the like: `format` shows it, `title` shows all of it. */
function measure(id, head, value, format, title, more = {}) {
  const show = (cell, row) =>
    put(cell, format(value(row)), title ? title(value(row)) : "", `number${value(row) ? "" : " zero"}`);
  return { id, head, value, show, numeric: true, ...more };
}

const count = (id, head, value, more) => measure(id, head, value, compact, exact, more);
const seconds = (id, head, value, more) => measure(id, head, value, duration, null, more);

const namedOther = name => (name === "other" ? text("other") : name);

/** The column that names the row; a name that can be picked has a title that says what a click does. */
function heading(id, head, value, { label = value, mono = false } = {}) {
  const show = (cell, row) => {
    put(cell, label(row), cell.classList.contains("pick") ? cell.title : value(row));
    cell.classList.toggle("mono", mono);
  };
  return { id, head, value, show, heading: true };
}

const TOKENS = ["input", "output"];

/** Amounts that have no column of their own, the largest first. */
function otherAmounts(row) {
  return Object.entries(row.usage?.measured?.amounts ?? {})
    .filter(([name]) => !TOKENS.includes(name))
    .sort((a, b) => b[1] - a[1]);
}

/** A bar of how many requests' usage is measured, partial and missing. */
function showCoverage(cell, row) {
  const kinds = ["measured", "partial", "missing"];
  const counts = kinds.map(kind => usageRequests(row, kind));
  const whole = sum(counts);
  const bar = part(cell, () =>
    element(
      "span",
      "coverage",
      element("span", "track", ...kinds.map(kind => element("i", kind))),
      element("span", "share"),
    ),
  );
  const title =
    whole === 0
      ? ""
      : text("coverage_title", Object.fromEntries(kinds.map((kind, index) => [kind, exact(counts[index])])));
  const [track, share] = bar.children;
  bar.title = title;
  track.hidden = whole === 0;
  kinds.forEach((_, index) => {
    track.children[index].style.flexGrow = counts[index];
    track.children[index].hidden = counts[index] === 0;
  });
  put(share, whole === 0 ? DASH : percent((counts[0] / whole) * 100), title, whole === 0 ? "share zero" : "share");
}

const coverage = {
  id: "coverage",
  head: "column_coverage",
  numeric: true,
  show: showCoverage,
  value: row => {
    const whole = sum(["measured", "partial", "missing"].map(kind => usageRequests(row, kind)));
    return whole === 0 ? null : usageRequests(row, "measured") / whole;
  },
};

const REQUESTS = count("requests", "column_requests", row => row.requests);
const SUCCESS = {
  id: "success",
  head: "column_success",
  numeric: true,
  value: row => row.success_rate,
  show: (cell, row) =>
    put(
      cell,
      percent(row.success_rate),
      row.failed > 0 ? text("failed_of", { failed: exact(row.failed) }) : "",
      `number ${!known(row.success_rate) ? "zero" : row.success_rate < 95 ? "bad" : row.success_rate < 99 ? "odd" : ""}`.trim(),
    ),
};
const LATENCIES = [
  seconds("p50", "column_p50", row => row.latency_seconds?.p50, { title: "title_p50" }),
  seconds("p99", "column_p99", row => row.latency_seconds?.p99, { title: "title_p99" }),
  seconds("first", "column_first", row => row.first_byte_seconds?.p50, { title: "title_first" }),
];
const GATEWAY = seconds("gateway", "column_gateway", row => row.gateway_seconds?.p50, { title: "title_gateway" });
const TOKEN_COLUMNS = [
  count("tokens_in", "column_in", row => amount(row, "measured", "input"), { title: "title_measured_tokens" }),
  count("tokens_out", "column_out", row => amount(row, "measured", "output"), { title: "title_measured_tokens" }),
];
const OTHER_AMOUNTS = {
  id: "other",
  head: "column_other",
  title: "title_measured_tokens",
  value: row => otherAmounts(row)[0]?.[1] ?? null,
  show: (cell, row) => {
    const all = otherAmounts(row).map(([name, value]) => [word(name), value]);
    put(
      cell,
      all
        .slice(0, 2)
        .map(([name, value]) => `${compact(value)} ${name}`)
        .join(" · ") + (all.length > 2 ? " …" : "") || DASH,
      all.map(([name, value]) => `${exact(value)} ${name}`).join("\n"),
      all.length > 0 ? "" : "zero",
    );
  },
};
const FIGURES = [REQUESTS, SUCCESS, ...LATENCIES, ...TOKEN_COLUMNS, coverage];
const BYTES = [
  measure("bytes_in", "column_bytes_in", row => row.bytes_in, bytes, exact),
  measure("bytes_out", "column_bytes_out", row => row.bytes_out, bytes, exact),
];

const state = (value, id = "state", head = "column_state") => ({
  id,
  head,
  value,
  show: (cell, row) => putPill(cell, word(value(row) ?? DASH), MOODS[value(row)]),
});

/** Text of any length: what an error said. */
function remark(id, head, value, moodOf = () => "bad") {
  return {
    id,
    head,
    value,
    wide: true,
    show: (cell, row) =>
      put(
        part(cell, () => element("div")),
        value(row) || DASH,
        "",
        `remark ${value(row) ? moodOf(row) : "zero"}`,
      ),
  };
}

function version(value) {
  return {
    id: "version",
    head: "column_version",
    value,
    show: (cell, row) => put(cell, shortVersion(value(row)), value(row) ?? "", "mono"),
  };
}

/** A plugin's accepted versions, each with what has become of it. */
const versionsOf = ({ name: plugin, pin, versions = [] }) =>
  versions.map(one => ({
    ...one,
    plugin,
    state: one.on_trial ? "on_trial" : one.serves ? (pin ? "pinned" : "active") : "kept",
  }));

const failedCalls = row => Object.entries(row.calls_by_outcome ?? {}).filter(([outcome]) => outcome !== "ok");

/** The share of all requests in the window, as a bar behind the number. */
const SHARE = {
  id: "share",
  head: "column_share",
  numeric: true,
  value: row => row.share,
  show: (cell, row) => {
    const bar = part(cell, () =>
      element(
        "span",
        "coverage",
        element("span", "track", element("i", "measured"), element("i", "rest")),
        element("span", "share"),
      ),
    );
    bar.firstElementChild.children[0].style.flexGrow = row.share;
    bar.firstElementChild.children[1].style.flexGrow = 100 - row.share;
    put(bar.lastElementChild, percent(row.share));
  },
};

const withShares = (rows, whole) =>
  rows.map(row => ({ ...row, share: whole > 0 ? Math.min(100, (row.requests / whole) * 100) : 0 }));
