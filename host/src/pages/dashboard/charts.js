"use strict";
// Charts over time, drawn by uPlot: stacked bars, lines or steps, with a legend that shows the values at the pointer.
//
// A refresh gives a chart new data and keeps the rest: the pointer's place, and which series are hidden. It is made
// anew only when there are other series. Stacked, a bar is drawn from zero to the sum of its own and those below it,
// the highest first, so that each covers all but its own part of the one before.

const CHART_HEIGHT = 190;
const BAR_GAP = 0.8;
const COUNT_STEPS = [1, 2, 5]
  .flatMap(first => Array.from({ length: 13 }, (_, zeros) => first * 10 ** zeros))
  .sort((a, b) => a - b);
const pointers = uPlot.sync("time");

/** The resolved colour of a custom property, as a canvas needs it; forgotten when the theme changes. */
const palette = {
  resolved: new Map(),
  of(name) {
    if (!this.resolved.has(name)) {
      const probe = document.body.appendChild(element("i"));
      probe.style.color = `var(--${name})`;
      this.resolved.set(name, getComputedStyle(probe).color);
      probe.remove();
    }
    return this.resolved.get(name);
  },
  forget() {
    this.resolved.clear();
  },
};

class Chart {
  /**
   * `options`: `title`, the name of its text; `kind`, "bars", "lines" or "steps"; `format`, a value as text; `whole`,
   * whether values are counts; `note(step)`, the small text beside the title; `empty`, the name of the text for none.
   */
  constructor(section, options) {
    this.options = options;
    this.hidden = new Set();
    this.title = element("h2");
    this.note = element("span", "count");
    this.tools = element("span", "chart-tools");
    this.time = element("span", "chart-time");
    this.legend = element("ul", "legend");
    this.canvas = element("div", "canvas");
    this.canvas.tabIndex = 0;
    this.canvas.setAttribute("role", "img");
    this.none = element("p", "none");
    this.box = element("div", "chart-box", this.canvas, this.none);
    section.append(element("div", "head", this.title, this.note, this.time, this.tools), this.box, this.legend);
    this.canvas.addEventListener("keydown", event => this.walk(event));
    this.canvas.addEventListener("blur", () => this.point(null));
    new ResizeObserver(() => this.resize()).observe(this.canvas);
  }

  /** `series`: of each `id`, `label`, `color` (the name of a custom property), `values`, and `overall`, of the window. */
  update(time, step, series) {
    Object.assign(this, { step, series, times: time });
    const shape = series.map(({ id, color }) => `${id}\u0000${color}`).join("\u0001");
    if (shape !== this.shape) {
      this.shape = shape;
      this.plot?.destroy();
      this.plot = null;
    }
    this.draw();
    this.relabel();
  }

  /** Writes all text anew. */
  relabel() {
    const title = text(this.options.title);
    put(this.title, title);
    if (!this.series) return;
    put(this.note, this.options.note?.(span(this.step)) ?? "");
    put(this.none, text(this.options.empty));
    this.none.hidden = this.series.some(({ values }) => values.some(value => known(value) && value > 0));
    const values = this.series.map(({ label, overall }) => `${label} ${this.options.format(overall)}`).join(", ");
    this.canvas.setAttribute("aria-label", text("chart_hint", { title, values }));
    this.legend.setAttribute("aria-label", text("legend"));
    this.showLegend();
  }

  /** After a change of the theme. */
  recolor() {
    this.plot?.redraw(false, true);
    if (this.series) this.showLegend();
  }

  /** The series that are drawn, the highest of a stack first, and their data as uPlot wants it. */
  data() {
    const rows = this.series.map(({ id, values }) => (this.hidden.has(id) ? values.map(() => null) : values));
    if (this.options.kind === "lines") return [this.times, ...rows];
    // The last step is drawn to its end.
    if (this.options.kind === "steps")
      return [this.times.concat(this.times.at(-1) + this.step), ...rows.map(values => [...values, values.at(-1)])];
    const sums = this.times.map(() => 0);
    const stacked = rows.map(values =>
      values.map((value, index) => {
        sums[index] += value ?? 0;
        return value ? sums[index] : null;
      }),
    );
    return [this.times, ...stacked.reverse()];
  }

  draw() {
    if (this.plot) {
      this.plot.setData(this.data());
    } else if (this.canvas.clientWidth > 0 && this.times.length > 0) {
      this.plot = new uPlot(this.plotOptions(), this.data(), this.canvas);
    }
  }

  plotOptions() {
    const order = this.options.kind === "bars" ? [...this.series].reverse() : this.series;
    const axis = {
      stroke: () => palette.of("faint"),
      font: `11px ${getComputedStyle(document.body).fontFamily}`,
      ticks: { show: false },
    };
    const grid = { stroke: () => palette.of("grid"), width: 1 };
    return {
      width: this.canvas.clientWidth,
      height: CHART_HEIGHT,
      padding: [8, 16, 0, 0],
      legend: { show: false },
      cursor: {
        y: false,
        drag: { x: false, y: false, setScale: false },
        sync: { key: pointers.key },
        dataIdx: (plot, series, nearest, time) => this.indexAt(time),
        points: { size: 7, show: this.options.kind === "bars" ? false : undefined },
      },
      scales: {
        x: { time: true, range: () => [this.times[0], this.times.at(-1) + this.step] },
        // Room above the highest value; where there is none, an axis as for small ones.
        y: {
          range: (_, least, most) => [0, this.options.whole ? Math.max(most * 1.08, 4) : most > 0 ? most * 1.08 : 1],
        },
      },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 24, values: (_, ticks) => this.timeLabels(ticks) },
        {
          ...axis,
          grid,
          size: 52,
          gap: 6,
          space: 34,
          ...(this.options.whole ? { incrs: COUNT_STEPS } : {}),
          values: (_, ticks) => ticks.map(this.options.axis),
        },
      ],
      series: [{}, ...order.map(one => this.seriesOptions(one))],
      hooks: { setCursor: [() => this.showLegend()] },
    };
  }

  seriesOptions({ color }) {
    const stroke = () => palette.of(color);
    const points = { show: () => false };
    if (this.options.kind === "bars") {
      return { stroke, fill: stroke, width: 0, points, paths: uPlot.paths.bars({ size: [BAR_GAP, 28], align: 1 }) };
    }
    // A value between two unknown ones has no line to be seen by.
    points.filter = (plot, index) => {
      const values = plot.data[index];
      return values.flatMap((value, at) =>
        known(value) && !known(values[at - 1]) && !known(values[at + 1]) ? [at] : [],
      );
    };
    Object.assign(points, { size: 5, stroke, fill: stroke });
    if (this.options.kind === "steps") {
      return { stroke, width: 1.75, points, fill: () => palette.of("area"), paths: uPlot.paths.stepped({ align: 1 }) };
    }
    return { stroke, width: 1.75, points };
  }

  /** Hours within a day, the date where a day begins and where ticks are days apart. */
  timeLabels(ticks) {
    const days = ticks.length > 1 && ticks[1] - ticks[0] >= 86400;
    return ticks.map(tick =>
      days || new Date(tick * 1000).getHours() + new Date(tick * 1000).getMinutes() === 0 ? day(tick) : minute(tick),
    );
  }

  /** The step that a time falls into; uPlot would take the nearest start of one. */
  indexAt(time) {
    return Math.min(this.times.length - 1, Math.max(0, Math.floor((time - this.times[0]) / this.step)));
  }

  /** The step under the pointer, here or on another chart, or null. */
  pointed() {
    const left = this.plot?.cursor.left ?? -1;
    return left >= 0 ? this.indexAt(this.plot.posToVal(left, "x")) : null;
  }

  showLegend() {
    const index = this.pointed();
    const pointed = index !== null;
    put(this.time, pointed ? (this.step >= 86400 ? day(this.times[index]) : lately(this.times[index])) : "");
    const make = one => {
      const swatch = element("i", "swatch");
      swatch.style.background = `var(--${one.color})`;
      const button = element("button", "", swatch, element("span", "label"), element("span", "value"));
      button.type = "button";
      button.addEventListener("click", () => this.toggle(one.id));
      return element("li", "", button);
    };
    keyed(
      this.legend,
      this.series,
      ({ id, color }) => `${id}\u0000${color}`,
      make,
      (item, { id, label, values, overall }) => {
        const [, name, shown] = item.firstElementChild.children;
        item.firstElementChild.setAttribute("aria-pressed", String(!this.hidden.has(id)));
        put(name, label, label);
        const value = pointed ? values[index] : overall;
        put(shown, this.options.format(value), this.options.whole ? exact(value) : "");
      },
    );
  }

  toggle(id) {
    if (!this.hidden.delete(id)) this.hidden.add(id);
    this.draw();
    this.showLegend();
  }

  resize() {
    const width = this.canvas.clientWidth;
    if (!this.series || width === 0) return;
    if (!this.plot) this.draw();
    else if (this.plot.width !== width) this.plot.setSize({ width, height: CHART_HEIGHT });
  }

  /** Moves the pointer by the keyboard. */
  walk(event) {
    if (!this.plot || !["ArrowLeft", "ArrowRight", "Escape"].includes(event.key)) return;
    event.preventDefault();
    if (event.key === "Escape") return this.point(null);
    const from = this.pointed() ?? (event.key === "ArrowLeft" ? this.times.length : -1);
    this.point(Math.min(this.times.length - 1, Math.max(0, from + (event.key === "ArrowLeft" ? -1 : 1))));
  }

  point(index) {
    if (!this.plot) return;
    const left = index === null ? -10 : this.plot.valToPos(this.times[index] + this.step / 2, "x");
    this.plot.setCursor({ left, top: index === null ? -10 : 10 });
  }
}

const OUTCOME_COLORS = {
  complete: "series-1",
  failed: "series-6",
  client_gone: "series-7",
  upstream_broken: "series-8",
  gateway_closed: "series-rest",
};

/** A model keeps the colour that it was first given for as long as the page is open. */
const modelColors = new Map();
function modelColor(model, shown) {
  if (model === "other") return "series-rest";
  if (!modelColors.has(model)) {
    const taken = new Set(shown.map(other => modelColors.get(other)));
    const free = [1, 2, 3, 4, 5, 6, 7, 8].map(number => `series-${number}`).filter(color => !taken.has(color));
    modelColors.set(model, free[0] ?? "series-rest");
  }
  return modelColors.get(model);
}

const sum = values => values.reduce((total, value) => total + (value ?? 0), 0);

class Charts {
  constructor() {
    const counts = {
      kind: "bars",
      whole: true,
      format: compact,
      axis: compact,
      note: step => text("per_step", { step }),
      empty: "no_requests",
    };
    this.requests = new Chart(at("chart-requests"), { ...counts, title: "chart_requests" });
    this.tokens = new Chart(at("chart-tokens"), { ...counts, title: "chart_tokens", empty: "no_values" });
    this.latency = new Chart(at("chart-latency"), {
      kind: "lines",
      title: "chart_latency",
      whole: false,
      format: duration,
      axis: duration,
      empty: "no_values",
    });
    this.websockets = new Chart(at("chart-websockets"), {
      ...counts,
      kind: "steps",
      title: "chart_websockets",
      note: step => text("most_per_step", { step }),
      empty: "no_values",
    });
    this.all = [this.requests, this.latency, this.tokens, this.websockets];
    this.measure = "latency";
    this.buttons = ["latency", "first_byte"].map(measure => {
      const button = element("button", "plain");
      button.type = "button";
      button.addEventListener("click", () => {
        this.measure = measure;
        this.update(this.shown);
      });
      this.latency.tools.append(button);
      return [measure, button];
    });
  }

  update(stats) {
    if (!stats) return;
    this.shown = stats;
    const { series, totals, step_seconds: step } = stats.window;
    const show = (chart, list) => chart.update(series.time, step, list);
    const outcomes = Object.keys(OUTCOME_COLORS).filter(outcome => series.requests[outcome]);
    show(
      this.requests,
      outcomes.map(id => {
        const values = series.requests[id];
        return { id, label: word(id), color: OUTCOME_COLORS[id], values, overall: sum(values) };
      }),
    );
    const models = Object.entries(series.tokens)
      .map(([id, values]) => ({ id, values, overall: sum(values) }))
      .sort((a, b) => (a.id === "other") - (b.id === "other") || (a.id < b.id ? -1 : 1));
    const names = models.map(({ id }) => id);
    show(
      this.tokens,
      models.map(one => ({ ...one, label: namedOther(one.id) || DASH, color: modelColor(one.id, names) })),
    );
    const measure = `${this.measure}_seconds`;
    show(
      this.latency,
      [
        ["p50", "series-1"],
        ["p90", "series-2"],
        ["p99", "series-8"],
      ].map(([id, color]) => ({
        id,
        label: id,
        color,
        values: series[measure]?.[id] ?? [],
        overall: totals[measure]?.[id] ?? null,
      })),
    );
    const open = series.websockets_open;
    show(this.websockets, [
      { id: "open", label: text("open"), color: "series-1", values: open, overall: Math.max(0, ...open) },
    ]);
    for (const [name, button] of this.buttons) {
      put(button, text(name === "latency" ? "latency_whole" : "latency_first"));
      button.setAttribute("aria-pressed", String(name === this.measure));
    }
  }

  recolor() {
    palette.forget();
    for (const chart of this.all) chart.recolor();
  }
}
