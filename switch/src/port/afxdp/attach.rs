//! Opening an interface and undoing it: sockets, program, the far end's offloads, receive threads.
//!
//! [`AfxdpFactory`] lives on the control thread. What it changes outside this process, and what the kernel does not
//! undo by itself when the process dies, is written explicitly at the next attach.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use super::ethtool::Device;
use super::gro;
use super::napi::{self, Napi};
use super::netlink::{self, Link};
use super::peer::{self, PeerEnd};
use super::program::{self, Program};
use super::socket::AfxdpPort;
use super::umem::{self, Memory};
use super::{StartError, features, gro_probe};
use crate::limits::{FRAME_ROOM, QUEUES_MAX, RING_SIZE};
use crate::port::{
    AttachReport, Attachment, Feature, FramePool, OpenError, Opened, Port, PortFactory, PortSpec, SharedPool,
};

/// Kernel memory per chunk of the pool that each bound socket costs (`struct xdp_buff_xsk`, net/xdp).
const BYTES_PER_CHUNK: u64 = 128;
/// Bytes per entry of the receive and transmit rings, and of the fill and completion rings.
const BYTES_PER_RING_ENTRY: u64 = 2 * 16 + 2 * 8;

/// Offloads of the container end that must be off. An offloaded VLAN tag travels beside the frame and is lost when
/// the frame is redirected; the CRC32c of an offloaded SCTP packet is never filled in.
const PEER_OFFLOADS: [&str; 3] = ["tx-vlan-hw-insert", "tx-vlan-stag-hw-insert", "tx-checksum-sctp"];

/// Attaches interfaces to AF_XDP sockets over one pool.
pub struct AfxdpFactory {
    memory: Memory,
    shared: Arc<SharedPool>,
    program: Arc<Program>,
    /// For filling a port before it is handed to its worker.
    pool: FramePool,
    multi_buffer: bool,
    free_cores: Vec<usize>,
    features: Vec<Feature>,
}

impl AfxdpFactory {
    /// Registers a pool of `frames` frames with the kernel, loads the XDP program and probes the kernel.
    /// `worker_cores` are the cores that the switch's workers run on: receive threads are kept off them.
    /// Ports are opened in the network namespace of the thread that calls [`PortFactory::open`].
    pub fn new(frames: u32, worker_cores: &[usize]) -> Result<(AfxdpFactory, Arc<SharedPool>), StartError> {
        features::check_rights()?;
        features::raise_locked_memory();
        features::raise_open_files();
        let created = umem::create(frames)?;
        let program = Program::load(created.multi_buffer).map_err(|error| StartError::Program(error.to_string()))?;
        let multi_buffer = created.multi_buffer && program.frags;
        let free_cores = napi::free_cores(worker_cores);
        let shared = SharedPool::new(created.region, created.frames);
        let trial = gro_probe::attempt(&created.memory, &shared, worker_cores.first().copied().unwrap_or(0));
        let features = features::probe(created.probe_fd, multi_buffer, free_cores.len(), &trial);
        let factory = AfxdpFactory {
            memory: created.memory,
            pool: FramePool::new(Arc::clone(&shared)),
            shared: Arc::clone(&shared),
            program: Arc::new(program),
            multi_buffer,
            free_cores,
            features,
        };
        Ok((factory, shared))
    }

    /// Binds one socket per receive queue and fills its fill ring.
    fn open_sockets(&mut self, spec: &PortSpec, queues: u32) -> Result<Sockets, OpenError> {
        let mut sockets = Sockets { ports: Vec::new(), shared: Arc::clone(&self.shared) };
        for queue in 0..queues {
            let patience = if spec.patient { umem::BUSY_WAIT } else { Duration::ZERO };
            let rings = umem::bind_patiently(&self.memory.umem, &spec.interface, queue, patience)
                .map_err(|error| explain_bind(&spec.interface, queue, error))?;
            features::tune(rings.rx.fd().as_raw_fd());
            let memory = self.memory.clone();
            let mut port = AfxdpPort::new(rings, memory, Arc::clone(&self.shared), spec.fill_target, self.multi_buffer);
            // Nothing waits for transmission, so this only fills.
            let filled = port.service(&mut self.pool);
            sockets.ports.push(port);
            filled.map_err(|error| OpenError::Refused(format!("{}: {error}", spec.interface)))?;
        }
        self.pool.give_all();
        Ok(sockets)
    }

    /// Everything that is worked around or was changed at the far end.
    fn prepare_peer(&self, link: &Link, report: &mut AttachReport) -> Vec<(&'static str, bool)> {
        if !link.veth {
            report.notes.push(format!(
                "{}: not a veth: 802.1Q tags stay in the frame only if its VLAN offload is off: `ethtool -K {} rxvlan off`",
                link.name, link.name
            ));
            return Vec::new();
        }
        match peer::visit(link, disable_offloads) {
            Ok(done) => {
                report.notes.extend(done.notes.into_iter().map(|note| format!("{}: {note}", link.name)));
                report.peer = Some(done.label);
                done.changed
            }
            Err(error) => {
                report.notes.push(format!(
                    "{}: far end: {error}; 802.1Q tags sent by the container are lost until this is run there: \
                     `ethtool -K {} txvlan off tx-vlan-stag-hw-insert off tx-checksum-sctp off`",
                    link.name,
                    peer_name_guess(link)
                ));
                Vec::new()
            }
        }
    }
}

impl PortFactory for AfxdpFactory {
    fn open(&mut self, spec: &PortSpec) -> Result<Opened, OpenError> {
        let link = find_link(spec)?;
        let queues = count_queues(&link)?;
        if let Some(id) = program::attached_program(link.ifindex) {
            return Err(occupied(&link.name, Some(id)));
        }
        let mut sockets = self.open_sockets(spec, queues)?;
        let fds: Vec<BorrowedFd<'_>> = sockets.ports.iter().map(|port| port.socket()).collect();
        let attached = self.program.attach(link.ifindex, &fds);
        let attached = attached.map_err(|error| OpenError::Refused(format!("{}: {error}", link.name)))?;
        let attached = attached.map_err(|error| explain_attach(&link, queues, self.multi_buffer, error))?;
        let per_queue =
            BYTES_PER_CHUNK * u64::from(self.shared.region().count()) + BYTES_PER_RING_ENTRY * u64::from(RING_SIZE);
        let mut report = AttachReport {
            peer: None,
            queues: queues as usize,
            kernel_bytes: per_queue * u64::from(queues),
            notes: Vec::new(),
        };
        let changed = self.prepare_peer(&link, &mut report);
        let threads = Threads { interface: link.name.clone(), cores: self.free_cores.clone(), napi: None };
        let attachment =
            AfxdpAttachment { threads, link: Some(attached), ifindex: link.ifindex, changed, merged: None };
        let ports = std::mem::take(&mut sockets.ports);
        let queues = ports.into_iter().map(|port| Box::new(port) as Box<dyn Port>).collect();
        Ok(Opened { queues, attachment: Box::new(attachment), report })
    }

    fn features(&self) -> Vec<Feature> {
        self.features.clone()
    }
}

/// Sockets on the way to becoming ports: closed, and their frames returned, if attaching fails.
struct Sockets {
    ports: Vec<AfxdpPort>,
    shared: Arc<SharedPool>,
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for port in self.ports.drain(..) {
            self.shared.reclaim(Box::new(port).close());
        }
    }
}

/// An attached interface; see [`Attachment`].
struct AfxdpAttachment {
    threads: Threads,
    link: Option<program::Link>,
    ifindex: u32,
    /// Offloads of the far end that were switched, and what they were.
    changed: Vec<(&'static str, bool)>,
    merged: Option<gro::Merged>,
}

impl AfxdpAttachment {
    /// The interface as it is now; an error if a namesake took its place.
    fn link(&self) -> io::Result<Link> {
        let link = netlink::link_by_name(&self.threads.interface)?;
        if link.ifindex == self.ifindex { Ok(link) } else { Err(io::ErrorKind::NotFound.into()) }
    }
}

impl Attachment for AfxdpAttachment {
    fn set_threaded(&mut self, threaded: bool) -> io::Result<()> {
        if self.threads.napi.is_none() {
            self.link()?;
            self.threads.napi = Some(Napi::open(&self.threads.interface, &self.threads.cores)?);
        }
        self.threads.napi.as_ref().map_or(Ok(()), |napi| napi.set(threaded))
    }

    fn merge_at_container(&mut self, cores: &[usize]) -> io::Result<bool> {
        let link = self.link()?;
        gro::merge(&link, cores, &mut self.merged)
    }

    fn merges_at_container(&self) -> bool {
        self.merged.as_ref().is_some_and(|merged| merged.holds(&self.threads.interface))
    }
}

/// Where the kernel's receive work of an interface is to be done; nothing is opened before it is to move.
struct Threads {
    interface: String,
    cores: Vec<usize>,
    napi: Option<Napi>,
}

impl Drop for AfxdpAttachment {
    fn drop(&mut self) {
        // Every step may find the interface gone, which undoes it as well.
        if let Some(napi) = self.threads.napi.take() {
            napi.restore();
        }
        drop(self.link.take());
        if self.changed.is_empty() && self.merged.is_none() {
            return;
        }
        let Ok(link) = netlink::link_by_index(self.ifindex) else { return };
        let changed = std::mem::take(&mut self.changed);
        if let Some(merged) = self.merged.take() {
            let _ = gro::undo(&link, &merged);
        }
        if changed.is_empty() {
            return;
        }
        let _ = peer::visit(&link, |end| {
            let Ok(device) = Device::open(&end.link.name) else { return };
            for (offload, was) in changed {
                let _ = device.set_feature(offload, was);
            }
        });
    }
}

/// What [`disable_offloads`] did at the far end.
struct PeerDone {
    label: String,
    changed: Vec<(&'static str, bool)>,
    notes: Vec<String>,
}

/// Runs in the far end's namespace.
fn disable_offloads(end: &PeerEnd) -> PeerDone {
    let mut done = PeerDone { label: end.label.clone(), changed: Vec::new(), notes: Vec::new() };
    let device = match Device::open(&end.link.name) {
        Ok(device) => device,
        Err(error) => {
            done.notes.push(format!("far end {}: its offloads cannot be read: {error}", end.label));
            return done;
        }
    };
    for offload in PEER_OFFLOADS {
        match device.set_feature(offload, false) {
            Ok(Some(true)) => done.changed.push((offload, true)),
            Ok(_) => {}
            Err(error) => done.notes.push(format!(
                "far end {}: {offload} stays on ({error}): run `ethtool -K {} {offload} off` there",
                end.label, end.link.name
            )),
        }
    }
    done
}

fn peer_name_guess(link: &Link) -> String {
    link.peer_ifindex.map_or_else(|| "eth0".to_string(), |index| format!("<interface {index}>"))
}

fn find_link(spec: &PortSpec) -> Result<Link, OpenError> {
    let link = match netlink::link_by_name(&spec.interface) {
        Ok(link) => link,
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
            return Err(OpenError::Missing(spec.interface.clone()));
        }
        Err(error) => return Err(OpenError::Refused(format!("{}: cannot be looked up: {error}", spec.interface))),
    };
    // Deleted and made again since the caller saw it.
    if link.ifindex != spec.ifindex {
        return Err(OpenError::Missing(spec.interface.clone()));
    }
    if link.loopback {
        return Err(OpenError::Refused(format!("{}: a loopback interface cannot be a port: name a veth", link.name)));
    }
    Ok(link)
}

fn count_queues(link: &Link) -> Result<u32, OpenError> {
    let queues = Device::open(&link.name).and_then(|device| device.rx_queues()).map_err(|error| {
        if error.raw_os_error() == Some(libc::ENODEV) {
            OpenError::Missing(link.name.clone())
        } else {
            OpenError::Refused(format!("{}: its receive queues cannot be counted: {error}", link.name))
        }
    })?;
    if queues as usize > QUEUES_MAX {
        return Err(OpenError::Refused(format!(
            "{name}: {queues} receive queues are more than the {QUEUES_MAX} supported: `ethtool -L {name} rx {QUEUES_MAX}`",
            name = link.name
        )));
    }
    Ok(queues)
}

fn occupied(name: &str, id: Option<u32>) -> OpenError {
    let which = id.map_or_else(|| "an XDP program".to_string(), |id| format!("XDP program {id}"));
    OpenError::Refused(format!(
        "{name}: {which} is attached already: stop the program that owns it (see `bpftool net`), or \
         `ip link set dev {name} xdp off` if nothing does"
    ))
}

fn explain_bind(name: &str, queue: u32, error: io::Error) -> OpenError {
    OpenError::Refused(match error.raw_os_error() {
        Some(libc::ENODEV) => return OpenError::Missing(name.to_string()),
        Some(libc::EBUSY) => {
            format!("{name}: another AF_XDP socket is bound to receive queue {queue}: stop the program that owns it")
        }
        Some(libc::EPERM) => format!("{name}: cannot open an AF_XDP socket: the process needs CAP_NET_RAW"),
        Some(libc::ENOBUFS | libc::ENOMEM) => {
            format!(
                "{name}: no kernel memory for another AF_XDP socket: lower `frames` in [switch], or detach other ports"
            )
        }
        _ => format!("{name}: cannot bind an AF_XDP socket to receive queue {queue}: {error}"),
    })
}

fn explain_attach(link: &Link, queues: u32, multi_buffer: bool, error: io::Error) -> OpenError {
    let name = &link.name;
    OpenError::Refused(match error.raw_os_error() {
        Some(libc::ENODEV) => return OpenError::Missing(name.clone()),
        Some(libc::EBUSY | libc::EEXIST) => return occupied(name, program::attached_program(link.ifindex)),
        Some(libc::ERANGE) => {
            let limit = max_peer_mtu(multi_buffer);
            format!(
                "{name}: the MTU of its far end is too large for native XDP here: set it to {limit} or less in the \
                 container: `ip link set dev eth0 mtu {limit}`"
            )
        }
        Some(libc::ENOSPC) => format!(
            "{name}: its {queues} receive queues are fewer than its far end's transmit queues: \
             `ethtool -L {name} rx N` with N at least that number"
        ),
        Some(libc::EOPNOTSUPP) => format!("{name}: its driver has no native XDP: use a veth"),
        Some(libc::ENOTCONN) => format!("{name}: its far end is gone: delete it and make the pair again"),
        Some(libc::EPERM) => format!("{name}: attaching XDP was refused: the process needs CAP_NET_ADMIN and CAP_BPF"),
        _ => format!("{name}: cannot attach the XDP program in native mode: {error}"),
    })
}

/// What `veth_xdp_set` (drivers/net/veth.c) allows: a page less headroom, tail room and header, and 17 pages more
/// with multi-buffer.
fn max_peer_mtu(multi_buffer: bool) -> usize {
    // XDP_PACKET_HEADROOM, aligned struct skb_shared_info, Ethernet header.
    let one_page = 4096 - 256 - 320 - 14;
    if multi_buffer { one_page + 17 * 4096 } else { one_page.min(FRAME_ROOM) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link() -> Link {
        Link {
            ifindex: 7,
            name: "web0".into(),
            mtu: 1500,
            veth: true,
            loopback: false,
            up: true,
            peer_ifindex: Some(2),
            peer_nsid: Some(0),
        }
    }

    fn text(errno: i32) -> String {
        explain_attach(&link(), 1, true, io::Error::from_raw_os_error(errno)).to_string()
    }

    #[test]
    fn every_refusal_names_the_interface_and_the_cure() {
        for (errno, cure) in [
            (libc::EBUSY, "ip link set dev web0 xdp off"),
            (libc::ERANGE, "mtu 73138"),
            (libc::ENOSPC, "ethtool -L web0 rx"),
            (libc::EOPNOTSUPP, "use a veth"),
            (libc::ENOTCONN, "make the pair again"),
            (libc::EPERM, "CAP_NET_ADMIN"),
            (libc::EINVAL, "native mode"),
        ] {
            let line = text(errno);
            assert!(line.starts_with("web0: ") && line.contains(cure) && !line.contains('\n'), "{line}");
        }
        let gone = explain_attach(&link(), 1, true, io::Error::from_raw_os_error(libc::ENODEV));
        assert!(matches!(gone, OpenError::Missing(_)));
    }

    #[test]
    fn mtu_limits_are_those_of_the_driver() {
        assert_eq!((max_peer_mtu(false), max_peer_mtu(true)), (3506, 73138));
    }

    #[test]
    fn the_loopback_is_refused_and_strangers_are_missing() {
        let spec = |interface: &str, ifindex| PortSpec {
            interface: interface.into(),
            ifindex,
            fill_target: 64,
            patient: true,
        };
        assert!(matches!(find_link(&spec("lo", 1)), Err(OpenError::Refused(line)) if line.contains("loopback")));
        assert!(matches!(find_link(&spec("lo", 99)), Err(OpenError::Missing(_))));
        assert!(matches!(find_link(&spec("no-such-if", 99)), Err(OpenError::Missing(_))));
    }
}
