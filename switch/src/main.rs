//! switchd: reads its arguments and its configuration, starts the workers and runs the control thread.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use clap::Parser;
use parking_lot::Mutex;
use switch::config::{self, Config, SwitchConfig};
use switch::control::server::{Server, ServerError};
use switch::control::{Control, EventLoop, NetlinkSource, Parts, machine};
use switch::host::{Host, HostSettings, HostThread};
use switch::port::afxdp::{self, AfxdpFactory};
use switch::port::{FramePool, SharedPool};
use switch::table::fdb::Fdb;
use switch::worker::{self, AbortOnPanic, PollMode, RunOptions, Shared, Worker};

/// Mode of the control socket: its owner and its group may use it.
const SOCKET_MODE: u32 = 0o660;

/// The user-space switch of a container host.
#[derive(Parser)]
#[command(name = "switchd", version)]
struct Arguments {
    /// Configuration file (TOML).
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Read and check the configuration, and do nothing else.
    #[arg(long)]
    check: bool,
    /// What to log: error, warn, info, debug or trace, or a filter as in RUST_LOG, which this overrides.
    #[arg(long, value_name = "LEVEL")]
    log: Option<String>,
}

/// What tells this machine from others (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// Longest wait for a killed predecessor: its ports are closed one by one, some milliseconds each.
const DYING_PATIENCE: Duration = Duration::from_secs(10);

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    match start(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            for line in error.to_string().lines() {
                eprintln!("switchd: {line}");
            }
            ExitCode::FAILURE
        }
    }
}

/// Help and version go to stdout; anything else is wrong usage, told in one line.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.to_string();
    // clap's usage text and its pointer to --help follow the message after an empty line.
    let end = text.find("\n\nUsage:").or_else(|| text.find("\n\nFor more information")).unwrap_or(text.len());
    let words: Vec<&str> = text[..end].split_whitespace().skip_while(|word| *word == "error:").collect();
    eprintln!("switchd: {}; see switchd --help", words.join(" "));
    ExitCode::from(2)
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    log_to_stderr(arguments.log.as_deref())?;
    let config = load(&arguments.config)?;
    if arguments.check {
        return Ok(());
    }
    run(config, &arguments.config)
}

fn log_to_stderr(filter: Option<&str>) -> Result<(), Failure> {
    let text = filter.map(str::to_string).or_else(|| std::env::var("RUST_LOG").ok());
    let text = text.unwrap_or_else(|| "info".to_string());
    let filter = tracing_subscriber::EnvFilter::try_new(&text)
        .map_err(|error| format!("--log {text}: {error}: use error, warn, info, debug or trace"))?;
    let colour = std::io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(colour).with_target(false).init();
    Ok(())
}

fn load(file: &Path) -> Result<Config, Failure> {
    let name = file.display().to_string();
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {name}: {error}"))?;
    // Without a list of cores every core number is accepted; pinning then says what is wrong.
    let cores: Vec<usize> = core_affinity::get_core_ids().unwrap_or_default().iter().map(|core| core.id).collect();
    Ok(Config::parse(&name, &text, &cores)?)
}

/// Runs the switch until it is asked to end.
fn run(config: Config, file: &Path) -> Result<(), Failure> {
    let epoch = Instant::now();
    let settings = config.switch.clone();
    // Before anything is opened: without rights, everything fails in its own confusing way.
    afxdp::check_rights()?;
    let events = EventLoop::new(true).map_err(|error| format!("cannot make the control loop: {error}"))?;
    // Before all else: a second switch on the same socket must find out before it touches anything.
    let server = bind(&settings)?;
    let links = NetlinkSource::open().map_err(|error| format!("cannot listen for interfaces (netlink): {error}"))?;
    let (factory, pool) = AfxdpFactory::new(settings.frames, &settings.workers)?;
    let fdb = Arc::new(Fdb::new(settings.fdb_entries, random_seed()?));
    if !afxdp::prefer_huge(fdb.memory()) {
        tracing::debug!("the forwarding database stays on small pages: the kernel gave no huge ones");
    }
    let shared = Shared::new(settings.workers.len(), Arc::clone(&pool), fdb)
        .map_err(|error| format!("cannot make the workers' queues: {error}"))?;
    let _priority = worker::raise_session();
    let workers = start_workers(&config, &shared, epoch)?;
    let epoch_s = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    let host = HostSettings { epoch_s, seed: random_seed()?, ..HostSettings::default() };
    let host = Arc::new(Mutex::new(Host::new(Arc::clone(&shared), host)));
    let host_thread = HostThread::spawn(Arc::clone(&host), Arc::clone(&shared), epoch)
        .map_err(|error| format!("cannot start the host's thread: {error}"))?;
    worker::keep_off(&settings.workers);
    tracing::info!(
        "switchd {}: {} ports, workers on cores {:?}, {} frames",
        env!("CARGO_PKG_VERSION"),
        config.ports.len(),
        config.switch.workers,
        config.switch.frames
    );
    let mut control = Control::new(Parts {
        config,
        source: Some(std::path::absolute(file)?),
        epoch,
        shared,
        host,
        machine: machine(Path::new(MACHINE_ID)),
        factory: Box::new(factory),
        links: Box::new(links),
        closer: events.closer(&pool),
    });
    let ended = events.run(&mut control, server);
    for worker in workers {
        worker.join().map_err(|_| "a worker ended abnormally; see the log")?;
    }
    host_thread.stop().map_err(|_| "the host's thread ended abnormally; see the log")?;
    drop(control);
    if cfg!(debug_assertions) {
        check_frames(&pool);
    }
    ended.map_err(|error| format!("the control loop failed: {error}").into())
}

/// Opens the control socket. A predecessor that was just killed still holds it until the kernel has closed its ports:
/// that one is waited for, a live one is not.
fn bind(settings: &SwitchConfig) -> Result<Server, ServerError> {
    let path = Path::new(&settings.control_socket);
    let deadline = Instant::now() + DYING_PATIENCE;
    loop {
        match Server::bind(path, SOCKET_MODE, settings.control_group.as_deref()) {
            Err(ServerError::InUse { pid: Some(pid), .. }) if is_dying(pid) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            result => return result,
        }
    }
}

/// True for a process on its way out: `PF_EXITING` among the flags of `/proc/PID/stat`, or nothing left of it.
fn is_dying(pid: i32) -> bool {
    const PF_EXITING: u64 = 4;
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return true };
    // The name may contain anything; the fields behind it are numbered from the state, the flags are the seventh.
    let fields = stat.rsplit_once(") ").map_or("", |(_, fields)| fields);
    let flags = fields.split(' ').nth(6).and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

fn start_workers(config: &Config, shared: &Arc<Shared>, epoch: Instant) -> Result<Vec<JoinHandle<()>>, Failure> {
    let poll = match config.switch.poll {
        config::PollMode::Adaptive => PollMode::Adaptive,
        config::PollMode::Spin => PollMode::Spin,
    };
    let start = |(index, &core): (usize, &usize)| {
        let shared = Arc::clone(shared);
        let options = RunOptions { core, poll, epoch };
        let thread = std::thread::Builder::new().name(format!("worker{index}"));
        thread.spawn(move || {
            let _guard = AbortOnPanic("a worker");
            worker::run(Worker::new(index, shared), options);
        })
    };
    let workers: Result<Vec<_>, std::io::Error> = config.switch.workers.iter().enumerate().map(start).collect();
    workers.map_err(|error| format!("cannot start a worker thread: {error}").into())
}

/// A number that nobody outside can guess: the FDB's hash must not be predictable.
fn random_seed() -> Result<u64, Failure> {
    use std::hash::{BuildHasher, Hasher};
    // The standard library keys every RandomState from the operating system's random source.
    Ok(std::collections::hash_map::RandomState::new().build_hasher().finish())
}

/// Counts the frames: with every port closed and every worker gone, all of them are free.
fn check_frames(shared: &Arc<SharedPool>) {
    let mut pool = FramePool::new(Arc::clone(shared));
    let mut free = Vec::new();
    while let Some(frame) = pool.alloc() {
        free.push(frame);
    }
    let (found, made) = (free.len(), shared.region().count() as usize);
    free.into_iter().for_each(|frame| pool.free(frame));
    if found == made {
        tracing::debug!("all {made} frames are back in the pool");
    } else {
        tracing::error!("{} of {made} frames are missing at the end", made.saturating_sub(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_are_not_dying_and_the_dead_are() {
        assert!(!is_dying(std::process::id() as i32));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        let deadline = Instant::now() + Duration::from_secs(10);
        // Not waited for yet: a zombie.
        while !is_dying(pid) {
            assert!(Instant::now() < deadline);
            std::thread::sleep(Duration::from_millis(1));
        }
        child.wait().unwrap();
        assert!(is_dying(pid));
    }
}
