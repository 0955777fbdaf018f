-- Times are Unix seconds (UTC), durations microseconds. docs/statistics.md has the columns' meaning and examples.

-- One combination of what exchanges are counted by. Empty: not known. `other`: beyond the bounds.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    proxy_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    transport TEXT NOT NULL,
    status_class TEXT NOT NULL,
    outcome TEXT NOT NULL
);

-- All there ever was, by series.
CREATE TABLE total (
    series INTEGER PRIMARY KEY,
    @figures
);

-- The same for each minute of a day, each hour of a month, each day of two years.
CREATE TABLE minute (
    start INTEGER NOT NULL,
    series INTEGER NOT NULL,
    @figures,
    PRIMARY KEY (start, series)
) WITHOUT ROWID;
CREATE TABLE hour (
    start INTEGER NOT NULL,
    series INTEGER NOT NULL,
    @figures,
    PRIMARY KEY (start, series)
) WITHOUT ROWID;
CREATE TABLE day (
    start INTEGER NOT NULL,
    series INTEGER NOT NULL,
    @figures,
    PRIMARY KEY (start, series)
) WITHOUT ROWID;

-- The most WebSockets that were open at a time within a step of `minute`, `hour` or `day`.
CREATE TABLE websockets (
    resolution TEXT NOT NULL,
    start INTEGER NOT NULL,
    open_max INTEGER NOT NULL,
    PRIMARY KEY (resolution, start)
) WITHOUT ROWID;

-- Single numbers since the first start.
CREATE TABLE counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;

-- Reloads, failures and what else people should see; the last thousand.
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    time INTEGER NOT NULL,
    level TEXT NOT NULL,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    message TEXT NOT NULL,
    count INTEGER NOT NULL
);

-- The request log, where gateway.json switches it on (`statistics.request_log_days`).
CREATE TABLE request (
    time_ms INTEGER NOT NULL,
    request_id TEXT NOT NULL,
    proxy_key TEXT NOT NULL,
    channel TEXT NOT NULL,
    model TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    transport TEXT NOT NULL,
    status INTEGER,
    outcome TEXT NOT NULL,
    error_code TEXT,
    attempts INTEGER NOT NULL,
    duration_us INTEGER NOT NULL,
    first_byte_us INTEGER,
    bytes_in INTEGER NOT NULL,
    bytes_out INTEGER NOT NULL,
    usage TEXT,
    amounts TEXT
);
CREATE INDEX request_by_time ON request (time_ms);

-- Days with names in place of numbers.
CREATE VIEW usage_by_day AS
SELECT
    date(day.start, 'unixepoch') AS day,
    series.proxy_key,
    series.channel,
    series.model,
    sum(day.requests) AS requests,
    sum(day.measured) AS measured,
    sum(day.partial) AS partial,
    sum(day.missing) AS missing,
    sum(json_extract(day.measured_amounts, '$.input')) AS input_tokens,
    sum(json_extract(day.measured_amounts, '$.output')) AS output_tokens
FROM day JOIN series ON series.id = day.series
GROUP BY 1, 2, 3, 4;
