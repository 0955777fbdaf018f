use std::time::Duration;

use super::*;
use crate::meter::Usage;
use crate::stats::events::Level;
use crate::stats::tally::tests::ended;
use crate::stats::tally::{Ended, Tally};
use crate::stats::{Filter, Span, Usages, Window};

/// A minute that is not over.
const NOW: u64 = 1_800_000_059;

/// A folder of its own, and the file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.sqlite");
    (folder, path)
}

/// Three exchanges of `a` are counted and written.
fn begun() -> (tempfile::TempDir, PathBuf, Store, Recorder) {
    let (folder, path) = place();
    let (mut store, mut recorder) = (Store::new(NOW), Recorder::new(path.clone()));
    count(&mut store, "a", 3);
    assert_eq!(write(&mut recorder, &mut store), None);
    (folder, path, store, recorder)
}

/// Adds exchanges of this model.
fn count(store: &mut Store, model: &str, exchanges: usize) {
    let tally = Tally::default();
    let usage = Usage { totals: vec![("input".into(), 3.0), ("x-own".into(), 0.5)], is_partial: false };
    for _ in 0..exchanges {
        tally.count(&Ended { usage: Usages::Measured(&usage), ..ended(model, "/v1/x") });
    }
    store.add(&tally.take());
}

fn batch(store: &mut Store) -> Batch {
    Batch { changes: store.changes(), names: store.names.clone(), ..Batch::default() }
}

/// Writes what has changed, as the keeper does.
fn write(recorder: &mut Recorder, store: &mut Store) -> Option<String> {
    let mut is_all = false;
    loop {
        let batch = Batch { is_all, ..batch(store) };
        match recorder.write(&batch) {
            Written::Done => return None,
            Written::Afresh(_) => {
                store.all_unwritten();
                is_all = true;
            }
            Written::Found(..) => panic!("what is there was read at the start"),
            Written::Failed(reason) => {
                store.unwritten(&batch.changes);
                return Some(reason);
            }
        }
    }
}

fn loaded(path: &Path) -> Store {
    let mut store = Store::new(NOW);
    Recorder::new(path.to_owned()).load(&mut store).unwrap();
    store
}

fn shown(store: &Store) -> String {
    let window = Window::of(store, Span::default(), &Filter::default(), NOW);
    let all = Window::of_all(&store.all, store);
    let amounts = |window: &Window| {
        let used = &window.totals.figures.measured;
        used.amounts.iter().map(|(id, amount)| format!("{} {amount}", store.names.name(*id))).collect::<Vec<_>>()
    };
    let figures = &window.totals.figures;
    format!(
        "{} of {}, {:?}, {:?}, {:?}",
        figures.exchanges,
        all.totals.figures.exchanges,
        amounts(&all),
        figures.duration,
        window.models.keys()
    )
}

#[test]
fn what_was_written_is_there_after_a_restart() {
    let (_folder, path) = place();
    let mut store = Store::new(NOW);
    let mut recorder = Recorder::new(path.clone());
    count(&mut store, "a", 3);
    store.sockets(NOW, 4);
    assert_eq!(write(&mut recorder, &mut store), None);
    count(&mut store, "a", 1);
    count(&mut store, "b", 2);
    assert_eq!(write(&mut recorder, &mut store), None);
    let again = loaded(&path);
    assert_eq!(shown(&again), shown(&store));
    assert!(shown(&again).starts_with("6 of 6, [\"input 18\", \"x-own 3\"]"), "{}", shown(&again));
    let window = Window::of(&again, Span::default(), &Filter::default(), NOW);
    assert_eq!(window.steps.last().unwrap().sockets_max, 4);
}

#[test]
fn a_second_run_goes_on_where_the_first_ended() {
    let (_folder, path) = place();
    for run in 1..=3 {
        let mut store = loaded(&path);
        let mut recorder = Recorder::new(path.clone());
        count(&mut store, "a", 1);
        count(&mut store, &format!("m{run}"), 1);
        assert_eq!(write(&mut recorder, &mut store), None);
    }
    let store = loaded(&path);
    assert_eq!(Window::of_all(&store.all, &store).totals.figures.exchanges, 6);
    assert_eq!(Window::of(&store, Span::default(), &Filter::default(), NOW).models.len(), 4);
}

#[test]
fn a_full_disk_loses_nothing_once_there_is_room_again() {
    let (_folder, path, mut store, mut recorder) = begun();
    let pages = std::fs::metadata(&path).unwrap().len() / 4096 + 20;
    recorder.close();
    recorder.pages_max = Some(i64::try_from(pages).unwrap());
    for model in 0..400 {
        count(&mut store, &format!("model-{model:0>60}"), 1);
    }
    let reason = write(&mut recorder, &mut store).expect("the disk is full");
    assert!(reason.contains("full"), "{reason}");
    count(&mut store, "b", 2);
    assert!(write(&mut recorder, &mut store).is_some());
    assert_eq!(shown(&loaded(&path)).split(',').next(), Some("3 of 3"), "what was there stays whole");
    recorder.pages_max = None;
    assert_eq!(write(&mut recorder, &mut store), None);
    assert_eq!(shown(&loaded(&path)), shown(&store));
    assert_eq!(Database::open(&path).unwrap().integrity(), "ok");
}

#[test]
fn a_file_that_is_no_database_is_kept_aside_and_a_new_one_begun() {
    for garbage in
        [b"not a database, but long enough to be looked at as one, by its first bytes".repeat(100), vec![0; 9000]]
    {
        let (folder, path) = place();
        std::fs::write(&path, &garbage).unwrap();
        let mut recorder = Recorder::new(path.clone());
        let mut store = Store::new(NOW);
        let refusal = recorder.load(&mut store);
        let mut store = Store::new(NOW);
        count(&mut store, "a", 3);
        assert_eq!(write(&mut recorder, &mut store), None, "{refusal:?}");
        assert_eq!(Database::open(&path).unwrap().total(), 3);
        let aside: Vec<_> = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(aside.iter().any(|path| std::fs::read(path).unwrap() == garbage), "{aside:?}, {refusal:?}");
    }
}

#[test]
fn another_programs_database_and_another_schema_are_not_touched() {
    let (folder, path) = place();
    rusqlite::Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE mine (a); INSERT INTO mine VALUES (1)")
        .unwrap();
    let refusal = Recorder::new(path.clone()).load(&mut Store::new(NOW)).unwrap_err();
    assert!(
        refusal.contains("not a statistics file of this gateway (schema 0") && refusal.contains("is kept as"),
        "{refusal}"
    );
    let aside = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path()).next().unwrap();
    let kept: i64 =
        rusqlite::Connection::open(aside).unwrap().query_row("SELECT a FROM mine", [], |row| row.get(0)).unwrap();
    assert_eq!(kept, 1);
}

#[test]
fn a_file_that_breaks_or_vanishes_under_way_is_written_anew_out_of_memory() {
    let (folder, path, mut store, mut recorder) = begun();
    // Gone.
    for suffix in ["", "-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("s.sqlite{suffix}")));
    }
    count(&mut store, "a", 1);
    assert_eq!(write(&mut recorder, &mut store), None);
    assert_eq!(Database::open(&path).unwrap().total(), 4);
    // Overwritten.
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(folder.path().join(format!("s.sqlite{suffix}")));
    }
    std::fs::write(&path, b"scribbled over ".repeat(1000)).unwrap();
    recorder.close();
    count(&mut store, "a", 1);
    assert_eq!(write(&mut recorder, &mut store), None);
    assert_eq!(Database::open(&path).unwrap().total(), 5);
    assert_eq!(shown(&loaded(&path)), shown(&store));
}

#[test]
fn the_request_log_and_the_events_are_kept_and_cut() {
    let (_folder, path) = place();
    let mut store = Store::new(NOW);
    let mut recorder = Recorder::new(path.clone());
    write(&mut recorder, &mut store);
    let tally = Tally::default();
    tally.log_requests(true);
    let at = |seconds| std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    tally.count(&Ended { at: at(NOW - 90_000), ..ended("m", "/v1/files/file-123") });
    tally.count(&Ended { at: at(NOW), ..ended("m", "/v1/files/file-123") });
    let event = Event {
        time: NOW,
        level: Level::Error,
        kind: "reload".into(),
        subject: "api_keys.json".to_owned(),
        message: "broken".to_owned(),
        count: 2,
    };
    let requests = tally.take().requests;
    assert_eq!(requests[0].endpoint, "POST /v1/files/{id}");
    let written = Batch { requests, events: vec![event.clone()], ..batch(&mut store) };
    assert!(matches!(recorder.write(&written), Written::Done));
    let count = || Database::open(&path).unwrap().requests();
    assert_eq!(count(), 2);
    let cut = Batch { requests_before_ms: Some((NOW - 86_400) * 1000), now: Some(NOW), ..batch(&mut store) };
    assert!(matches!(recorder.write(&cut), Written::Done));
    assert_eq!(count(), 1);
    assert_eq!(Recorder::new(path.clone()).load(&mut Store::new(NOW)).unwrap(), [event]);
}

#[test]
fn history_that_is_too_old_goes_from_the_file_too_and_the_totals_stay() {
    let (_folder, path) = place();
    let mut store = Store::new(NOW);
    let mut recorder = Recorder::new(path.clone());
    count(&mut store, "a", 3);
    write(&mut recorder, &mut store);
    let later = NOW + 3 * 366 * 86_400;
    store.settle(later);
    let cut = Batch { now: Some(later), ..batch(&mut store) };
    assert!(matches!(recorder.write(&cut), Written::Done));
    let again = loaded(&path);
    let mut used = std::collections::HashSet::new();
    again.levels.iter().for_each(|level| level.used(&mut used));
    assert!(used.is_empty());
    assert_eq!(Window::of_all(&again.all, &again).totals.figures.exchanges, 3);
}

#[test]
fn a_file_that_could_not_be_read_at_the_start_is_joined_with_what_came_since() {
    let (folder, path) = place();
    let mut store = Store::new(NOW);
    let mut recorder = Recorder::new(path.clone());
    count(&mut store, "a", 3);
    count(&mut store, "b", 1);
    assert_eq!(write(&mut recorder, &mut store), None);
    drop(recorder);
    // Something else stands where SQLite wants its log: it cannot open the file, and the file is not at fault.
    let log = folder.path().join("s.sqlite-wal");
    std::fs::create_dir(&log).unwrap();
    let mut recorder = Recorder::new(path.clone());
    let mut store = Store::new(NOW);
    let refusal = recorder.load(&mut store).unwrap_err();
    assert!(refusal.contains("unable to open"), "{refusal}");
    let mut store = Store::new(NOW);
    count(&mut store, "b", 2);
    assert!(write(&mut recorder, &mut store).is_some(), "still not");
    std::fs::remove_dir(&log).unwrap();
    let Written::Found(mut found, _) = recorder.write(&batch(&mut store)) else { panic!("it can be read") };
    found.absorb(&store);
    assert_eq!(write(&mut recorder, &mut found), None);
    let again = loaded(&path);
    assert!(shown(&again).starts_with("6 of 6"), "{}", shown(&again));
    assert_eq!(Window::of(&again, Span::default(), &Filter::default(), NOW).models["b"].figures.exchanges, 3);
}

#[test]
fn a_file_put_in_the_place_of_the_open_one_is_kept_aside_with_its_own_meaning() {
    let (folder, path) = place();
    let other = folder.path().join("backup.sqlite");
    let mut others = Store::new(NOW);
    count(&mut others, "of-the-backup", 7);
    assert_eq!(write(&mut Recorder::new(other.clone()), &mut others), None);
    let mut store = Store::new(NOW);
    let mut recorder = Recorder::new(path.clone());
    count(&mut store, "a", 3);
    assert_eq!(write(&mut recorder, &mut store), None);
    std::fs::rename(&other, &path).unwrap();
    count(&mut store, "a", 1);
    assert_eq!(write(&mut recorder, &mut store), None);
    assert_eq!(shown(&loaded(&path)), shown(&store));
    let aside = std::fs::read_dir(folder.path()).unwrap().flatten().map(|entry| entry.path());
    let mut aside =
        aside.filter(|path| path.to_string_lossy().contains(".broken-") && !path.to_string_lossy().contains("wal"));
    assert!(aside.any(|path| Database::open(&path).is_ok_and(|database| database.total() == 7)));
}

#[test]
fn a_new_file_that_cannot_be_made_at_once_gets_everything_in_the_end() {
    let (_folder, path, mut store, mut recorder) = begun();
    for suffix in ["", "-wal", "-shm"] {
        let mut name = path.clone().into_os_string();
        name.push(suffix);
        let _ = std::fs::remove_file(name);
    }
    recorder.pages_max = Some(2);
    count(&mut store, "b", 1);
    assert!(write(&mut recorder, &mut store).is_some(), "there is no room for the tables");
    recorder.pages_max = None;
    count(&mut store, "b", 1);
    assert_eq!(write(&mut recorder, &mut store), None);
    assert_eq!(shown(&loaded(&path)), shown(&store));
}

#[test]
fn a_file_or_log_that_is_cut_or_scribbled_over_under_way_is_noticed_and_written_anew() {
    let spoil: [fn(&Path, &Path); 4] = [
        |_, log| std::fs::remove_file(log).unwrap(),
        |_, log| std::fs::File::options().write(true).open(log).unwrap().set_len(0).unwrap(),
        |file, _| std::fs::File::options().write(true).open(file).unwrap().set_len(0).unwrap(),
        |file, _| {
            use std::io::Write;
            std::fs::File::options().write(true).open(file).unwrap().write_all(&[7; 5000]).unwrap();
        },
    ];
    for (number, spoil) in spoil.into_iter().enumerate() {
        let (folder, path, mut store, mut recorder) = begun();
        spoil(&path, &folder.path().join("s.sqlite-wal"));
        count(&mut store, "a", 1);
        assert_eq!(write(&mut recorder, &mut store), None, "{number}");
        // As after a kill: nothing is closed in order.
        std::mem::forget(recorder);
        assert_eq!(shown(&loaded(&path)), shown(&store), "{number}");
    }
}

#[test]
fn a_foreign_file_that_cannot_be_moved_is_never_written_into() {
    let (folder, path, mut store, mut recorder) = begun();
    let other = folder.path().join("backup.sqlite");
    let mut others = Store::new(NOW);
    count(&mut others, "of-the-backup", 7);
    assert_eq!(write(&mut Recorder::new(other.clone()), &mut others), None);
    std::fs::rename(&other, &path).unwrap();
    // Where it would be moved to, there is a folder, now and in the next seconds.
    let now = crate::stats::unix_time_s(SystemTime::now());
    for second in now..now + 30 {
        std::fs::create_dir(folder.path().join(format!("s.sqlite.broken-{second}"))).unwrap();
    }
    for _ in 0..2 {
        count(&mut store, "a", 1);
        assert!(write(&mut recorder, &mut store).is_some_and(|reason| reason.contains("nor be moved aside")));
        assert_eq!(Database::open(&path).unwrap().total(), 7);
    }
}
