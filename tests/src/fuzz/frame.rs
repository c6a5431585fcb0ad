//! Target `frame`: any frames through the whole packet path, on ports in memory.
//!
//! Input: a switch (ports, workers, pool, table), then steps: frames into ports, turns of the workers, time,
//! changes of configuration, fixed entries, ports taken away and given back. Checked after each burst: what leaves a
//! port is a frame that came in on another one, at most once, in the form it must have there; every frame received is
//! sent or counted as dropped. Checked at the end: every frame of the pool is free, with one reference.

use std::sync::Arc;

use switch::ids::{DomainId, Mac, PortId};
use switch::limits::WORKERS_MAX;
use switch::port::mem::{MemPort, Wire};
use switch::port::{FramePool, Port, SharedPool};
use switch::stats::Drop;
use switch::table::fdb::{Entry, Fdb, Kind, MacKey};
use switch::table::snapshot::{PortFlags, PortSetup, Snapshot};
use switch::worker::{Command, Event, Shared, Worker};

use super::oracle;
use super::{Input, pick};

/// Frames offered before the workers take a turn, at most; a wire holds as many floods.
const BATCH_MAX: usize = 32;

/// Bridge domains, numbered from 1, each with the shortest ageing time.
const DOMAINS: usize = 3;
const AGEING_S: u32 = 10;

/// Frames in one run, at most: a bound on its time.
const FRAMES_MAX: usize = 128;

/// Addresses that the frames are made of: stations, then groups.
const STATIONS: [[u8; 6]; 4] = [[2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 3], [2, 0, 0, 0, 0, 4]];
const GROUPS: [[u8; 6]; 4] = [[0xff; 6], [0x33, 0x33, 0, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0xe], [1, 0, 0x5e, 0, 0, 1]];

/// Lengths worth reaching: around one chunk, two chunks, MTUs with and without a tag, the longest frame.
const LENGTHS: [usize; 16] =
    [0, 60, 64, 1514, 1515, 1518, 3836, 3837, 3839, 3840, 3841, 7680, 9014, 9018, 65_300, 65_553];

/// Bytes that frames are filled up with; their number is no divisor of a chunk's room, so that chunks differ.
const PADDING: [u8; 251] = {
    let mut bytes = [0; 251];
    let mut at = 0;
    while at < bytes.len() {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

/// See the module text.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    let Some(mut switch) = Switch::new(&mut input) else { return };
    while let Some(op) = input.byte() {
        if !switch.step(op, &mut input) {
            break;
        }
    }
    switch.settle();
    switch.check_table();
    switch.finish();
}

/// A port's setup from three bytes: switches and MTU, membership, limits.
fn setup(id: PortId, bytes: [u8; 3], worker: u8) -> PortSetup {
    let [switches, membership, limits] = bytes;
    let native = DomainId::new(usize::from(membership & 3));
    let ids = pick(&[[10, 20, 30], [20, 30, 10], [1, 4094, 30], [10, 11, 12]], membership >> 5);
    let carried = (1..=DOMAINS).filter(|domain| membership >> (1 + domain) & 1 == 1).filter_map(DomainId::new);
    // A configuration never puts a port into one domain twice.
    let trunk = carried.filter(|&domain| native != Some(domain)).map(|domain| (ids[domain.index() - 1], domain));
    PortSetup {
        id,
        forwarding: limits & 7 != 7,
        mtu: pick(&[1500, 68, 9000, 65_535], switches >> 6),
        native,
        trunk: trunk.collect(),
        flags: PortFlags {
            learning: switches & 1 == 0,
            isolated: switches & 2 != 0,
            flood_unicast: switches & 4 == 0,
            flood_broadcast: switches & 8 == 0,
            flood_multicast: switches & 16 == 0,
        },
        mac_limit: pick(&[u32::MAX, 0, 1, 2], limits >> 3),
        tx_worker: [worker; WORKERS_MAX],
    }
}

/// Counters of one port over all workers.
#[derive(Clone, Copy, Default)]
struct Totals {
    received: u64,
    sent: u64,
    dropped: u64,
}

struct Switch {
    shared: Arc<Shared>,
    workers: Vec<Worker>,
    ports: Vec<PortSetup>,
    wires: Vec<Arc<Wire>>,
    attached: Vec<bool>,
    /// Frames offered since the last burst, each with its ingress port.
    offered: Vec<(usize, Vec<u8>)>,
    seen: Vec<Totals>,
    frames: u32,
    /// Service calls until a transmitted frame completes.
    delay: u64,
    now_ns: u64,
    generation: u64,
    offered_total: usize,
}

impl Switch {
    /// A switch as the input says; `None` if the input ends before it is described.
    fn new(input: &mut Input<'_>) -> Option<Switch> {
        let (shape, sizes) = (input.byte()?, input.byte()?);
        let count = 2 + usize::from(shape & 3);
        let workers = 1 + usize::from(shape >> 2 & 1);
        let frames = pick(&[128, 24, 40, 64, 72, 100, 200, 256], shape >> 5);
        let fdb = Fdb::new(pick(&[64, 1, 2, 4], sizes), u64::from(sizes));
        let shared = Shared::new(workers, SharedPool::heap(frames), Arc::new(fdb)).expect("event descriptors");
        let mut switch = Switch {
            workers: (0..workers).map(|index| Worker::new(index, Arc::clone(&shared))).collect(),
            shared,
            ports: Vec::new(),
            wires: (0..count).map(|_| Wire::new(BATCH_MAX)).collect(),
            attached: vec![false; count],
            offered: Vec::new(),
            seen: vec![Totals::default(); count],
            frames,
            delay: u64::from(shape >> 3 & 3),
            now_ns: 1_000_000_000,
            generation: 0,
            offered_total: 0,
        };
        for index in 0..count {
            let port = switch.setup(index, input)?;
            switch.ports.push(port);
            switch.attach(index);
        }
        switch.publish();
        Some(switch)
    }

    fn setup(&self, index: usize, input: &mut Input<'_>) -> Option<PortSetup> {
        let bytes = [input.byte()?, input.byte()?, input.byte()?];
        Some(setup(PortId::new(index)?, bytes, self.owner(index) as u8))
    }

    /// The worker that drives a port.
    fn owner(&self, index: usize) -> usize {
        index % self.workers.len()
    }

    fn attach(&mut self, index: usize) {
        let dev: Box<dyn Port> = Box::new(MemPort::new(Arc::clone(&self.wires[index]), self.delay));
        self.shared.command(self.owner(index), Command::Attach { port: self.ports[index].id, dev });
        self.attached[index] = true;
        // Attaching clears the port's counters.
        self.turn();
        self.seen[index] = self.totals(index);
    }

    /// Puts `self.ports` in force.
    fn publish(&mut self) {
        self.generation += 1;
        let domains: Vec<_> = (1..=DOMAINS).filter_map(DomainId::new).map(|domain| (domain, AGEING_S)).collect();
        let view = Arc::new(Snapshot::new(self.generation, &self.ports, &domains));
        (0..self.workers.len()).for_each(|index| self.shared.command(index, Command::View(Arc::clone(&view))));
        self.turn();
    }

    /// Does one step; false when the input ends in the middle of it or the run was long enough.
    fn step(&mut self, op: u8, input: &mut Input<'_>) -> bool {
        let index = usize::from(op >> 3) % self.ports.len();
        match op & 7 {
            0..=3 => return self.offer(index, input),
            4 => self.settle(),
            _ => {
                self.settle();
                return self.change(op & 7, index, input).is_some();
            }
        }
        true
    }

    /// Time, configuration and tables, between two bursts.
    fn change(&mut self, op: u8, index: usize, input: &mut Input<'_>) -> Option<()> {
        let byte = input.byte()?;
        match (op, byte & 3) {
            (5, _) => self.now_ns += u64::from(byte) * 100_000_000,
            (6, _) => {
                self.ports[index] = self.setup(index, input)?;
                self.publish();
            }
            (_, 0) => self.fix(index, byte >> 2),
            (_, 1) => {
                let id = self.ports[index].id;
                self.shared.fdb().sweep(0, usize::MAX, |entry| entry.port != id || entry.kind != Kind::Dynamic);
            }
            (_, 2) if self.attached[index] => {
                self.shared.command(self.owner(index), Command::Detach { port: self.ports[index].id });
                self.attached[index] = false;
                self.turn();
            }
            (_, 2) => self.attach(index),
            _ => {
                let mac = Mac::new(pick(&STATIONS, byte >> 2));
                let domain = DomainId::new(1 + usize::from(byte >> 4) % DOMAINS)?;
                self.shared.fdb().remove(MacKey::new(domain, mac));
            }
        }
        Some(())
    }

    /// Adds a fixed entry, where there is room.
    fn fix(&mut self, index: usize, choice: u8) {
        let kind = pick(&[Kind::Static, Kind::Sticky, Kind::Local], choice >> 2);
        let domain = DomainId::new(1 + usize::from(choice >> 4) % DOMAINS).expect("a domain of the switch");
        let key = MacKey::new(domain, Mac::new(pick(&STATIONS, choice)));
        // Refused at a limit, which changes nothing.
        let _ = self.shared.fdb().insert(Entry { key, port: self.ports[index].id, kind, stamp_s: 0 });
    }

    /// Puts a frame on a port's wire.
    fn offer(&mut self, index: usize, input: &mut Input<'_>) -> bool {
        let Some(frame) = frame(input) else { return false };
        if self.offered.len() == BATCH_MAX {
            self.settle();
        }
        self.offered_total += 1;
        if self.attached[index] {
            assert!(self.wires[index].send(&frame), "the wire holds a batch");
            self.offered.push((index, frame));
        }
        self.offered_total < FRAMES_MAX
    }

    /// One turn of each worker; returns the packets moved.
    fn turn(&mut self) -> usize {
        let moved = self.workers.iter_mut().map(|worker| worker.poll_once(self.now_ns)).sum();
        while let Some(event) = self.shared.next_event() {
            match event {
                Event::Detached { dev, .. } => self.shared.pool().reclaim(dev.close()),
                Event::Gone { error, .. } => panic!("a port in memory never goes: {error}"),
                Event::Retired(_) => {}
            }
        }
        moved
    }

    /// Turns the workers until nothing moves, and checks what came of the frames offered.
    fn settle(&mut self) {
        while self.turn() > 0 {}
        let offered = std::mem::take(&mut self.offered);
        let offered: Vec<_> = offered.into_iter().map(|(from, frame)| (from, oracle::finished(frame))).collect();
        let mut burst = Totals::default();
        for index in 0..self.ports.len() {
            assert_eq!(self.wires[index].waiting(), 0, "port {index} received everything");
            let sent = self.check_sent(index, &offered);
            let (now, before) = (self.totals(index), self.seen[index]);
            assert_eq!(now.sent - before.sent, sent, "port {index} counts what it sends");
            burst.received += now.received - before.received;
            burst.sent += sent;
            burst.dropped += now.dropped - before.dropped;
            self.seen[index] = now;
        }
        assert!(burst.received <= offered.len() as u64);
        assert!(burst.sent + burst.dropped >= burst.received, "every frame received is sent or counted as dropped");
    }

    /// Takes what a port sent, checks each frame, returns their number.
    fn check_sent(&self, index: usize, offered: &[(usize, Vec<u8>)]) -> u64 {
        let mut count = 0;
        let mut allowed: Option<Vec<Vec<u8>>> = None;
        while let Some(frame) = self.wires[index].receive() {
            count += 1;
            let allowed = allowed.get_or_insert_with(|| self.allowed(index, offered));
            match allowed.iter().position(|form| *form == frame) {
                Some(at) => drop(allowed.swap_remove(at)),
                None => panic!(
                    "port {index} sent a frame that nobody sent to it, or once too often: {} bytes, {:02x?}",
                    frame.len(),
                    &frame[..frame.len().min(64)]
                ),
            }
        }
        count
    }

    /// What may leave a port, once each.
    fn allowed(&self, index: usize, offered: &[(usize, Vec<u8>)]) -> Vec<Vec<u8>> {
        let form = |(from, frame): &(usize, Vec<u8>)| oracle::form(&self.ports[*from], &self.ports[index], frame);
        offered.iter().filter_map(form).collect()
    }

    fn totals(&self, index: usize) -> Totals {
        let id = self.ports[index].id;
        self.shared.all_stats().map(|stats| stats.port(id)).fold(Totals::default(), |sum, port| Totals {
            received: sum.received + port.rx_packets.get(),
            sent: sum.sent + port.tx_packets.get(),
            dropped: sum.dropped + Drop::ALL.iter().map(|&reason| port.drops(reason)).sum::<u64>(),
        })
    }

    /// The table counts what it holds and keeps its limit.
    fn check_table(&self) {
        let fdb = self.shared.fdb();
        let mut dynamic = 0;
        fdb.scan(0, usize::MAX, |entry| dynamic += u32::from(entry.kind == Kind::Dynamic));
        assert_eq!(dynamic, fdb.dynamic_len());
        assert!(dynamic <= fdb.entries_max());
    }

    /// Ends the workers and looks for every frame of the pool.
    fn finish(self) {
        let Switch { shared, workers, frames, .. } = self;
        drop(workers);
        let mut pool = FramePool::new(Arc::clone(shared.pool()));
        let free: Vec<_> = std::iter::from_fn(|| pool.alloc()).collect();
        assert_eq!(free.len(), frames as usize, "every frame is free when nothing moves");
        assert!((0..frames).all(|index| pool.region().references(index) == 1), "free frames have one reference");
        free.into_iter().for_each(|frame| pool.free(frame));
    }
}

/// The next frame of the input; `None` at its end.
fn frame(input: &mut Input<'_>) -> Option<Vec<u8>> {
    let shape = input.byte()?;
    if shape == 0xff {
        let count = usize::from(input.byte()?);
        return Some(input.take(count).to_vec());
    }
    let destination = if shape & 4 == 0 { pick(&STATIONS, shape) } else { pick(&GROUPS, shape) };
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&pick(&STATIONS, shape >> 3));
    if shape & 0x20 != 0 {
        let tag = input.byte()?;
        let vlan = pick(&[10, 20, 30, 0, 4095, 1, 4094, 11], tag);
        frame.extend_from_slice(&[0x81, 0]);
        frame.extend_from_slice(&(u16::from(tag >> 4) << 12 | vlan).to_be_bytes());
    }
    let (count, length) = (input.byte()?, input.byte()?);
    let payload = input.take(usize::from(count));
    match shape >> 6 {
        1 => transport(&mut frame, payload, pick(&LENGTHS, length), 4),
        2 => transport(&mut frame, payload, pick(&LENGTHS, length), 6),
        _ => frame.extend_from_slice(payload),
    }
    // Whatever it is, it may be longer (padding) than it says.
    let length = pick(&LENGTHS, length);
    while frame.len() < length {
        frame.extend_from_slice(&PADDING[..PADDING.len().min(length - frame.len())]);
    }
    Some(frame)
}

/// Appends an IP packet with a UDP or TCP segment of `payload` whose checksum is partial, filling the frame up to
/// `length` bytes where that is longer. The payload's first byte changes a header byte, or none.
fn transport(frame: &mut Vec<u8>, payload: &[u8], length: usize, version: u8) {
    let ip = frame.len() + 2;
    let (protocol, l4_len) = if payload.len().is_multiple_of(2) { (17u8, 8) } else { (6u8, 20) };
    let header_len = if version == 4 { 20 } else { 40 };
    let data_len = payload.len().max(length.saturating_sub(ip + header_len + l4_len));
    // The longest frames have room for more than an IP packet may have.
    let len = (l4_len + data_len).min(65_535 - header_len) as u16;
    if version == 4 {
        let total = (len + 20).to_be_bytes();
        frame.extend_from_slice(&[8, 0, 0x45, 0, total[0], total[1], 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        frame.extend_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    } else {
        let [high, low] = len.to_be_bytes();
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, high, low, protocol, 64]);
        frame.extend_from_slice(&[0xfd; 32]);
    }
    let start = ip + header_len;
    let addresses = oracle::slow_sum(&frame[start - if version == 4 { 8 } else { 32 }..start]);
    let pseudo = switch::path::checksum::fold(u64::from(addresses) + u64::from(len) + u64::from(protocol));
    let mut segment = [0; 20];
    segment[..4].copy_from_slice(&[0x12, 0x34, 0, 53]);
    segment[4..6].copy_from_slice(&len.to_be_bytes());
    let field = if protocol == 17 { 6 } else { 16 };
    segment[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    frame.extend_from_slice(&segment[..l4_len]);
    frame.extend_from_slice(payload);
    if let Some((&first, rest)) = payload.split_first() {
        let at = ip + usize::from(first);
        if let (Some(byte), Some(&other)) = (frame.get_mut(at).filter(|_| first < 64), rest.first()) {
            *byte = other;
        }
    }
}
