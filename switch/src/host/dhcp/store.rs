//! Leases on disk, of every bridge in one file, so that they outlive a restart.
//!
//! One commit, with one fsync, serves all leases that changed since the last. A file that is not ours or is
//! damaged is set aside, never overwritten. Whatever goes wrong, the server runs on and says so in one line.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use super::{Change, Lease};

#[cfg(test)]
mod tests;

/// Name of the file in the state directory.
pub const FILE: &str = "leases.redb";

/// (bridge, address) to the lease as JSON.
const LEASES: TableDefinition<(&str, u32), &str> = TableDefinition::new("leases");

/// What the file is, so that another program's redb file is known for one.
const FORMAT: TableDefinition<&str, u32> = TableDefinition::new("switchd");
const VERSION_KEY: &str = "leases";
const VERSION: u32 = 1;

/// Pages kept in memory, in bytes; the file is read once, and written in small pieces.
const CACHE_BYTES: usize = 1 << 20;

/// After a failed write the file is opened again at most once in so many seconds.
const RETRY_SECONDS: u64 = 60;

/// The store. Belongs to one thread, which may wait for the disk.
pub struct Store {
    path: PathBuf,
    mode: Mode,
    /// Written with the next commit; bounded by the addresses of all pools.
    pending: BTreeMap<(String, u32), Option<String>>,
}

enum Mode {
    Open(Database),
    /// A write failed; tried again from this time on.
    Failed {
        retry_at_s: u64,
    },
    /// Not opened at start: nothing is kept until a restart.
    Off,
}

/// What [`Store::open`] found.
pub struct Opened {
    /// The store, working or not.
    pub store: Store,
    /// Every lease in it, by bridge.
    pub leases: BTreeMap<String, Vec<Lease>>,
    /// What the operator should know: one line each, for the log as errors.
    pub problems: Vec<String>,
}

/// Why a file was not taken.
enum Refused {
    /// Somebody else's, or damaged: to be set aside.
    Foreign(String),
    /// Not to be had now.
    Unavailable(String),
}

impl Store {
    /// Opens or makes the file in `directory`, which is made too. `now` in unix seconds names a file set aside.
    pub fn open(directory: &Path, now: u64) -> Opened {
        let path = directory.join(FILE);
        let mut problems = Vec::new();
        let mut refused = fs::create_dir_all(directory)
            .map_err(|error| Refused::Unavailable(format!("the directory cannot be made: {error}")))
            .and_then(|()| read(&path));
        if let Err(Refused::Foreign(why)) = refused {
            refused = match set_aside(&path, now) {
                Ok(aside) => {
                    problems.push(format!(
                        "leases: {path:?} is no sound store of DHCP leases ({why}); it is set aside as {aside:?}, and \
                         every bridge starts without leases"
                    ));
                    read(&path)
                }
                Err(error) => {
                    let why = format!("it is no sound store ({why}) and cannot be set aside: {error}");
                    Err(Refused::Unavailable(why))
                }
            };
        }
        let (mode, leases) = match refused {
            Ok((database, leases)) => (Mode::Open(database), leases),
            Err(Refused::Foreign(why) | Refused::Unavailable(why)) => {
                problems.push(format!(
                    "leases: {path:?} cannot be used ({why}); DHCP leases are not kept over a restart of switchd"
                ));
                (Mode::Off, BTreeMap::new())
            }
        };
        Opened { store: Store { path, mode, pending: BTreeMap::new() }, leases, problems }
    }

    /// True if nothing is kept until a restart: commits do nothing.
    pub fn is_off(&self) -> bool {
        matches!(self.mode, Mode::Off)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes changes, given with the names of their bridges, and returns when they are on disk.
    ///
    /// On a failure they are kept for a later commit, and the line says so, once until a commit succeeds: clients
    /// are better served without a record than not at all.
    pub fn commit<'a>(&mut self, changes: impl IntoIterator<Item = (&'a str, Change)>, now: u64) -> Option<String> {
        if self.is_off() {
            return None;
        }
        for (bridge, Change { address, lease }) in changes {
            // A lease is plain strings and numbers, which JSON has.
            let text = lease.and_then(|lease| serde_json::to_string(&lease).ok());
            self.pending.insert((bridge.to_string(), u32::from(address)), text);
        }
        if self.pending.is_empty() {
            return None;
        }
        if let Mode::Failed { retry_at_s } = self.mode {
            // A clock that was set back must not delay it for long.
            if now < retry_at_s && retry_at_s - now <= RETRY_SECONDS {
                return None;
            }
            let Ok((database, _)) = read(&self.path) else {
                self.mode = Mode::Failed { retry_at_s: now.saturating_add(RETRY_SECONDS) };
                return None;
            };
            if write(&database, &self.pending).is_err() {
                self.mode = Mode::Failed { retry_at_s: now.saturating_add(RETRY_SECONDS) };
                return None;
            }
            self.mode = Mode::Open(database);
            self.pending.clear();
            return Some(format!("leases: {:?} is written again, nothing is missing", self.path));
        }
        let Mode::Open(database) = &self.mode else { return None };
        match write(database, &self.pending) {
            Ok(()) => {
                self.pending.clear();
                None
            }
            Err(error) => {
                self.mode = Mode::Failed { retry_at_s: now.saturating_add(RETRY_SECONDS) };
                Some(format!(
                    "leases: writing {:?} failed ({error}); leases given from now on are lost if switchd restarts \
                     before a write succeeds; see to the disk",
                    self.path
                ))
            }
        }
    }

    /// Forgets every lease of bridges that `keep` does not know, given the leases read at start.
    pub fn forget(
        &mut self,
        leases: &BTreeMap<String, Vec<Lease>>,
        keep: impl Fn(&str) -> bool,
        now: u64,
    ) -> Option<String> {
        let gone = leases.iter().filter(|(bridge, _)| !keep(bridge));
        let changes = gone.flat_map(|(bridge, leases)| {
            leases.iter().map(|lease| (bridge.as_str(), Change { address: lease.address, lease: None }))
        });
        self.commit(changes, now)
    }
}

fn set_aside(path: &Path, now: u64) -> io::Result<PathBuf> {
    let aside = path.with_file_name(format!("{FILE}.corrupt-{now}"));
    // rename() would replace what was set aside before.
    if aside.symlink_metadata().is_ok() {
        return Err(io::Error::new(ErrorKind::AlreadyExists, format!("{aside:?} exists")));
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

type Contents = (Database, BTreeMap<String, Vec<Lease>>);

/// Opens a file, checks every page of it and reads every lease.
fn read(path: &Path) -> Result<Contents, Refused> {
    let opened = Builder::new().set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true).create(path);
    let database = opened.map_err(|error| match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Refused::Unavailable("another process has it open, perhaps another switchd".to_string())
        }
        DatabaseError::Storage(error) => refused(error),
        other => Refused::Foreign(other.to_string()),
    })?;
    let leases = contents(&database).map_err(|error| match error {
        redb::Error::Io(error) => refused(StorageError::Io(error)),
        other => Refused::Foreign(other.to_string()),
    })?;
    Ok((database, leases))
}

fn refused(error: StorageError) -> Refused {
    match &error {
        StorageError::Io(io) if !matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
            Refused::Unavailable(error.to_string())
        }
        _ => Refused::Foreign(error.to_string()),
    }
}

/// Every lease. A new file gets its format; one with other tables, another format or a lease that does not read
/// is an error.
fn contents(database: &Database) -> Result<BTreeMap<String, Vec<Lease>>, redb::Error> {
    let foreign = |why: String| redb::Error::Corrupted(why);
    let reading = database.begin_read()?;
    let version = match reading.open_table(FORMAT) {
        Ok(table) => table.get(VERSION_KEY)?.map(|version| version.value()),
        Err(TableError::TableDoesNotExist(_)) if reading.list_tables()?.next().is_none() => {
            let writing = database.begin_write()?;
            writing.open_table(FORMAT)?.insert(VERSION_KEY, VERSION)?;
            writing.open_table(LEASES)?;
            writing.commit()?;
            return Ok(BTreeMap::new());
        }
        Err(TableError::TableDoesNotExist(_)) => return Err(foreign("a store of something else".to_string())),
        Err(error) => return Err(error.into()),
    };
    if version != Some(VERSION) {
        return Err(foreign(format!("its format is {version:?}, this switchd reads {VERSION}")));
    }
    let mut leases: BTreeMap<String, Vec<Lease>> = BTreeMap::new();
    for entry in reading.open_table(LEASES)?.iter()? {
        let (key, value) = entry?;
        let (bridge, address) = key.value();
        let lease: Lease = serde_json::from_str(value.value()).map_err(|error| foreign(error.to_string()))?;
        if lease.address != Ipv4Addr::from(address) {
            return Err(foreign(format!("the entry of {} is about {}", Ipv4Addr::from(address), lease.address)));
        }
        leases.entry(bridge.to_string()).or_default().push(lease);
    }
    Ok(leases)
}

fn write(database: &Database, changes: &BTreeMap<(String, u32), Option<String>>) -> Result<(), redb::Error> {
    // Durability is Immediate unless asked otherwise: commit() returns after the fsync.
    let writing = database.begin_write()?;
    {
        let mut table = writing.open_table(LEASES)?;
        for ((bridge, address), lease) in changes {
            let key = (bridge.as_str(), *address);
            match lease {
                Some(lease) => _ = table.insert(key, lease.as_str())?,
                None => _ = table.remove(key)?,
            }
        }
    }
    writing.commit()?;
    Ok(())
}
