//! Restarts, and files that are damaged, somebody else's, or not to be had.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use redb::StorageBackend;
use redb::backends::InMemoryBackend;
use tempfile::TempDir;

use super::super::{Client, State};
use super::*;

const NOW: u64 = 1_700_000_000;

fn directory() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn lease(last: u8) -> Lease {
    Lease {
        address: Ipv4Addr::new(10, 244, 1, last),
        client: Some(Client::Id(vec![0, last])),
        hardware: vec![2, 0, 0, 0, 0, last],
        hostname: Some(format!("host-{last}")),
        state: State::Bound,
        expires_s: NOW + u64::from(last),
    }
}

fn kept(last: u8) -> Change {
    Change { address: lease(last).address, lease: Some(lease(last)) }
}

fn open(directory: &Path) -> Opened {
    Store::open(directory, NOW)
}

/// A file with leases 1 to 20 of "pods", and its octets.
fn filled(directory: &Path) -> Vec<u8> {
    let mut opened = open(directory);
    assert_eq!(opened.problems, Vec::<String>::new());
    assert_eq!(opened.store.commit((1..=20).map(|last| ("pods", kept(last))), NOW), None);
    drop(opened);
    fs::read(directory.join(FILE)).unwrap()
}

/// Names in the directory, sorted.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn leases_outlive_a_restart_by_bridge() {
    let directory = directory();
    let below = directory.path().join("state/switchd");
    let mut opened = open(&below);
    assert!(opened.leases.is_empty() && opened.problems.is_empty());
    let turn = [("pods", kept(1)), ("blue", kept(1)), ("pods", kept(2))];
    assert_eq!(opened.store.commit(turn, NOW), None);
    let gone = Change { address: lease(1).address, lease: None };
    assert_eq!(opened.store.commit([("pods", gone)], NOW), None);
    drop(opened);
    let opened = open(&below);
    let expected = [("blue".to_string(), vec![lease(1)]), ("pods".to_string(), vec![lease(2)])];
    assert_eq!((opened.leases, opened.problems), (expected.into(), vec![]));
}

#[test]
fn a_commit_is_on_disk_when_it_returns() {
    let directory = directory();
    let mut opened = open(directory.path());
    assert_eq!(opened.store.commit([("pods", kept(3))], NOW), None);
    // As after a crash: the file as it is, without the end that closing gives it.
    let crashed = self::directory();
    fs::copy(directory.path().join(FILE), crashed.path().join(FILE)).unwrap();
    assert_eq!(open(crashed.path()).leases, [("pods".to_string(), vec![lease(3)])].into());
}

#[test]
fn leases_of_bridges_that_are_gone_are_forgotten() {
    let directory = directory();
    let mut opened = open(directory.path());
    opened.store.commit([("pods", kept(1)), ("blue", kept(2))], NOW);
    drop(opened);
    let mut opened = open(directory.path());
    assert_eq!(opened.store.forget(&opened.leases, |bridge| bridge == "blue", NOW), None);
    drop(opened);
    assert_eq!(open(directory.path()).leases.into_keys().collect::<Vec<_>>(), ["blue"]);
}

/// Opens a directory whose file is `octets`, which must be set aside as they are, in one line naming both.
fn is_set_aside(octets: &[u8], what: &str) {
    let directory = directory();
    let path = directory.path().join(FILE);
    fs::write(&path, octets).unwrap();
    let mut opened = open(directory.path());
    assert!(opened.leases.is_empty(), "{what}");
    let aside = format!("{FILE}.corrupt-{NOW}");
    let [problem] = &opened.problems[..] else { panic!("{what}: {:?}", opened.problems) };
    let start = format!("leases: {path:?} is no sound store of DHCP leases (");
    let end =
        format!("); it is set aside as {:?}, and every bridge starts without leases", directory.path().join(&aside));
    assert!(problem.starts_with(&start) && problem.ends_with(&end) && !problem.contains('\n'), "{what}: {problem}");
    // The check of a sound database writes to it, but not to its contents.
    let moved = directory.path().join(&aside);
    assert!(fs::read(&moved).unwrap() == octets || Database::open(&moved).is_ok(), "{what}: kept as it was");
    assert_eq!(names(directory.path()), [FILE.to_string(), aside]);
    assert_eq!(opened.store.commit([("pods", kept(1))], NOW), None, "{what}: works from then on");
    drop(opened);
    assert_eq!(open(directory.path()).leases.len(), 1, "{what}");
}

#[test]
fn a_foreign_file_is_set_aside() {
    is_set_aside(b"# leases of another server\n", "text");
    is_set_aside(&[0; 8192], "zeros");
    is_set_aside(&[0xff; 3], "three octets");
    let directory = directory();
    let path = directory.path().join("other.redb");
    let other = Database::create(&path).unwrap();
    let writing = other.begin_write().unwrap();
    writing.open_table(TableDefinition::<u64, u64>::new("prices")).unwrap().insert(1, 2).unwrap();
    writing.commit().unwrap();
    drop(other);
    is_set_aside(&fs::read(path).unwrap(), "another program's redb file");
}

#[test]
fn a_store_of_another_version_or_with_a_bad_lease_is_set_aside() {
    let change = |change: &dyn Fn(&redb::WriteTransaction)| {
        let directory = directory();
        filled(directory.path());
        let path = directory.path().join(FILE);
        let database = Database::open(&path).unwrap();
        let writing = database.begin_write().unwrap();
        change(&writing);
        writing.commit().unwrap();
        drop(database);
        fs::read(path).unwrap()
    };
    let put = |key, text: &'static str| {
        change(&move |writing| _ = writing.open_table(LEASES).unwrap().insert(("pods", key), text).unwrap())
    };
    let version = change(&|writing| _ = writing.open_table(FORMAT).unwrap().insert(VERSION_KEY, 2).unwrap());
    is_set_aside(&version, "version 2");
    is_set_aside(&put(7, "not a lease"), "no JSON");
    let other = serde_json::to_string(&lease(1)).unwrap().leak();
    is_set_aside(&put(7, other), "a lease of another address");
}

#[test]
fn a_truncated_file_is_set_aside() {
    let octets = filled(directory().path());
    for keep in [1, 100, 512, 4096, octets.len() / 2, octets.len() - 1] {
        is_set_aside(&octets[..keep], &format!("{keep} of {} octets", octets.len()));
    }
}

#[test]
fn a_damaged_file_is_set_aside_or_read_whole() {
    let octets = filled(directory().path());
    let whole: BTreeMap<String, Vec<Lease>> = [("pods".to_string(), (1..=20).map(lease).collect())].into();
    let mut aside = 0;
    // Every page and both of its ends, and a stride that meets all offsets in a page.
    for at in (0..octets.len()).step_by(509) {
        let directory = directory();
        let mut damaged = octets.clone();
        damaged[at] ^= 0x5a;
        fs::write(directory.path().join(FILE), &damaged).unwrap();
        let opened = open(directory.path());
        if opened.problems.is_empty() {
            assert!(opened.leases == whole, "octet {at}: wrong leases, and nobody was told");
        } else {
            assert!(opened.leases.is_empty() && opened.problems.len() == 1, "octet {at}: {:?}", opened.problems);
            aside += 1;
        }
    }
    assert!(aside > 0, "no octet mattered");
}

#[test]
fn a_damaged_lease_is_noticed() {
    let mut octets = filled(directory().path());
    let name = octets.windows(7).position(|window| window == b"host-17").unwrap();
    octets[name + 5] = b'9';
    is_set_aside(&octets, "one changed letter");
}

#[test]
fn what_was_set_aside_before_is_not_replaced() {
    let directory = directory();
    let aside = directory.path().join(format!("{FILE}.corrupt-{NOW}"));
    fs::write(&aside, "older").unwrap();
    fs::write(directory.path().join(FILE), "newer").unwrap();
    let mut opened = open(directory.path());
    let [problem] = &opened.problems[..] else { panic!("{:?}", opened.problems) };
    assert!(problem.contains("cannot be set aside") && problem.contains("are not kept over a restart"), "{problem}");
    assert_eq!(opened.store.commit([("pods", kept(1))], NOW), None);
    assert_eq!(fs::read(aside).unwrap(), b"older");
    assert_eq!(fs::read(directory.path().join(FILE)).unwrap(), b"newer");
}

/// `directory` cannot be used, which is said in one line that holds `why`; commits do nothing.
fn is_unavailable(directory: &Path, why: &str) {
    let mut opened = open(directory);
    let [problem] = &opened.problems[..] else { panic!("{:?}", opened.problems) };
    let start = format!("leases: {:?} cannot be used (", directory.join(FILE));
    assert!(problem.starts_with(&start) && problem.contains(why) && !problem.contains('\n'), "{problem}");
    assert!(problem.ends_with("); DHCP leases are not kept over a restart of switchd"), "{problem}");
    assert_eq!(opened.store.commit([("pods", kept(1))], NOW), None);
    assert!(opened.store.pending.is_empty(), "nothing piles up");
}

#[test]
fn a_directory_that_cannot_be_used_leaves_the_server_without_a_store() {
    // In /proc not even root makes a directory or a file.
    is_unavailable(Path::new("/proc/switchd-leases"), "the directory cannot be made: ");
    is_unavailable(Path::new("/proc/self"), "");
    let directory = directory();
    fs::write(directory.path().join("file"), "").unwrap();
    is_unavailable(&directory.path().join("file"), "the directory cannot be made: ");
    fs::create_dir(directory.path().join(FILE)).unwrap();
    is_unavailable(directory.path(), "directory");
}

#[test]
fn a_store_that_another_switchd_has_open_is_left_to_it() {
    let directory = directory();
    let first = open(directory.path());
    is_unavailable(directory.path(), "another process has it open");
    assert_eq!(names(directory.path()), [FILE], "and not set aside");
    drop(first);
}

/// Memory that takes no write while `fail` is set.
#[derive(Debug)]
struct Failing {
    memory: InMemoryBackend,
    fail: Arc<AtomicBool>,
}

impl StorageBackend for Failing {
    fn len(&self) -> Result<u64, io::Error> {
        self.memory.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.memory.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.memory.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        match self.fail.load(Ordering::Relaxed) {
            true => Err(ErrorKind::StorageFull.into()),
            false => self.memory.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.memory.write(offset, data)
    }
}

#[test]
fn a_failed_write_is_said_once_and_made_up_for() {
    let directory = directory();
    drop(open(directory.path()));
    let path = directory.path().join(FILE);
    let fail = Arc::new(AtomicBool::new(false));
    let backend = Failing { memory: InMemoryBackend::new(), fail: fail.clone() };
    let database = Builder::new().create_with_backend(backend).unwrap();
    contents(&database).unwrap();
    let mut store = Store { path: path.clone(), mode: Mode::Open(database), pending: BTreeMap::new() };
    assert_eq!(store.commit([("pods", kept(1))], NOW), None);
    fail.store(true, Ordering::Relaxed);
    let problem = store.commit([("pods", kept(2))], NOW).unwrap();
    assert!(problem.starts_with(&format!("leases: writing {path:?} failed (")), "{problem}");
    for second in 1..RETRY_SECONDS {
        assert_eq!(store.commit([("pods", kept(3))], NOW + second), None, "said, and not tried at every turn");
    }
    let again = store.commit([("pods", kept(4))], NOW + RETRY_SECONDS);
    assert_eq!(again, Some(format!("leases: {path:?} is written again, nothing is missing")));
    drop(store);
    let leases = open(directory.path()).leases;
    assert_eq!(leases["pods"], [lease(2), lease(3), lease(4)]);
}
