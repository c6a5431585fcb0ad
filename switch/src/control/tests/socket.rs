//! The whole thread: event loop, workers on threads of their own, and the client library on a real socket.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;

use ctl::client::Client;
use ctl::protocol::VersionReport;

use super::*;
use crate::control::EventLoop;
use crate::control::server::Server;
use crate::ids::DomainId;
use crate::table::fdb::{LearnLimits, MacKey};
use crate::worker::{PollMode, RunOptions};

struct Running {
    path: PathBuf,
    _dir: tempfile::TempDir,
    lab: SharedLab,
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
    /// What the names of its threads begin with.
    name: String,
}

static STARTED: AtomicU32 = AtomicU32::new(0);

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    std::thread::Builder::new().name(name.to_string()).spawn(work).unwrap()
}

/// Starts everything, with three ports to attach.
fn start() -> Running {
    let Bench { mut control, workers, lab, pool, epoch, .. } = Bench::new(THREE, 2);
    let name = format!("sw{}.", STARTED.fetch_add(1, Ordering::Relaxed));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    lock(&lab).events.extend([link(1, "a", true), link(2, "b", true), link(3, "c", true)]);
    let shared = Arc::clone(&control.shared);
    let (listens, listening) = std::sync::mpsc::channel();
    let (socket, threads) = (path.clone(), name.clone());
    let thread = spawn(&format!("{name}control"), move || {
        let server = Server::bind(&socket, 0o600, None).unwrap();
        listens.send(()).unwrap();
        let events = EventLoop::new(false).unwrap();
        control.closer = events.closer(&pool);
        let run = |worker: Worker| {
            let options = RunOptions { core: 0, poll: PollMode::Adaptive, epoch };
            spawn(&format!("{threads}worker"), move || crate::worker::run(worker, options))
        };
        let workers: Vec<_> = workers.into_iter().map(run).collect();
        events.run(&mut control, server).unwrap();
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        drop(control);
        let mut pool = FramePool::new(Arc::clone(&pool));
        let free = std::iter::from_fn(|| pool.alloc()).count();
        assert_eq!(free, pool.region().count() as usize, "every frame is back");
    });
    listening.recv().unwrap();
    Running { path, _dir: dir, lab, shared, thread, name }
}

fn client(running: &Running) -> Client {
    Client::connect(&running.path, Duration::from_secs(20)).unwrap()
}

#[test]
fn a_client_sees_ports_come_up_and_ends_the_switch() {
    let running = start();
    let mut client = client(&running);
    let (versions, _) = client.collect::<VersionReport>(Request::Version {}).unwrap();
    assert_eq!(versions[0].pid, std::process::id());
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let (ports, _) = client.collect::<PortStatus>(Request::ShowPorts { port: None }).unwrap();
        if ports.iter().all(|port| port.state == ctl::protocol::PortState::Up) {
            break;
        }
        assert!(Instant::now() < deadline, "{ports:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = client.call(Request::DelPort { port: "nope".to_string() }).unwrap_err();
    assert!(refused.to_string().contains("no port of this switch"), "{refused}");
    client.call(Request::Shutdown {}).unwrap();
    let asked = Instant::now();
    running.thread.join().unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(!running.path.exists() && lock(&running.lab).attached == 0);
}

#[test]
fn a_hundred_thousand_entries_stream_while_others_are_served() {
    let running = start();
    let mut first = client(&running);
    // The default table holds 65,536; the rest must be refused, and all of those that are in be shown.
    let domain = DomainId::new(1).unwrap();
    let port = crate::ids::PortId::new(0).unwrap();
    for number in 0..100_000 {
        running.shared.fdb().learn(MacKey::new(domain, mac(number)), port, 0, LearnLimits::NONE);
    }
    let (mut dumped, mut between) = (0, 0);
    let mut other = client(&running);
    let mut items = first.request::<FdbEntry>(Request::ShowFdb(Default::default())).unwrap();
    for item in items.by_ref() {
        item.unwrap();
        dumped += 1;
        if dumped % 10_000 == 0 {
            other.call(Request::Version {}).unwrap();
            between += 1;
        }
    }
    assert_eq!((dumped, between), (65_536, 6));
    assert_eq!(items.done().and_then(|done| done.limit), Some(65_536));
    let done = first.call(Request::FlushFdb(Default::default())).unwrap();
    assert_eq!((done.affected, running.shared.fdb().len()), (Some(65_536), 0));
    first.call(Request::Shutdown {}).unwrap();
    running.thread.join().unwrap();
}

#[test]
fn an_idle_control_thread_sleeps() {
    let running = start();
    let mut client = client(&running);
    client.call(Request::Version {}).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    let before = thread_cpu(&running);
    std::thread::sleep(Duration::from_secs(2));
    let used = thread_cpu(&running) - before;
    // Workers too: nobody spins without traffic. Ticks are 10 ms; a busy loop would take 200.
    assert!(used <= 10, "{used} ticks in two seconds");
    client.call(Request::Shutdown {}).unwrap();
    running.thread.join().unwrap();
}

/// Clock ticks that the switch's own threads have used: the control thread and what it started.
fn thread_cpu(running: &Running) -> u64 {
    let mut ticks = 0;
    for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(stat) = std::fs::read_to_string(task.path().join("stat")) else { continue };
        let Some((head, rest)) = stat.rsplit_once(')') else { continue };
        if head.contains(&running.name) {
            let fields: Vec<&str> = rest.split_whitespace().collect();
            ticks += fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        }
    }
    ticks
}
