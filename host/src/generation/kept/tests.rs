use super::*;

fn version(name: &str) -> KeptVersion {
    let source = "file".to_owned();
    KeptVersion { version: name.into(), accepted_at: 7, interface: "0.1.0".into(), bytes: 3, source }
}

fn names(history: &History) -> Vec<&str> {
    history.versions.iter().map(|known| &*known.version).collect()
}

#[test]
fn what_was_kept_comes_back_with_the_next_start() {
    let folder = tempfile::tempdir().unwrap();
    let hash = hex(&sha256(b"abc"));
    let mut kept = Kept::new(Some(folder.path()));
    kept.keep("p", &hash, b"abc");
    kept.accept("p", version(&hash));
    kept.serves("p", &hash);
    let pin = Pin { version: hash.clone(), since: 8, reason: "a test".into(), file: None };
    kept.pin("p", Some(pin.clone())).unwrap();
    let mut again = Kept::new(Some(folder.path()));
    let history = again.history("p");
    assert_eq!(names(history), [&*hash]);
    assert_eq!((history.serving.as_ref(), history.pin.as_ref()), (Some(&hash), Some(&pin)));
    assert_eq!(again.bytes("p", &hash).unwrap(), b"abc");
}

#[test]
fn damaged_bytes_are_not_taken_and_a_damaged_history_is_set_aside() {
    let folder = tempfile::tempdir().unwrap();
    let hash = hex(&sha256(b"abc"));
    let mut kept = Kept::new(Some(folder.path()));
    kept.keep("p", &hash, b"abc");
    kept.accept("p", version(&hash));
    fs::write(folder.path().join("p").join(file_name(&hash)), b"abd").unwrap();
    assert!(kept.bytes("p", &hash).unwrap_err().contains("is damaged"));
    assert!(kept.bytes("p", "other").unwrap_err().contains("cannot be read"));
    fs::write(folder.path().join("p").join(HISTORY), b"{").unwrap();
    assert_eq!(*Kept::new(Some(folder.path())).history("p"), History::default());
    assert_eq!(fs::read(folder.path().join("p/history.json.damaged")).unwrap(), b"{");
}

#[test]
fn a_history_that_cannot_be_read_is_left_alone_with_all_that_it_names() {
    let folder = tempfile::tempdir().unwrap();
    let hash = hex(&sha256(b"abc"));
    let mut kept = Kept::new(Some(folder.path()));
    kept.keep("p", &hash, b"abc");
    kept.accept("p", version(&hash));
    // As little a file to be read as one of somebody else's.
    let (path, aside) = (folder.path().join("p").join(HISTORY), folder.path().join("aside"));
    fs::rename(&path, &aside).unwrap();
    fs::create_dir(&path).unwrap();
    let mut again = Kept::new(Some(folder.path()));
    again.keep("p", &hex(&sha256(b"abd")), b"abd");
    again.accept("p", version("other"));
    let pin = Pin { version: hash.clone(), since: 0, reason: String::new(), file: None };
    assert!(again.pin("p", Some(pin)).is_err());
    fs::remove_dir(&path).unwrap();
    fs::rename(&aside, &path).unwrap();
    let mut mended = Kept::new(Some(folder.path()));
    assert_eq!(names(mended.history("p")), [&*hash]);
    assert_eq!(mended.bytes("p", &hash).unwrap(), b"abc");
}

#[test]
fn a_pin_holds_back_what_is_known_and_what_was_in_the_file() {
    let pin = Pin { version: "a".into(), since: 0, reason: String::new(), file: Some("c".into()) };
    let history = History { versions: ["a", "b"].map(version).into(), serving: None, pin: Some(pin) };
    assert_eq!(["a", "b", "c", "d"].map(|hash| history.holds_back(hash)), [false, true, true, false]);
}

#[test]
fn no_name_leads_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(HISTORY), b"{").unwrap();
    let state = folder.path().join("versions");
    let mut kept = Kept::new(Some(&state));
    for name in ["..", "../x", "/tmp", ""] {
        assert_eq!(*kept.history(name), History::default());
        kept.keep(name, "hash", b"x");
        assert!(kept.bytes(name, "hash").is_err());
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing was written or moved");
}

#[test]
fn few_versions_are_kept_and_never_those_in_use_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut kept = Kept::new(Some(folder.path()));
    for n in 0..VERSIONS_MAX + 5 {
        let name = format!("{n:02}");
        kept.keep("p", &name, b"x");
        kept.accept("p", version(&name));
        if n == 0 {
            kept.serves("p", &name);
        }
        if n == 1 {
            kept.pin("p", Some(Pin { version: name, since: 0, reason: String::new(), file: None })).unwrap();
        }
    }
    let history = kept.history("p").clone();
    assert_eq!(history.versions.len(), VERSIONS_MAX);
    assert_eq!(names(&history)[..3], ["00", "01", "07"]);
    kept.keep("p", "refused", b"x");
    kept.keep("p", "next", b"x");
    let files = fs::read_dir(folder.path().join("p")).unwrap().count();
    assert_eq!(files, VERSIONS_MAX + 2, "the kept ones, the one just looked at, and the history");
}

#[test]
fn a_version_is_named_by_the_beginning_of_its_hash() {
    let versions = ["aa11bb", "aa11cc", "bb33dd"].map(version).into();
    let history = History { versions, ..History::default() };
    assert_eq!(history.beginning_with("BB33").unwrap().version, "bb33dd");
    assert!(history.beginning_with("aa11").unwrap_err().contains("several"));
    assert!(history.beginning_with("cccc").unwrap_err().contains("there are: bb33dd, aa11cc, aa11bb"));
    for little in ["", "bb3"] {
        assert!(history.beginning_with(little).unwrap_err().contains("too little"));
    }
    assert_eq!(history.before("bb33dd").unwrap().version, "aa11cc");
    assert_eq!(history.before("aa11bb"), None);
    assert_eq!(history.before("elsewhere").unwrap().version, "bb33dd");
}
