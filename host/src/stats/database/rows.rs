//! Rows of the statistics' tables: how each is written, and read again.

use std::collections::BTreeMap;

use rusqlite::{OptionalExtension, Row, Transaction, named_params, params};

use crate::stats::events::{Event, Level, SAME_S};
use crate::stats::figures::{Figures, Names, Outcome, Used};
use crate::stats::histogram::Histogram;
use crate::stats::level::{Change, RESOLUTIONS};
use crate::stats::series::{Series, SeriesId, StatusClass, Transport};
use crate::stats::tally::LoggedRequest;

const EVENTS_KEPT: i64 = 1000;

/// SQLite's integers are signed.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub fn write_series(transaction: &Transaction<'_>, series: &[(SeriesId, Series)]) -> rusqlite::Result<()> {
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

pub fn read_series(row: &Row<'_>) -> rusqlite::Result<(SeriesId, Series)> {
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

pub fn write_bucket(
    transaction: &Transaction<'_>,
    table: &str,
    change: &Change,
    names: &Names,
) -> rusqlite::Result<()> {
    if change.is_whole {
        transaction
            .prepare_cached(&format!("DELETE FROM {table} WHERE start = ?1"))?
            .execute([signed(change.start)])?;
    }
    let sql = format!("INSERT OR REPLACE INTO {table} VALUES (:start, {FIGURES})");
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

pub fn write_totals(
    transaction: &Transaction<'_>,
    totals: &[(SeriesId, Figures)],
    names: &Names,
) -> rusqlite::Result<()> {
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

pub fn read_figures(row: &Row<'_>, names: &mut Names) -> rusqlite::Result<Figures> {
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

pub fn write_request(transaction: &Transaction<'_>, request: &LoggedRequest) -> rusqlite::Result<()> {
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

pub fn write_events(transaction: &Transaction<'_>, events: &[Event]) -> rusqlite::Result<()> {
    if events.is_empty() {
        return Ok(());
    }
    // The same again is counted, so that one that comes all the time does not push the others out.
    let mut again = transaction.prepare_cached(
        "UPDATE event SET time = ?1, count = count + ?2 WHERE id = (SELECT max(id) FROM event \
         WHERE kind = ?3 AND subject = ?4 AND message = ?5 AND time > ?6)",
    )?;
    let mut insert = transaction.prepare_cached(
        "INSERT INTO event (time, level, kind, subject, message, count) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    for event in events {
        let Event { time, level, kind, subject, message, count } = event;
        let since = signed(time.saturating_sub(SAME_S));
        if again.execute(params![signed(*time), signed(*count), kind, subject, message, since])? > 0 {
            continue;
        }
        insert.execute(params![signed(*time), level.as_str(), kind, subject, message, signed(*count)])?;
    }
    let newest: Option<i64> =
        transaction.query_row("SELECT max(id) FROM event", [], |row| row.get(0)).optional()?.flatten();
    transaction.execute("DELETE FROM event WHERE id <= ?1", [newest.unwrap_or(0) - EVENTS_KEPT])?;
    Ok(())
}

pub fn read_event(row: &Row<'_>) -> rusqlite::Result<Event> {
    Ok(Event {
        time: row.get("time")?,
        level: Level::parse(&row.get::<_, String>("level")?),
        kind: row.get::<_, String>("kind")?.into(),
        subject: row.get("subject")?,
        message: row.get("message")?,
        count: row.get("count")?,
    })
}

/// Drops what is older than is kept, and series that nothing names.
pub fn cut(transaction: &Transaction<'_>, now: u64) -> rusqlite::Result<()> {
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
