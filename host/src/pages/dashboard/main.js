"use strict";
// The page's life: it asks for the figures, shows them, and asks again.
//
// One question at a time: a new choice takes the place of the one under way. Nothing is asked while the tab is hidden.
// When a question fails, the old figures stay, greyed, with a banner that says why.

const ANSWER_SECONDS_MAX = 15;

const page = {
  stats: null,
  /** When `stats` came, in Unix seconds by this browser's clock. */
  shownAt: 0,
  askedAt: 0,
  failure: null,
  interval: Number(recall("refresh", INTERVALS_S, "10")),
  timer: 0,
  question: null,
  charts: new Charts(),
  tables: new Tables(),
  /** What can be filtered by, as far as it was seen: under a filter the gateway may tell of the chosen one only. */
  seen: { channel: new Map(), key: new Map() },
};

/** The gateway answered, but not with figures. */
class Refusal extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.status = status;
  }
}

const isUnauthorized = failure => failure instanceof Refusal && failure.status === 401;

/** It answered with figures that this page cannot show: those of another version, most likely. */
class Surprise extends Error {}

async function ask(choice, signal) {
  const reply = await fetch(statsAddress(choice), { cache: "no-store", credentials: "same-origin", signal });
  if (!reply.ok) throw new Refusal(reply.status);
  const body = await reply.text();
  try {
    return JSON.parse(body);
  } catch (error) {
    throw new Surprise(error.message);
  }
}

async function refresh() {
  clearTimeout(page.timer);
  page.question?.abort();
  const question = new AbortController();
  page.question = question;
  page.askedAt = Date.now();
  const late = setTimeout(() => question.abort(new Error("late")), ANSWER_SECONDS_MAX * 1000);
  document.body.classList.add("asking");
  let stats = null;
  try {
    const choice = chosen();
    stats = await ask(choice, question.signal);
    if (page.stats === null && (choice.key !== null || choice.channel !== null)) {
      see(await ask({ window: choice.window, key: null, channel: null }, question.signal));
    }
  } catch (error) {
    // Another question has taken its place.
    if (page.question !== question) return;
    page.failure = error;
  } finally {
    clearTimeout(late);
  }
  if (page.question !== question) return;
  page.question = null;
  document.body.classList.remove("asking");
  if (stats) {
    page.stats = stats;
    page.shownAt = Date.now() / 1000;
    page.failure = null;
  }
  show();
  schedule();
}

function schedule() {
  clearTimeout(page.timer);
  // Without the admin token, asking again helps only after a reload.
  if (page.interval === 0 || document.hidden || isUnauthorized(page.failure)) return;
  page.timer = setTimeout(refresh, Math.max(0, page.askedAt + page.interval * 1000 - Date.now()));
}

/** Writes everything that depends on the figures, the choice or the language. */
function show() {
  document.body.classList.toggle("ready", page.stats !== null);
  if (page.stats) {
    try {
      see(page.stats);
      showFigures(page.stats);
      page.charts.update(page.stats);
      page.tables.update(page.stats);
      showPanels(page.stats);
    } catch (error) {
      page.failure ??= new Surprise(error.message);
      console.warn(error);
    }
  }
  showControls();
  showFailure();
}

function see({ window, channel_stats: channels }) {
  for (const [id, { name }] of Object.entries(channels ?? {})) page.seen.channel.set(id, name ?? id);
  for (const { id, name } of window.channels) if (id !== "other") page.seen.channel.set(id, name ?? id);
  for (const { id, description } of window.keys) if (id !== "other") page.seen.key.set(id, description);
}

function showControls() {
  const choice = chosen();
  for (const input of at("window").querySelectorAll("input")) input.checked = input.value === choice.window;
  const option = ([value, label]) => Object.assign(element("option"), { value, textContent: label });
  const fill = (select, entries, value) => {
    keyed(
      select,
      entries,
      ([id]) => `=${id}`,
      option,
      (node, [, label]) => put(node, label),
    );
    if (select.value !== value) select.value = value;
  };
  for (const [name, select] of [
    ["channel", at("by-channel")],
    ["key", at("by-key")],
  ]) {
    const seen = new Map(page.seen[name]);
    if (choice[name] !== null && !seen.has(choice[name])) seen.set(choice[name], choice[name]);
    const entries = [...seen.keys()]
      .sort()
      .map(id => [id, name === "channel" && seen.get(id) !== id ? `${seen.get(id)} (${id})` : id]);
    fill(select, [["", text("all")], ...entries], choice[name] ?? "");
    select.classList.toggle("set", choice[name] !== null);
  }
  at("clear").hidden = choice.key === null && choice.channel === null;
  fill(
    at("interval"),
    INTERVALS_S.map(seconds => [String(seconds), seconds === 0 ? text("off") : span(seconds)]),
    String(page.interval),
  );
  const since = page.shownAt ? text("updated", { time: clock(page.shownAt) }) : text(page.failure ? "none" : "loading");
  put(at("updated"), page.interval === 0 ? `${since} · ${text("paused")}` : since);
}

function showFailure() {
  const { failure } = page;
  const banner = at("banner");
  banner.hidden = failure === null;
  document.body.classList.toggle("stale", failure !== null);
  if (failure === null) return;
  const unauthorized = isUnauthorized(failure);
  const [what, when, again] = banner.children;
  put(
    what,
    unauthorized
      ? text("fails_401")
      : failure instanceof Refusal
        ? text(failure.status === 403 ? "fails_403" : "fails_status", { status: failure.status })
        : failure instanceof Surprise
          ? text("fails_page", { error: failure.message })
          : text("fails_network"),
  );
  put(when, page.shownAt ? text("old_figures", { time: clock(page.shownAt) }) : "");
  put(again, text(unauthorized ? "reload" : "try_again"));
  again.onclick = () => (unauthorized ? location.reload() : refresh());
  showHealth("bad", "outdated");
}

function listen() {
  const radios = (fieldset, change) => at(fieldset).addEventListener("change", event => change(event.target.value));
  radios("window", window => choose({ window }));
  radios("theme", theme => {
    remember("theme", theme);
    applyTheme(theme);
    page.charts.recolor();
  });
  radios("language", chosenLanguage => {
    remember("language", chosenLanguage);
    speak(chosenLanguage);
    show();
  });
  at("by-channel").addEventListener("change", event => choose({ channel: event.target.value || null }));
  at("by-key").addEventListener("change", event => choose({ key: event.target.value || null }));
  at("clear").addEventListener("click", () => choose({ key: null, channel: null }));
  at("refresh").addEventListener("click", refresh);
  at("interval").addEventListener("change", event => {
    page.interval = Number(event.target.value);
    remember("refresh", page.interval);
    showControls();
    schedule();
  });
  addEventListener("hashchange", () => {
    showControls();
    refresh();
  });
  document.addEventListener("visibilitychange", schedule);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => page.charts.recolor());
}

function start() {
  const theme = recall("theme", THEMES, "system");
  at("theme").querySelector(`[value=${theme}]`).checked = true;
  applyTheme(theme);
  speak(recall("language", LANGUAGES, preferredLanguage()));
  at("language").querySelector(`[value=${language}]`).checked = true;
  listen();
  showHealth("even", "loading");
  show();
  refresh();
}

start();
