//! The control logic without a kernel: ports in memory, scripted link events, workers stepped by hand.

mod life;
mod requests;
mod router;
mod scale;
mod socket;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ctl::protocol::{Done, ErrorBody, FdbEntry, Item, PortStatus, Request};

use super::server::{ChunkContext, Handler, Progress, Reply};
use super::{Closer, Control, Link, LinkEvent, LinkSource, Parts};
use crate::config::Config;
use crate::host::{Host, HostSettings};
use crate::ids::Mac;
use crate::limits::{FRAMES_DEFAULT, FRAMES_MIN};
use crate::port::mem::{MemPort, Wire};
use crate::port::{
    AttachReport, Attachment, CONTAINER_GRO, Feature, Frame, FramePool, Frames, OpenError, Opened, Port, PortError,
    PortFactory, PortSpec, Service, SharedPool,
};
use crate::table::fdb::Fdb;
use crate::worker::{Shared, Worker};

/// The world outside the switch.
#[derive(Default)]
struct Lab {
    events: VecDeque<LinkEvent>,
    /// Far ends, by interface; one per queue.
    wires: HashMap<String, Vec<Arc<Wire>>>,
    /// Queues of interfaces that have several.
    queues: HashMap<String, usize>,
    /// Interfaces that cannot be attached, and why.
    refusals: HashMap<String, String>,
    /// Interfaces whose device has died without a word from netlink.
    dead: Vec<String>,
    /// Attempts to attach, by interface.
    attempts: HashMap<String, usize>,
    /// Those that waited for a busy queue.
    patient: HashMap<String, usize>,
    /// Receive work moved: interface and where to.
    threaded: Vec<(String, bool)>,
    /// Containers asked to receive in batches: interface and the queues' cores.
    merged: Vec<(String, Vec<usize>)>,
    /// Those that do it, as far as the kernel did not forget.
    merging: HashSet<String>,
    /// The kernel preempts system calls.
    preempts: bool,
    /// Interfaces whose containers do not want to.
    declining: Vec<String>,
    /// Interfaces whose containers cannot.
    unmergeable: Vec<String>,
    /// Frames in the fill ring, by interface (of the queue serviced last).
    filled: HashMap<String, usize>,
    attached: usize,
}

type SharedLab = Arc<Mutex<Lab>>;

/// A failed assertion must not hide behind the next one.
fn lock(lab: &SharedLab) -> MutexGuard<'_, Lab> {
    lab.lock().unwrap_or_else(PoisonError::into_inner)
}

struct LabLinks(SharedLab);

impl LinkSource for LabLinks {
    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn read(&mut self, out: &mut Vec<LinkEvent>) -> io::Result<()> {
        out.extend(lock(&self.0).events.drain(..));
        Ok(())
    }
}

struct LabFactory(SharedLab);

impl PortFactory for LabFactory {
    fn open(&mut self, spec: &PortSpec) -> Result<Opened, OpenError> {
        let mut lab = lock(&self.0);
        let name = spec.interface.clone();
        *lab.attempts.entry(name.clone()).or_default() += 1;
        if spec.patient {
            *lab.patient.entry(name.clone()).or_default() += 1;
        }
        if let Some(why) = lab.refusals.get(&name) {
            return Err(OpenError::Refused(format!("{name}: {why}")));
        }
        let count = lab.queues.get(&name).copied().unwrap_or(1);
        let wires: Vec<Arc<Wire>> = (0..count).map(|_| Wire::new(256)).collect();
        let port = |wire: &Arc<Wire>| -> Box<dyn Port> {
            let (name, lab, inner) = (name.clone(), Arc::clone(&self.0), MemPort::new(Arc::clone(wire), 2));
            Box::new(LabPort { name, lab, inner, fill: Vec::new(), fill_target: spec.fill_target as usize })
        };
        let queues = wires.iter().map(port).collect();
        lab.wires.insert(name.clone(), wires);
        lab.attached += 1;
        let peer = Some(format!("eth0 in namespace {name}"));
        let report =
            AttachReport { peer, queues: count, notes: vec![format!("{name}: a note")], ..AttachReport::default() };
        Ok(Opened { queues, attachment: Box::new(LabAttachment(name, Arc::clone(&self.0))), report })
    }

    fn features(&self) -> Vec<Feature> {
        let merges = Feature { name: CONTAINER_GRO, present: !lock(&self.0).preempts, without: "frame by frame" };
        vec![Feature { name: "teleport", present: false, without: "frames take the wire" }, merges]
    }
}

struct LabAttachment(String, SharedLab);

impl Attachment for LabAttachment {
    fn set_threaded(&mut self, threaded: bool) -> io::Result<()> {
        lock(&self.1).threaded.push((self.0.clone(), threaded));
        Ok(())
    }

    fn merge_at_container(&mut self, cores: &[usize]) -> io::Result<bool> {
        let mut lab = lock(&self.1);
        lab.merged.push((self.0.clone(), cores.to_vec()));
        if lab.unmergeable.contains(&self.0) {
            return Err(io::Error::other("no thread"));
        }
        if lab.declining.contains(&self.0) {
            return Ok(false);
        }
        lab.merging.insert(self.0.clone());
        Ok(true)
    }

    fn merges_at_container(&self) -> bool {
        lock(&self.1).merging.contains(&self.0)
    }
}

impl Drop for LabAttachment {
    fn drop(&mut self) {
        lock(&self.1).attached -= 1;
    }
}

/// A [`MemPort`] whose device can die, and that keeps a fill ring as a socket does. Nothing ever leaves that ring:
/// the port is quiet.
struct LabPort {
    name: String,
    lab: SharedLab,
    inner: MemPort,
    fill: Vec<Frame>,
    fill_target: usize,
}

impl Port for LabPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        self.inner.rx(pool, out);
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        self.inner.tx(pool, frames);
    }

    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError> {
        if lock(&self.lab).dead.contains(&self.name) {
            return Err(PortError::Gone);
        }
        let missing = self.fill_target.saturating_sub(self.fill.len());
        self.fill.extend(std::iter::from_fn(|| pool.alloc()).take(missing));
        lock(&self.lab).filled.insert(self.name.clone(), self.fill.len());
        self.inner.service(pool)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        self.inner.held() + self.fill.len()
    }

    fn set_fill_target(&mut self, frames: u32) {
        self.fill_target = frames as usize;
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        let mut frames = self.fill;
        frames.extend(Box::new(self.inner).close());
        frames
    }
}

/// A switch and its surroundings.
struct Bench {
    control: Control,
    workers: Vec<Worker>,
    lab: SharedLab,
    pool: Arc<SharedPool>,
    epoch: Instant,
    now: Instant,
    file: tempfile::NamedTempFile,
}

impl Bench {
    /// A switch on `workers` workers with this configuration; no interface exists yet.
    fn new(text: &str, workers: usize) -> Bench {
        let cores: Vec<usize> = (0..workers).collect();
        let text = format!("[switch]\nworkers = {cores:?}\nframes = {FRAMES_DEFAULT}\n{text}");
        Bench::in_lab(&text, &cores, SharedLab::default())
    }

    /// The same with a whole configuration, in a world with something in it.
    fn in_lab(text: &str, cores: &[usize], lab: SharedLab) -> Bench {
        let workers = cores.len();
        let config = Config::parse("test.toml", text, cores).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let pool = SharedPool::heap(config.switch.frames.max(FRAMES_MIN));
        let shared = Shared::new(workers, Arc::clone(&pool), Arc::new(Fdb::new(config.switch.fdb_entries, 7))).unwrap();
        lock(&lab).events.extend([LinkEvent::DumpBegins, LinkEvent::DumpEnds]);
        let epoch = Instant::now();
        let control = Control::new(Parts {
            config,
            source: Some(file.path().to_owned()),
            epoch,
            shared: Arc::clone(&shared),
            host: Arc::new(parking_lot::Mutex::new(Host::new(Arc::clone(&shared), HostSettings::default()))),
            machine: "lab".to_string(),
            factory: Box::new(LabFactory(Arc::clone(&lab))),
            links: Box::new(LabLinks(Arc::clone(&lab))),
            closer: Closer::in_place(Arc::clone(&pool)),
        });
        let workers = (0..workers).map(|index| Worker::new(index, Arc::clone(&shared))).collect();
        Bench { control, workers, lab, pool, epoch, now: epoch, file }
    }

    fn lab(&self) -> MutexGuard<'_, Lab> {
        lock(&self.lab)
    }

    fn event(&self, event: LinkEvent) {
        self.lab().events.push_back(event);
    }

    /// Lets time pass, and everybody do what they can, until nothing more happens.
    fn settle(&mut self) {
        for _ in 0..40 {
            self.now += Duration::from_millis(1);
            self.control.turn(self.now);
            let now_ns = self.now.duration_since(self.epoch).as_nanos() as u64;
            self.workers.iter_mut().for_each(|worker| {
                worker.poll_once(now_ns);
            });
        }
    }

    fn wait(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(20);
            self.settle();
        }
    }

    /// The interface exists and is up.
    fn up(&mut self, ifindex: u32, name: &str) {
        self.event(link(ifindex, name, true));
        self.settle();
    }

    /// Sends a frame into a port, and answers which other interfaces get it.
    fn send(&mut self, from: &str, dst: Mac, src: Mac) -> Vec<String> {
        self.send_to_queue(from, 0, dst, src)
    }

    fn send_to_queue(&mut self, from: &str, queue: usize, dst: Mac, src: Mac) -> Vec<String> {
        let mut frame = Vec::from(dst.octets());
        frame.extend(src.octets());
        frame.extend([0x88, 0xb5]);
        frame.resize(60, 0x5a);
        assert!(self.lab().wires[from][queue].send(&frame));
        self.settle();
        let lab = self.lab();
        let mut got = Vec::new();
        for (name, wires) in &lab.wires {
            while let Some(received) = wires.iter().find_map(|wire| wire.receive()) {
                // A trunk gets it tagged; nothing else changes.
                let tag = if received.get(12..14) == Some(&[0x81, 0x00]) { 4 } else { 0 };
                let bare: Vec<u8> = received.iter().take(12).chain(received.iter().skip(12 + tag)).copied().collect();
                assert_eq!(bare, frame, "frames pass unchanged");
                got.push(name.clone());
            }
        }
        got.sort_unstable();
        got
    }

    /// Carries out a request to its end.
    fn ask(&mut self, request: Request) -> Result<(Vec<Item>, Done), ErrorBody> {
        request.check().map_err(ErrorBody::usage)?;
        let mut stream = match self.control.handle(request) {
            Reply::Done(items, done) => {
                self.settle();
                return Ok((items, done));
            }
            Reply::Error(error) => return Err(error),
            Reply::Stream(stream) => stream,
        };
        let mut items = Vec::new();
        for _ in 0..10_000 {
            self.settle();
            match stream.next_chunk(&mut items, &ChunkContext { now: self.now, items_max: 512 }) {
                Progress::More | Progress::Wait => {}
                Progress::Done(done) => return Ok((items, done)),
                Progress::Failed(error) => return Err(error),
            }
        }
        panic!("the answer does not end");
    }

    fn refusal(&mut self, request: Request) -> String {
        let text = self.ask(request).unwrap_err().to_string();
        assert!(!text.contains('\n'), "{text}");
        text
    }

    fn ports(&mut self) -> Vec<PortStatus> {
        let (items, _) = self.ask(Request::ShowPorts { port: None }).unwrap();
        items
            .into_iter()
            .map(|item| match item {
                Item::Port(port) => *port,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    fn port(&mut self, name: &str) -> PortStatus {
        self.ports().into_iter().find(|port| port.interface == name).unwrap()
    }

    fn fdb(&mut self) -> Vec<FdbEntry> {
        let (items, _) = self.ask(Request::ShowFdb(Default::default())).unwrap();
        let entry = |item| match item {
            Item::Fdb(entry) => entry,
            other => panic!("{other:?}"),
        };
        let mut entries: Vec<FdbEntry> = items.into_iter().map(entry).collect();
        entries.sort_unstable_by_key(|entry| (entry.mac, entry.bridge.clone()));
        entries
    }

    /// Attempts to attach an interface so far.
    fn attempts(&self, name: &str) -> usize {
        self.lab().attempts.get(name).copied().unwrap_or(0)
    }

    /// Ends the switch and counts the frames.
    fn end(mut self) {
        self.control.stop();
        self.settle();
        assert!(self.control.is_over());
        assert_eq!(self.lab().attached, 0);
        drop(self.workers);
        drop(self.control);
        let mut pool = FramePool::new(Arc::clone(&self.pool));
        let free = std::iter::from_fn(|| pool.alloc()).count();
        assert_eq!(free, self.pool.region().count() as usize, "every frame is back");
    }
}

fn link(ifindex: u32, name: &str, up: bool) -> LinkEvent {
    let mac = Some(Mac::from_bits(0x0200_0000_ff00 | u64::from(ifindex)));
    LinkEvent::Present(Link { ifindex, name: name.to_string(), up, mtu: 1500, mac })
}

fn mac(number: u64) -> Mac {
    Mac::from_bits(0x0200_0000_0000 | number)
}

/// Three access ports of one bridge.
const THREE: &str = r#"
[[bridge]]
name = "pods"
[[port]]
interface = "a"
bridge = "pods"
[[port]]
interface = "b"
bridge = "pods"
[[port]]
interface = "c"
bridge = "pods"
"#;

fn three(workers: usize) -> Bench {
    let mut bench = Bench::new(THREE, workers);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    bench
}
