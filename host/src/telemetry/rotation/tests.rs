use proptest::prelude::*;

use super::*;

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn log(&self, bytes_max: u64, files_kept: u32) -> LogFile {
        LogFile::open("access log", &self.path("access.log"), Some(Rotation { bytes_max, files_kept })).unwrap()
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Every file's name, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_full_file_is_renamed_the_others_move_up_and_the_oldest_goes() {
    let folder = Folder::new();
    let mut log = folder.log(4, 2);
    for line in ["one\n", "two\n", "three\n", "4\n", "5\n", "six\n"] {
        log.put(line.as_bytes()).unwrap();
    }
    assert_eq!(folder.names(), ["access.log", "access.log.1", "access.log.2"]);
    assert_eq!(
        ["access.log", "access.log.1", "access.log.2"].map(|name| folder.text(name)),
        ["six\n", "4\n5\n", "three\n"]
    );
    assert_eq!(fs::metadata(folder.path("access.log")).unwrap().mode() & 0o777, 0o600);
}

#[test]
fn a_file_that_was_full_before_the_start_is_renamed_first() {
    let folder = Folder::new();
    fs::write(folder.path("access.log"), "earlier\n").unwrap();
    folder.log(8, 1).put(b"now\n").unwrap();
    assert_eq!((folder.text("access.log.1"), folder.text("access.log")), ("earlier\n".into(), "now\n".into()));
}

#[test]
fn a_gap_that_a_crash_left_is_filled_before_a_file_is_given_up() {
    let folder = Folder::new();
    for (name, text) in [("access.log", "d\n"), ("access.log.1", "c\n"), ("access.log.3", "a\n")] {
        fs::write(folder.path(name), text).unwrap();
    }
    folder.log(1, 3).put(b"e\n").unwrap();
    let names = ["access.log.3", "access.log.2", "access.log.1", "access.log"];
    assert_eq!(names.map(|name| folder.text(name)), ["a\n", "c\n", "d\n", "e\n"]);
    // After the last rename, before the new file.
    fs::remove_file(folder.path("access.log.3")).unwrap();
    fs::rename(folder.path("access.log.2"), folder.path("access.log.3")).unwrap();
    fs::rename(folder.path("access.log.1"), folder.path("access.log.2")).unwrap();
    fs::rename(folder.path("access.log"), folder.path("access.log.1")).unwrap();
    folder.log(1, 3).put(b"f\n").unwrap();
    assert_eq!(names.map(|name| folder.text(name)), ["c\n", "d\n", "e\n", "f\n"]);
}

#[test]
fn where_no_rotation_can_be_the_file_goes_on_until_one_can() {
    let folder = Folder::new();
    fs::create_dir(folder.path("access.log.1")).unwrap();
    let mut log = folder.log(1, 1);
    for line in ["a\n", "b\n", "c\n"] {
        log.put(line.as_bytes()).unwrap();
    }
    assert_eq!(folder.text("access.log"), "a\nb\nc\n");
    assert!(log.is_full);
    fs::remove_dir(folder.path("access.log.1")).unwrap();
    log.reopen();
    log.put(b"d\n").unwrap();
    assert_eq!((folder.text("access.log.1"), folder.text("access.log")), ("a\nb\nc\n".into(), "d\n".into()));
    assert!(!log.is_full);
}

#[test]
fn in_a_folder_that_takes_no_file_the_open_one_goes_on() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let mut log = folder.log(1, 1);
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let may_write_all_the_same = File::create(folder.path("probe")).is_ok();
    log.put(b"a\n").unwrap();
    log.put(b"b\n").unwrap();
    let text = folder.text("access.log");
    fs::set_permissions(folder.0.path(), fs::Permissions::from_mode(0o700)).unwrap();
    // Root is not kept out.
    assert_eq!(text, if may_write_all_the_same { "b\n" } else { "a\nb\n" });
}

#[test]
fn a_file_that_was_moved_takes_lines_until_the_path_is_looked_at() {
    let folder = Folder::new();
    let mut log = LogFile::open("access log", &folder.path("access.log"), None).unwrap();
    log.put(b"a\n").unwrap();
    fs::rename(folder.path("access.log"), folder.path("moved")).unwrap();
    log.look_at = Instant::now() + Duration::from_hours(1);
    log.put(b"b\n").unwrap();
    assert_eq!((folder.text("moved"), folder.path("access.log").exists()), ("a\nb\n".into(), false));
    log.look_at = Instant::now();
    log.put(b"c\n").unwrap();
    assert_eq!((folder.text("moved"), folder.text("access.log")), ("a\nb\n".into(), "c\n".into()));
    // Whoever moved it may have made the new one.
    fs::rename(folder.path("access.log"), folder.path("moved.2")).unwrap();
    fs::write(folder.path("access.log"), "theirs\n").unwrap();
    log.reopen();
    log.put(b"d\n").unwrap();
    assert_eq!((folder.text("moved.2"), folder.text("access.log")), ("c\n".into(), "theirs\nd\n".into()));
}

#[test]
fn a_full_file_that_was_moved_meanwhile_is_not_moved_again() {
    let folder = Folder::new();
    let mut log = folder.log(1, 1);
    log.put(b"a\n").unwrap();
    fs::rename(folder.path("access.log"), folder.path("moved")).unwrap();
    fs::write(folder.path("access.log"), "theirs\n").unwrap();
    log.put(b"b\n").unwrap();
    assert_eq!(folder.names(), ["access.log", "moved"]);
    assert_eq!((folder.text("moved"), folder.text("access.log")), ("a\n".into(), "theirs\nb\n".into()));
}

#[test]
fn a_deleted_file_takes_no_line_with_it() {
    let folder = Folder::new();
    let mut log = LogFile::open("access log", &folder.path("access.log"), None).unwrap();
    log.look_at = Instant::now() + Duration::from_hours(1);
    for line in ["a\n", "b\n"] {
        fs::remove_file(folder.path("access.log")).unwrap();
        log.put(line.as_bytes()).unwrap();
        assert_eq!(folder.text("access.log"), line);
    }
    fs::remove_dir_all(folder.0.path()).unwrap();
    assert!(log.put(b"c\n").is_err(), "what nobody can find is not written");
    fs::create_dir(folder.0.path()).unwrap();
    log.put(b"d\n").unwrap();
    assert_eq!(folder.text("access.log"), "d\n");
}

#[test]
fn a_file_without_a_name_to_which_the_path_leads_takes_a_line_once() {
    use std::io::Read;
    use std::os::fd::AsRawFd;
    let mut file = tempfile::tempfile().unwrap();
    let path = PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let mut log = LogFile::open("access log", &path, None).unwrap();
    log.put(b"a\n").unwrap();
    log.put(b"b\n").unwrap();
    let mut text = String::new();
    file.read_to_string(&mut text).unwrap();
    assert_eq!(text, "a\nb\n");
}

#[test]
fn a_file_that_was_cut_is_not_full() {
    let folder = Folder::new();
    let mut log = folder.log(4, 1);
    log.put(b"a\n").unwrap();
    // As `copytruncate` does it.
    File::options().write(true).open(folder.path("access.log")).unwrap().set_len(0).unwrap();
    log.put(b"b\n").unwrap();
    log.put(b"c\n").unwrap();
    assert_eq!((folder.names().len(), folder.text("access.log")), (1, "b\nc\n".into()));
}

#[test]
fn a_link_is_not_renamed() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "").unwrap();
    std::os::unix::fs::symlink(folder.path("file"), folder.path("access.log")).unwrap();
    let mut log = folder.log(1, 1);
    log.put(b"a\n").unwrap();
    log.put(b"b\n").unwrap();
    assert_eq!((folder.names().len(), folder.text("file")), (2, "a\nb\n".into()));
}

/// Takes so many bytes, three at a time, then fails once.
struct Narrow(Vec<u8>, usize);

impl Write for Narrow {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(3).min(self.1);
        if count == 0 {
            self.1 = usize::MAX;
            return Err(ErrorKind::StorageFull.into());
        }
        self.1 -= count;
        self.0.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn after_a_line_that_broke_off_the_next_begin_on_one_of_their_own() {
    for (room, expected) in [(0, "next\n"), (4, "one\nnext\n"), (6, "one\ntw\nnext\n"), (8, "one\ntwo\nnext\n")] {
        let (mut narrow, mut is_torn) = (Narrow(Vec::new(), room), false);
        assert_eq!(write_lines(&mut narrow, b"one\ntwo\n", &mut is_torn).is_ok(), room == 8);
        narrow.1 = usize::MAX;
        write_lines(&mut narrow, b"next\n", &mut is_torn).unwrap();
        assert_eq!(String::from_utf8(narrow.0).unwrap(), expected);
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// A batch with lines of these lengths, their number included.
    Put(Vec<usize>),
    Restart,
    Hangup,
    Moved,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => prop::collection::vec(0..60_usize, 1..6).prop_map(Step::Put),
        1 => Just(Step::Restart),
        1 => Just(Step::Hangup),
        1 => Just(Step::Moved),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn what_is_kept_is_the_end_of_what_was_written(
        steps in prop::collection::vec(step(), 0..40), bytes_max in 1..200_u64, files_kept in 1..4_u32,
    ) {
        let folder = Folder::new();
        let mut log = folder.log(bytes_max, files_kept);
        let (mut all, mut number, mut moved) = (String::new(), 0, 0);
        for step in steps {
            match step {
                Step::Put(lengths) => {
                    let mut batch = Vec::new();
                    for length in lengths {
                        number += 1;
                        writeln!(batch, "{number} {}", "x".repeat(length)).unwrap();
                    }
                    log.put(&batch).unwrap();
                    all.push_str(std::str::from_utf8(&batch).unwrap());
                }
                Step::Restart => log = folder.log(bytes_max, files_kept),
                Step::Hangup => log.reopen(),
                // Somebody else takes all files away, and with them the lines so far.
                Step::Moved => {
                    moved += 1;
                    let mut taken = String::new();
                    for number in (0..=files_kept).rev() {
                        let path = folder.path("access.log");
                        let path = if number == 0 { path } else { numbered(&path, number) };
                        if let Ok(text) = fs::read_to_string(&path) {
                            taken.push_str(&text);
                            fs::rename(&path, folder.path(&format!("moved.{moved}.{number}"))).unwrap();
                        }
                    }
                    prop_assert!(all.ends_with(&taken));
                    all.clear();
                    log.reopen();
                }
            }
        }
        let mut kept = String::new();
        let mut full = 0;
        for number in (1..=files_kept).rev() {
            if let Ok(text) = fs::read_to_string(numbered(&folder.path("access.log"), number)) {
                prop_assert!(text.ends_with('\n') && text.len() as u64 >= bytes_max);
                kept.push_str(&text);
                full += 1;
            }
        }
        kept.push_str(&folder.text("access.log"));
        prop_assert!(all.ends_with(&kept));
        prop_assert!(kept.len() == all.len() || all[..all.len() - kept.len()].ends_with('\n'));
        prop_assert!(full == files_kept || kept == all, "nothing goes before the last place is taken");
    }
}
