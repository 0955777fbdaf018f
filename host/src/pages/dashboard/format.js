"use strict";
// Numbers, durations, sizes and times as text, in the language shown. What is not known is a dash.

const DASH = "–";

/** Makes an Intl formatter once for each locale. */
function formatter(make) {
  const made = new Map();
  return () => {
    const locale = LOCALES[language];
    if (!made.has(locale)) made.set(locale, make(locale));
    return made.get(locale);
  };
}

const wholeNumber = formatter(locale => new Intl.NumberFormat(locale, { maximumFractionDigits: 3 }));
// In British English a million is a small m, which reads as a thousandth.
const shortNumber = formatter(
  locale =>
    new Intl.NumberFormat(locale.replace("en-GB", "en-US"), { notation: "compact", maximumSignificantDigits: 3 }),
);
const clockTime = formatter(
  locale =>
    new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" }),
);
const minuteTime = formatter(
  locale => new Intl.DateTimeFormat(locale, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }),
);
const dayTime = formatter(locale => new Intl.DateTimeFormat(locale, { month: "short", day: "numeric" }));
const fullTime = formatter(
  locale =>
    new Intl.DateTimeFormat(locale, {
      year: "numeric",
      month: "short",
      day: "numeric",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
    }),
);
const momentTime = formatter(
  locale =>
    new Intl.DateTimeFormat(locale, {
      month: "short",
      day: "numeric",
      hour: "2-digit",
      minute: "2-digit",
      hourCycle: "h23",
    }),
);

const known = value => value !== null && value !== undefined && Number.isFinite(value);

/** Every digit. */
function exact(value) {
  return known(value) ? wholeNumber().format(value) : DASH;
}

/** Every digit below ten thousand, three significant digits above; `exact` is its title. */
function compact(value) {
  if (!known(value)) return DASH;
  if (Math.abs(value) < 10_000) {
    const digits = Math.abs(value) < 10 ? 2 : Math.abs(value) < 100 ? 1 : 0;
    return wholeNumber().format(Number(value.toFixed(digits)));
  }
  return shortNumber().format(value);
}

/** Of 0 to 100. Only what is all or nothing is shown as 100 % or 0 %: rounding must not hide the one that failed. */
function percent(value) {
  if (!known(value)) return DASH;
  if (value === 0 || value === 100) return `${value}%`;
  const digits = value > 99 || value < 1 ? 2 : 1;
  const least = 10 ** -digits;
  return `${Math.min(100 - least, Math.max(least, value)).toFixed(digits)}%`;
}

/** Seconds as µs, ms, s, min or h: three significant digits. */
function duration(seconds) {
  if (!known(seconds)) return DASH;
  const [value, unit] =
    seconds === 0
      ? [0, "ms"]
      : seconds < 0.9995e-3
        ? [seconds * 1e6, "µs"]
        : seconds < 0.9995
          ? [seconds * 1e3, "ms"]
          : seconds < 120
            ? [seconds, "s"]
            : seconds < 7200
              ? [seconds / 60, "min"]
              : [seconds / 3600, "h"];
  return `${significant(value)} ${unit}`;
}

function significant(value) {
  return String(Number(value >= 100 ? value.toFixed(0) : value.toPrecision(3)));
}

function bytes(count) {
  if (!known(count)) return DASH;
  const units = ["B", "kB", "MB", "GB", "TB", "PB"];
  let step = 0;
  while (count >= 999.5 && step < units.length - 1) {
    count /= 1000;
    step += 1;
  }
  return `${step === 0 ? count : significant(count)} ${units[step]}`;
}

/** How long something has run: the two largest units. */
function uptime(seconds) {
  const units = [
    ["days", 86400],
    ["hours", 3600],
    ["minutes", 60],
    ["seconds", 1],
  ];
  const at = Math.max(
    0,
    units.findIndex(([, size]) => seconds >= size),
  );
  const parts = [];
  let rest = Math.floor(seconds);
  for (const [unit, size] of units.slice(seconds < 1 ? -1 : at).slice(0, 2)) {
    const count = Math.floor(rest / size);
    rest -= count * size;
    if (count > 0 || parts.length === 0) parts.push(`${count} ${text(`unit_${unit}`)}`);
  }
  return parts.join(" ");
}

/** A step of a chart. */
function span(seconds) {
  const [size, unit] =
    seconds % 86400 === 0
      ? [86400, "days"]
      : seconds % 3600 === 0
        ? [3600, "hours"]
        : seconds % 60 === 0
          ? [60, "minutes"]
          : [1, "seconds"];
  return `${seconds / size} ${text(`unit_${unit}`)}`;
}

const date = seconds => new Date(seconds * 1000);
const clock = seconds => (seconds ? clockTime().format(date(seconds)) : DASH);
const moment = seconds => (seconds ? momentTime().format(date(seconds)) : DASH);
const fullMoment = seconds => (seconds ? fullTime().format(date(seconds)) : DASH);
const minute = seconds => minuteTime().format(date(seconds));
const day = seconds => dayTime().format(date(seconds));
/** The time alone for today, with the date before that. */
function lately(seconds) {
  if (!seconds) return DASH;
  return date(seconds).toDateString() === new Date().toDateString() ? clock(seconds) : moment(seconds);
}

/** The first characters of a version, which is a hash. */
const shortVersion = version => (version ? version.slice(0, 10) : DASH);
