//! The statistics on disk: one SQLite file, whose tables people may query (docs/statistics.md describes them).
//!
//! Everything here blocks, and may fail at any time: only the recorder's thread calls it.

mod rows;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::events::Event;
use super::figures::Names;
use super::level::{Bucket, RESOLUTIONS};
use super::store::{Changes, Store};
use super::tally::LoggedRequest;

use rows::{
    cut, read_event, read_figures, read_series, signed, write_bucket, write_events, write_request, write_series,
    write_totals,
};

/// `PRAGMA application_id`: "aiph".
const APPLICATION_ID: i32 = 0x6169_7068;
/// `PRAGMA user_version`; another one is another schema.
const SCHEMA_VERSION: i32 = 1;
const SCHEMA: &str = include_str!("schema.sql");
/// The columns that stand for `@figures` there.
const FIGURE_COLUMNS: &str = include_str!("figures.sql");
/// A person's query may hold the file for so long.
const BUSY_TIME: Duration = Duration::from_secs(2);

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
    /// Everything there is, for a new file.
    pub is_all: bool,
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
        Self::open_within(path, None)
    }

    /// The file may not grow beyond so many pages: to see what a full disk does.
    pub fn open_within(path: &Path, pages_max: Option<i64>) -> Result<Self, DatabaseError> {
        let connection = Connection::open(path)?;
        if let Some(pages) = pages_max {
            connection.pragma_update(None, "max_page_count", pages)?;
        }
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
