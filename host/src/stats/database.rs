//! The statistics on disk: one SQLite file, whose tables people may query (docs/statistics.md describes them).
//!
//! Everything here blocks, and may fail at any time: only the recorder's thread calls it.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OptionalExtension, Row, Transaction, named_params, params};

use super::events::{Event, Level as EventLevel};
use super::figures::{Figures, Names, Outcome, Used};
use super::histogram::Histogram;
use super::level::{Bucket, Change, RESOLUTIONS};
use super::series::{Series, SeriesId, StatusClass, Transport};
use super::store::{Changes, Store};
use super::tally::LoggedRequest;

/// `PRAGMA application_id`: "aiph".
const APPLICATION_ID: i32 = 0x6169_7068;
/// `PRAGMA user_version`; another one is another schema.
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// The columns that stand for `@figures` there.
const FIGURE_COLUMNS: &str = include_str!("figures.sql");
/// A person's query may hold the file for so long.
const BUSY_TIME: Duration = Duration::from_secs(2);
const EVENTS_KEPT: i64 = 1000;

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("{0}")]
    Sqlite(#[from] rusqlite::Error),
    #[error("it is not a statistics file of this gateway (schema {0}, this version writes {SCHEMA_VERSION})")]
    Foreign(i32),
}

impl DatabaseError {
    /// No later try on this file can succeed.
    pub fn is_final(&self) -> bool {
        use rusqlite::ErrorCode::{DatabaseCorrupt, NotADatabase, TypeMismatch};
        match self {
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => {
                matches!(error.code, DatabaseCorrupt | NotADatabase | TypeMismatch)
            }
            // What is in the file is not what was written: a value, a table or a column.
            Self::Sqlite(
                rusqlite::Error::FromSqlConversionFailure(..)
                | rusqlite::Error::InvalidColumnType(..)
                | rusqlite::Error::IntegralValueOutOfRange(..)
                | rusqlite::Error::SqlInputError { .. }
                | rusqlite::Error::Utf8Error(..),
            )
            | Self::Foreign(_) => true,
            Self::Sqlite(_) => false,
        }
    }
}

pub struct Database(Connection);

/// What is written at a time.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    pub changes: Changes,
    pub names: Names,
    pub counters: BTreeMap<String, u64>,
    pub requests: Vec<LoggedRequest>,
    pub events: Vec<Event>,
    /// Older ones of the request log go, Unix time in milliseconds; `None`: not yet.
    pub requests_before_ms: Option<u64>,
    /// The time to which the history is cut; `None`: not yet.
    pub now: Option<u64>,
}

impl Database {
    pub fn open(path: &Path) -> Result<Self, DatabaseError> {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY_TIME)?;
        let version: i32 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables > 0 && version != SCHEMA_VERSION {
            return Err(DatabaseError::Foreign(version));
        }
        // Each commit reaches the disk: there is one every few seconds.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 8388608;",
        )?;
        if tables == 0 {
            let schema = SCHEMA.replace("@figures", FIGURE_COLUMNS.trim());
            connection.execute_batch(&format!(
                "BEGIN; {schema} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;"
            ))?;
        }
        Ok(Self(connection))
    }

    /// The file may not grow beyond so many pages: to see what a full disk does.
    #[cfg(test)]
    pub fn limit_pages(&self, pages: i64) {
        self.0.pragma_update(None, "max_page_count", pages).unwrap();
    }

    /// Fills an empty store.
    pub fn load(&self, store: &mut Store) -> Result<Vec<Event>, DatabaseError> {
        let mut series = self.0.prepare("SELECT * FROM series")?;
        for row in series.query_map([], read_series)? {
            let (id, series) = row?;
            store.dictionary.insert(id, series);
        }
        for (resolution, level) in RESOLUTIONS.iter().zip(&mut store.levels) {
            let mut sockets: HashMap<u64, u64> = self
                .0
                .prepare("SELECT start, open_max FROM websockets WHERE resolution = ?1")?
                .query_map([resolution.name], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect::<Result<_, _>>()?;
            let mut rows = self.0.prepare(&format!("SELECT * FROM {} ORDER BY start", resolution.name))?;
            let mut rows = rows.query([])?;
            let mut current: Option<(u64, Bucket)> = None;
            while let Some(row) = rows.next()? {
                let start: u64 = row.get("start")?;
                if current.as_ref().is_some_and(|(known, _)| *known != start)
                    && let Some((known, bucket)) = current.take()
                {
                    level.restore(known, &bucket);
                }
                let (_, bucket) = current.get_or_insert_with(|| {
                    (start, Bucket { sockets_max: sockets.remove(&start).unwrap_or(0), ..Bucket::default() })
                });
                bucket.cells.insert(row.get("series")?, read_figures(row, &mut store.names)?);
            }
            if let Some((start, bucket)) = current {
                level.restore(start, &bucket);
            }
            for (start, sockets_max) in sockets {
                level.restore(start, &Bucket { sockets_max, ..Bucket::default() });
            }
        }
        let mut rows = self.0.prepare("SELECT * FROM total")?;
        let mut rows = rows.query([])?;
        while let Some(row) = rows.next()? {
            store.all.insert(row.get("series")?, read_figures(row, &mut store.names)?);
        }
        let mut counters = self.0.prepare("SELECT name, value FROM counter")?;
        store.base = counters.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
        let mut events = self.0.prepare("SELECT * FROM event ORDER BY id DESC LIMIT 100")?;
        let mut events = events.query_map([], read_event)?.collect::<Result<Vec<_>, _>>()?;
        events.reverse();
        Ok(events)
    }

    /// All or nothing.
    pub fn write(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        let transaction = self.0.transaction()?;
        write_series(&transaction, &batch.changes.series)?;
        for (resolution, changes) in RESOLUTIONS.iter().zip(&batch.changes.buckets) {
            for change in changes {
                write_bucket(&transaction, resolution.name, change, &batch.names)?;
            }
        }
        write_totals(&transaction, &batch.changes.all, &batch.names)?;
        {
            let mut counter = transaction.prepare_cached("INSERT OR REPLACE INTO counter VALUES (?1, ?2)")?;
            for (name, value) in &batch.counters {
                counter.execute(params![name, signed(*value)])?;
            }
        }
        batch.requests.iter().try_for_each(|request| write_request(&transaction, request))?;
        write_events(&transaction, &batch.events)?;
        if let Some(before_ms) = batch.requests_before_ms {
            transaction.execute("DELETE FROM request WHERE time_ms < ?1", [signed(before_ms)])?;
        }
        if let Some(now) = batch.now {
            cut(&transaction, now)?;
        }
        transaction.commit()?;
        Ok(())
    }

    /// How many exchanges the file knows of.
    #[cfg(test)]
    pub fn total(&self) -> u64 {
        self.0.query_row("SELECT coalesce(sum(requests), 0) FROM total", [], |row| row.get(0)).unwrap()
    }

    #[cfg(test)]
    pub fn requests(&self) -> u64 {
        self.0.query_row("SELECT count(*) FROM request", [], |row| row.get(0)).unwrap()
    }

    /// The first fault that SQLite finds in the file.
    #[cfg(test)]
    pub fn integrity(&self) -> String {
        self.0.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
    }
}

/// SQLite's integers are signed.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn write_series(transaction: &Transaction<'_>, series: &[(SeriesId, Series)]) -> rusqlite::Result<()> {
    let mut insert =
        transaction.prepare_cached("INSERT OR IGNORE INTO series VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
    for (id, series) in series {
        let Series { key, channel, model, endpoint, transport, status_class, outcome } = series;
        insert.execute(params![
            id,
            &**key,
            &**channel,
            &**model,
            &**endpoint,
            transport.as_str(),
            status_class.as_str(),
            outcome.as_str()
        ])?;
    }
    Ok(())
}

fn read_series(row: &Row<'_>) -> rusqlite::Result<(SeriesId, Series)> {
    let text = |name: &str| row.get::<_, String>(name);
    let series = Series {
        key: text("proxy_key")?.into(),
        channel: text("channel")?.into(),
        model: text("model")?.into(),
        endpoint: text("endpoint")?.into(),
        transport: Transport::parse(&text("transport")?),
        status_class: StatusClass::parse(&text("status_class")?),
        outcome: Outcome::parse(&text("outcome")?).unwrap_or(Outcome::Failed),
    };
    Ok((row.get("id")?, series))
}

fn write_bucket(transaction: &Transaction<'_>, table: &str, change: &Change, names: &Names) -> rusqlite::Result<()> {
    if change.is_whole {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE start = ?1"))?
            .execute([signed(change.start)])?;
    }
    let sql = format!("INSERT OR REPLACE INTO {table} VALUES ({FIGURES}, :start)");
    let mut insert = transaction.prepare_cached(&sql)?;
    for (id, figures) in &change.cells {
        write_figures(&mut insert, *id, figures, names, Some(change.start))?;
    }
    if change.sockets_max > 0 {
        transaction.prepare_cached("INSERT OR REPLACE INTO websockets VALUES (?1, ?2, ?3)")?.execute(params![
            table,
            signed(change.start),
            signed(change.sockets_max)
        ])?;
    }
    Ok(())
}

fn write_totals(transaction: &Transaction<'_>, totals: &[(SeriesId, Figures)], names: &Names) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(&format!("INSERT OR REPLACE INTO total VALUES ({FIGURES})"))?;
    totals.iter().try_for_each(|(id, figures)| write_figures(&mut insert, *id, figures, names, None))
}

/// The columns that all tables of figures have, in order.
const FIGURES: &str = ":series, :requests, :attempts, :bytes_in, :bytes_out, :plugin_us, \
    :duration_us, :duration_steps, :first_byte_us, :first_byte_steps, :gateway_us, :gateway_steps, \
    :measured, :partial, :missing, :measured_amounts, :partial_amounts";

fn write_figures(
    insert: &mut rusqlite::CachedStatement<'_>,
    id: SeriesId,
    figures: &Figures,
    names: &Names,
    start: Option<u64>,
) -> rusqlite::Result<()> {
    let (duration_us, duration_steps) = histogram_text(&figures.duration);
    let (first_byte_us, first_byte_steps) = histogram_text(&figures.first_byte);
    let (gateway_us, gateway_steps) = histogram_text(&figures.gateway);
    let values = named_params! {
        ":series": id,
        ":requests": signed(figures.exchanges),
        ":attempts": signed(figures.attempts),
        ":bytes_in": signed(figures.bytes_in),
        ":bytes_out": signed(figures.bytes_out),
        ":plugin_us": signed(figures.plugin_us),
        ":duration_us": signed(duration_us),
        ":duration_steps": duration_steps,
        ":first_byte_us": signed(first_byte_us),
        ":first_byte_steps": first_byte_steps,
        ":gateway_us": signed(gateway_us),
        ":gateway_steps": gateway_steps,
        ":measured": signed(figures.measured.exchanges),
        ":partial": signed(figures.partial.exchanges),
        ":missing": signed(figures.missing),
        ":measured_amounts": amounts_text(&figures.measured, names),
        ":partial_amounts": amounts_text(&figures.partial, names),
    };
    match start.map(signed) {
        None => insert.execute(values)?,
        Some(start) => {
            let mut all = values.to_vec();
            all.push((":start", &start));
            insert.execute(&all[..])?
        }
    };
    Ok(())
}

fn read_figures(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<Figures> {
    let histogram = |sum: &str, steps: &str| {
        let text: String = row.get(steps)?;
        let steps: BTreeMap<u64, u64> = serde_json::from_str(&text).map_err(|error| unreadable(steps, error))?;
        Ok::<_, rusqlite::Error>(Histogram::from_parts(row.get(sum)?, steps.into_iter()))
    };
    let mut used = |exchanges: &str, amounts: &str| {
        let text: String = row.get(amounts)?;
        let read: BTreeMap<String, f64> = serde_json::from_str(&text).map_err(|error| unreadable(amounts, error))?;
        let mut used = Used { exchanges: row.get(exchanges)?, amounts: Vec::new() };
        for (name, amount) in read {
            used.add(names.id(&name), amount);
        }
        Ok::<_, rusqlite::Error>(used)
    };
    Ok(Figures {
        exchanges: row.get("requests")?,
        attempts: row.get("attempts")?,
        bytes_in: row.get("bytes_in")?,
        bytes_out: row.get("bytes_out")?,
        plugin_us: row.get("plugin_us")?,
        duration: histogram("duration_us", "duration_steps")?,
        first_byte: histogram("first_byte_us", "first_byte_steps")?,
        gateway: histogram("gateway_us", "gateway_steps")?,
        measured: used("measured", "measured_amounts")?,
        partial: used("partial", "partial_amounts")?,
        missing: row.get("missing")?,
    })
}

fn unreadable(column: &str, error: serde_json::Error) -> rusqlite::Error {
    tracing::debug!(column, %error, "a column of the statistics is not readable");
    rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
}

/// The sum, and how many were at least so many microseconds, step by step.
fn histogram_text(histogram: &Histogram) -> (u64, String) {
    let (sum, steps) = histogram.parts();
    let steps: serde_json::Map<_, _> = steps.map(|(micros, count)| (micros.to_string(), count.into())).collect();
    (sum, serde_json::Value::Object(steps).to_string())
}

fn amounts_text(used: &Used, names: &Names) -> String {
    let amounts: serde_json::Map<_, _> =
        used.amounts.iter().map(|(id, amount)| (names.name(*id).to_owned(), (*amount).into())).collect();
    serde_json::Value::Object(amounts).to_string()
}

fn write_request(transaction: &Transaction<'_>, request: &LoggedRequest) -> rusqlite::Result<()> {
    let mut insert = transaction.prepare_cached(
        "INSERT INTO request VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)",
    )?;
    let usage = request.usage.as_ref();
    let amounts = usage.map(|(_, amounts)| {
        let amounts = amounts.iter().map(|(name, amount)| (name.clone(), (*amount).into()));
        serde_json::Value::Object(amounts.collect()).to_string()
    });
    insert.execute(params![
        signed(request.time_ms),
        request.request_id,
        request.key,
        request.channel,
        request.model,
        request.endpoint,
        request.transport.as_str(),
        request.status,
        request.outcome.as_str(),
        request.error_code,
        request.attempts,
        signed(request.duration_us),
        request.first_byte_us.map(signed),
        signed(request.bytes_in),
        signed(request.bytes_out),
        usage.map(|(label, _)| *label),
        amounts,
    ])?;
    Ok(())
}

fn write_events(transaction: &Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    let mut insert = transaction.prepare_cached(
        "INSERT INTO event (time, level, kind, subject, message, count) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let Event { time, level, kind, subject, message, count } = event;
        insert.execute(params![signed(*time), level.as_str(), kind, subject, message, signed(*count)])?;
    }
    let newest: Option<i64> =
        transaction.query_row("SELECT max(id) FROM event", [], |row| row.get(0)).optional()?.flatten();
    transaction.execute("DELETE FROM event WHERE id <= ?1", [newest.unwrap_or(0) - EVENTS_KEPT])?;
    Ok(())
}

fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        time: row.get("time")?,
        level: EventLevel::parse(&row.get::<_, String>("level")?),
        kind: row.get::<_, String>("kind")?.into(),
        subject: row.get("subject")?,
        message: row.get("message")?,
        count: row.get("count")?,
    })
}

/// Drops what is older than is kept, and series that nothing names.
fn cut(transaction: &Transaction<'_>, now: u64) -> rusqlite::Result<()> {
    for resolution in RESOLUTIONS {
        let oldest = signed(now.saturating_sub(resolution.kept * resolution.step_s));
        transaction.execute(&format!("DELETE FROM {} WHERE start < ?1", resolution.name), [oldest])?;
        transaction
            .execute("DELETE FROM websockets WHERE resolution = ?1 AND start < ?2", params![resolution.name, oldest])?;
    }
    transaction.execute("DELETE FROM total WHERE requests = 0", [])?;
    transaction.execute(
        "DELETE FROM series WHERE id NOT IN (SELECT series FROM minute UNION SELECT series FROM hour UNION \
         SELECT series FROM day UNION SELECT series FROM total)",
        [],
    )?;
    Ok(())
}
