"use strict";
// The tables of the page: which columns each has, which rows, and what a click on a row filters by.

class Tables {
  constructor() {
    const largest = ["requests", "descending"];
    const table = (id, options) => new Table(at(id), { title: id, sort: largest, ...options });
    const filter = (name, value) => ({
      filter: row => (value(row) === "other" ? null : { [name]: chosen()[name] === value(row) ? null : value(row) }),
      chosen: row => chosen()[name] === value(row),
    });
    this.channels = table("channels", {
      key: row => row.id,
      ...filter("channel", row => row.id),
      columns: [
        heading("channel", "column_channel", row => row.id, {
          label: row => (row.id === "other" ? text("other") : row.name || row.id),
        }),
        state(row => row.status, "status", "column_status"),
        count("in_flight", "column_in_flight", row => row.signals?.in_flight),
        measure(
          "error_rate",
          "column_error_rate",
          row => row.signals?.error_rate,
          value => percent(known(value) ? value * 100 : null),
          null,
          { title: "title_error_rate" },
        ),
        ...FIGURES,
        GATEWAY,
      ],
    });
    this.keys = table("keys", {
      key: row => row.id,
      ...filter("key", row => row.id),
      columns: [
        heading("key", "column_key", row => row.id, { label: row => namedOther(row.id) }),
        {
          id: "description",
          head: "column_description",
          value: row => row.description,
          show: (cell, row) => {
            const inactive = row.active === false ? ` (${text("inactive")})` : "";
            put(
              cell,
              `${row.description || DASH}${inactive}`,
              row.description ?? "",
              row.description ? "clip" : "clip zero",
            );
          },
        },
        ...FIGURES,
        ...BYTES,
      ],
    });
    this.models = table("models", {
      key: row => row.model,
      columns: [
        heading("model", "column_model", row => row.model, { label: row => namedOther(row.model) || DASH, mono: true }),
        ...FIGURES,
        OTHER_AMOUNTS,
      ],
    });
    this.endpoints = table("endpoints", {
      key: row => row.endpoint,
      columns: [
        heading("endpoint", "column_endpoint", row => row.endpoint, {
          label: row => namedOther(row.endpoint),
          mono: true,
        }),
        REQUESTS,
        SUCCESS,
        ...LATENCIES,
        GATEWAY,
        ...BYTES,
        count("attempts", "column_attempts", row => row.attempts),
      ],
    });
    const small = [REQUESTS, SHARE, LATENCIES[0], LATENCIES[1]];
    this.outcomes = table("outcomes", {
      key: row => row.outcome,
      columns: [{ ...state(row => row.outcome, "outcome", "column_outcome") }, ...small],
    });
    this.classes = table("classes", {
      key: row => row.status_class,
      columns: [
        {
          id: "class",
          head: "column_class",
          value: row => row.status_class,
          show: (cell, row) =>
            putPill(cell, row.status_class === "none" ? text("no_status") : row.status_class, MOODS[row.status_class]),
        },
        ...small,
      ],
    });
    this.transports = table("transports", {
      key: row => row.transport,
      columns: [
        heading("transport", "column_transport", row => row.transport, { label: row => word(row.transport) }),
        ...small,
      ],
    });
    this.usage = table("usage", {
      key: row => row.name,
      sort: ["measured", "descending"],
      empty: "no_values",
      columns: [
        heading("amount", "column_amount", row => row.name, { label: row => word(row.name) }),
        count("measured", "column_measured", row => row.measured),
        count("partial", "column_partial", row => row.partial),
      ],
    });
    this.plugins = table("plugins", {
      key: row => row.name,
      sort: ["plugin", "ascending"],
      columns: [
        heading("plugin", "column_plugin", row => row.name),
        state(row => row.state),
        version(row => row.version),
        {
          id: "source",
          head: "column_source",
          value: row => row.source,
          show: (cell, row) => put(cell, word(row.source ?? DASH)),
        },
        {
          id: "loaded",
          head: "column_loaded",
          numeric: true,
          value: row => row.loaded_at,
          show: (cell, row) => put(cell, lately(row.loaded_at), fullMoment(row.loaded_at)),
        },
        {
          id: "channels",
          head: "column_channels",
          value: row => (row.channels ?? []).join(", "),
          show: (cell, row) =>
            put(cell, (row.channels ?? []).join(", ") || DASH, (row.channels ?? []).join("\n"), "clip"),
        },
        count("calls", "column_calls", row => row.calls),
        seconds("call_p99", "column_p99", row => row.call_seconds?.p99, { title: "title_call_p99" }),
        {
          id: "failures",
          head: "column_failures",
          numeric: true,
          value: row => sum(failedCalls(row).map(([, calls]) => calls)),
          show: (cell, row) => {
            const failed = failedCalls(row);
            put(
              cell,
              failed.map(([outcome, calls]) => `${outcome} ${compact(calls)}`).join(", ") || "0",
              failed.map(([outcome, calls]) => `${outcome}: ${exact(calls)}`).join("\n"),
              failed.length > 0 ? "number bad" : "number zero",
            );
          },
        },
        remark(
          "error",
          "column_error",
          row => row.last_error || row.last_failure,
          row => (row.last_error ? "bad" : "odd"),
        ),
      ],
    });
    this.versions = table("versions", {
      key: row => `${row.plugin} ${shortVersion(row.version)}`,
      sort: ["accepted", "descending"],
      columns: [
        heading("plugin", "column_plugin", row => row.plugin),
        version(row => row.version),
        state(row => row.state),
        {
          id: "accepted",
          head: "column_accepted",
          numeric: true,
          value: row => row.accepted_at,
          show: (cell, row) => put(cell, lately(row.accepted_at), fullMoment(row.accepted_at)),
        },
        {
          id: "interface",
          head: "column_interface",
          value: row => row.interface,
          show: (cell, row) => put(cell, row.interface, "", "mono"),
        },
        measure("bytes", "column_size", row => row.bytes, bytes, exact),
        {
          id: "source",
          head: "column_source",
          value: row => row.source,
          show: (cell, row) => put(cell, word(row.source)),
        },
      ],
    });
    this.files = table("files", {
      key: row => row.name,
      sort: ["file", "ascending"],
      columns: [
        heading("file", "column_file", row => row.name, { mono: true }),
        state(row => row.state),
        version(row => row.version),
        remark(
          "remarks",
          "column_remarks",
          row => row.last_error || (row.warnings ?? []).join("\n"),
          row => (row.last_error ? "bad" : "odd"),
        ),
      ],
    });
  }

  update(stats) {
    const { window } = stats;
    this.channels.update(window.channels);
    this.keys.update(window.keys);
    this.models.update(window.models);
    this.endpoints.update(window.endpoints);
    const whole = window.totals.requests;
    this.outcomes.update(withShares(window.outcomes, whole));
    this.classes.update(withShares(window.status_classes, whole));
    this.transports.update(withShares(window.transports, whole));
    const { measured, partial } = window.totals.usage;
    const names = new Set([...Object.keys(measured?.amounts ?? {}), ...Object.keys(partial?.amounts ?? {})]);
    this.usage.update(
      [...names].map(name => ({
        name,
        measured: measured?.amounts?.[name] ?? 0,
        partial: partial?.amounts?.[name] ?? 0,
      })),
    );
    put(
      this.usage.aside,
      whole === 0
        ? ""
        : text("coverage_title", {
            measured: compact(usageRequests(window.totals, "measured")),
            partial: compact(usageRequests(window.totals, "partial")),
            missing: compact(usageRequests(window.totals, "missing")),
          }),
    );
    this.plugins.update(stats.plugins);
    this.versions.update(stats.plugins.flatMap(versionsOf));
    this.files.update(stats.files);
  }
}
