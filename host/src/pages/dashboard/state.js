"use strict";
// What the reader has chosen: window, key and channel in the address, so that a link shows the same; language, theme
// and refresh interval in this browser's storage.

const WINDOWS = ["1h", "24h", "7d", "30d"];
const INTERVALS_S = [0, 5, 10, 15, 30, 60];
const THEMES = ["system", "light", "dark"];
const STORAGE_PREFIX = "aiproxy-host.dashboard.";

/** The stored choice, if it is one of `allowed`; storage may be forbidden, and is then as if it were empty. */
function recall(name, allowed, otherwise) {
  try {
    const stored = localStorage.getItem(STORAGE_PREFIX + name);
    return allowed.map(String).includes(stored) ? stored : otherwise;
  } catch {
    return otherwise;
  }
}

function remember(name, value) {
  try {
    localStorage.setItem(STORAGE_PREFIX + name, value);
  } catch {
    // It holds until the page is closed.
  }
}

function preferredLanguage() {
  const wanted = navigator.languages ?? [navigator.language];
  const first = wanted.map(tag => tag.toLowerCase().split("-")[0]).find(tag => LANGUAGES.includes(tag));
  return first ?? "en";
}

/** The window and the filters that the address asks for. */
function chosen() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  const name = parameters.get("window");
  return {
    window: WINDOWS.includes(name) ? name : "1h",
    key: parameters.get("key") || null,
    channel: parameters.get("channel") || null,
  };
}

/** Changes some of it; the browser's `hashchange` event does the rest, as it does for the back button. */
function choose(change) {
  const next = { ...chosen(), ...change };
  const parameters = new URLSearchParams();
  if (next.window !== "1h") parameters.set("window", next.window);
  if (next.channel !== null) parameters.set("channel", next.channel);
  if (next.key !== null) parameters.set("key", next.key);
  location.hash = parameters.toString();
}

function statsAddress({ window, key, channel }) {
  const parameters = new URLSearchParams({ window });
  if (key !== null) parameters.set("key", key);
  if (channel !== null) parameters.set("channel", channel);
  return `/stats?${parameters}`;
}

function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}
