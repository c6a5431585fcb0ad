//! The poll loop: one worker drives its ports on one core.
//!
//! [`Worker::poll_once`] is one deterministic turn (commands, frames from other workers, a burst from
//! each port, transmission) and takes the time as an argument, so that a test can step it. `run` wraps
//! it with pinning, priority and adaptive sleeping.

mod patience;
mod priority;
mod run;
mod shared;

use std::sync::Arc;

pub use priority::{SessionPriority, keep_off, raise_session};
pub use run::{AbortOnPanic, PollMode, RunOptions, run};
pub use shared::{Command, Event, Shared, Waker};

use arrayvec::ArrayVec;

use crate::ids::{DomainId, PortId};
use crate::limits::{BURST, HANDOFF, INJECTED_MAX, PORTS_MAX};
use crate::path::{Burst, Ctx, Redirects, TxStage, process, process_injected};
use crate::port::{Frame, FramePool, Frames, KernelCounters, Port};
use crate::stats::{Drop, PortStats, WorkerStats};
use crate::table::snapshot::Snapshot;

const NO_SLOT: u16 = u16::MAX;

/// A queue of a port that this worker drives.
struct Local {
    id: PortId,
    dev: Box<dyn Port>,
    /// The device said that it is gone; nothing more is sent to it.
    gone: bool,
    /// The kernel's counters when they were last added to ours.
    kernel: KernelCounters,
}

impl Local {
    /// Adds what the kernel counted since the last time to the port's counters.
    fn count_kernel(&mut self, stats: &PortStats) {
        let now = self.dev.kernel_counters();
        let before = std::mem::replace(&mut self.kernel, now);
        stats.kernel_rx_dropped.add(now.rx_dropped.saturating_sub(before.rx_dropped));
        stats.kernel_rx_ring_full.add(now.rx_ring_full.saturating_sub(before.rx_ring_full));
        stats.kernel_rx_fill_ring_empty.add(now.rx_fill_ring_empty.saturating_sub(before.rx_fill_ring_empty));
        stats.kernel_tx_invalid.add(now.tx_invalid.saturating_sub(before.tx_invalid));
    }
}

/// One worker. Owned by its thread (or by a test).
pub struct Worker {
    index: usize,
    shared: Arc<Shared>,
    stats: Arc<WorkerStats>,
    pool: FramePool,
    view: Arc<Snapshot>,
    ports: Vec<Local>,
    /// First entry of `ports` for each port id.
    slots: Box<[u16]>,
    tx: TxStage,
    burst: Burst,
    redirects: Redirects,
    /// The host has something to do that it was not told of yet.
    punted: bool,
    /// Frames the ports still have to send: the worker must not sleep.
    unsent: bool,
    stopping: bool,
    /// An event that the control thread's queue had no room for.
    unsaid: Option<Event>,
    /// Second in which the kernel's counters were read.
    counted_s: u32,
}

impl Worker {
    /// Worker `index` of the switch.
    pub fn new(index: usize, shared: Arc<Shared>) -> Worker {
        let stats = Arc::clone(shared.stats(index));
        let pool = FramePool::new(Arc::clone(shared.pool()));
        Worker {
            index,
            shared,
            stats,
            pool,
            view: Arc::new(Snapshot::default()),
            ports: Vec::with_capacity(PORTS_MAX),
            slots: vec![NO_SLOT; PORTS_MAX].into(),
            tx: TxStage::default(),
            burst: Burst::default(),
            redirects: Redirects::default(),
            punted: false,
            unsent: false,
            stopping: false,
            unsaid: None,
            counted_s: 0,
        }
    }

    /// One turn at time `now_ns` (nanoseconds since the switch started). Returns the packets moved.
    pub fn poll_once(&mut self, now_ns: u64) -> usize {
        self.shared.grace().pass(self.index);
        self.obey();
        let now_s = (now_ns / 1_000_000_000) as u32;
        let mut moved = self.take_handoffs() + self.take_injected(now_s);
        for slot in 0..self.ports.len() {
            moved += self.receive(slot, now_s);
        }
        self.service();
        if std::mem::take(&mut self.punted) {
            self.shared.host_waker().wake();
        }
        if now_s != self.counted_s {
            self.counted_s = now_s;
            self.count_kernel();
        }
        moved
    }

    /// Adds the kernel's counters to ours: one system call per port, once a second.
    #[cold]
    fn count_kernel(&mut self) {
        self.ports.iter_mut().for_each(|local| local.count_kernel(self.stats.port(local.id)));
    }

    /// Frame references that this worker's ports hold, for the conservation check.
    pub fn frames_held(&self) -> usize {
        self.ports.iter().map(|local| local.dev.held()).sum()
    }

    /// Free frames in the worker's own list.
    pub fn frames_free(&self) -> usize {
        self.pool.local_len()
    }

    /// True once a [`Command::Stop`] was obeyed.
    pub fn is_stopping(&self) -> bool {
        self.stopping
    }

    /// Carries out what the control thread asked for.
    fn obey(&mut self) {
        if let Some(event) = self.unsaid.take() {
            self.say(event);
        }
        while self.unsaid.is_none() {
            let Some(command) = self.shared.next_command(self.index) else { return };
            match command {
                Command::View(view) => {
                    let old = std::mem::replace(&mut self.view, view);
                    self.say(Event::Retired(old));
                }
                Command::Attach { port, dev } => self.attach(port, dev),
                Command::Detach { port } => self.detach(port),
                Command::FillTarget { port, frames } => {
                    let queues = self.ports.iter_mut().filter(|local| local.id == port);
                    queues.for_each(|local| local.dev.set_fill_target(frames));
                }
                Command::Stop => self.stopping = true,
            }
        }
    }

    fn say(&mut self, event: Event) {
        self.unsaid = self.shared.tell(event).err();
    }

    fn attach(&mut self, port: PortId, dev: Box<dyn Port>) {
        let slot = self.ports.len();
        self.ports.push(Local { id: port, dev, gone: false, kernel: KernelCounters::default() });
        if let Some(first) = self.slots.get_mut(port.index()).filter(|first| **first == NO_SLOT) {
            *first = slot as u16;
        }
    }

    /// Gives one queue of `port` back to the control thread; asked again for each further queue.
    fn detach(&mut self, port: PortId) {
        let Some(at) = self.ports.iter().position(|local| local.id == port) else { return };
        let mut local = self.ports.swap_remove(at);
        local.count_kernel(self.stats.port(port));
        self.slots.fill(NO_SLOT);
        for (slot, local) in self.ports.iter().enumerate().rev() {
            if let Some(first) = self.slots.get_mut(local.id.index()) {
                *first = slot as u16;
            }
        }
        self.say(Event::Detached { worker: self.index, port, dev: local.dev });
    }

    /// Transmits what other workers received for ports of this one.
    fn take_handoffs(&mut self) -> usize {
        let mut taken = 0;
        for from in 0..self.shared.workers() {
            // A whole queue at most: one flood can be a frame for each port here.
            for _ in 0..HANDOFF / BURST {
                let count = self.take_some(from);
                self.drain_stage();
                taken += count;
                if count < BURST {
                    break;
                }
            }
        }
        taken
    }

    /// Stages up to a burst of frames from one worker; no more, because that is what the stage holds per port.
    fn take_some(&mut self, from: usize) -> usize {
        for taken in 0..BURST {
            let Some((port, frame)) = self.shared.take_handoff(from, self.index) else { return taken };
            if let Err(frame) = self.tx.push(port, frame) {
                self.discard(frame, port, Drop::TxRingFull);
            }
        }
        BURST
    }

    fn receive(&mut self, slot: usize, now_s: u32) -> usize {
        let Some(local) = self.ports.get_mut(slot) else { return 0 };
        local.dev.rx(&mut self.pool, &mut self.burst.frames);
        let received = self.burst.frames.len();
        if received == 0 {
            return 0;
        }
        let id = local.id;
        let stats = self.stats.port(id);
        stats.rx_packets.add(received as u64);
        stats.rx_bytes.add(self.burst.frames.iter().map(|frame| frame.len() as u64).sum());
        self.stats.poll.bursts.add(1);
        self.stats.poll.received.add(received as u64);
        self.burst.ingress = id;
        self.switch(now_s, process);
        received
    }

    /// Takes the burst through the path and on to its ports.
    fn switch(&mut self, now_s: u32, path: impl FnOnce(&mut Ctx<'_>, &mut Burst)) {
        let mut ctx = Ctx {
            pool: &mut self.pool,
            view: &self.view,
            fdb: self.shared.fdb(),
            stats: &self.stats,
            tx: &mut self.tx,
            router: self.shared.router(),
            host: self.shared.host(),
            again: self.shared.injected(self.index),
            redirects: &mut self.redirects,
            ingress: self.burst.ingress,
            punted: &mut self.punted,
            now_s,
        };
        path(&mut ctx, &mut self.burst);
        self.drain_stage();
    }

    /// Sends what the switch as a host left here, and fragments.
    fn take_injected(&mut self, now_s: u32) -> usize {
        let mut taken = 0;
        // A whole queue at most.
        for _ in 0..INJECTED_MAX / BURST {
            let mut domains: ArrayVec<DomainId, BURST> = ArrayVec::new();
            while !domains.is_full() {
                let Some((domain, frame)) = self.shared.injected(self.index).pop() else { break };
                domains.push(domain);
                self.burst.frames.push(frame);
            }
            if domains.is_empty() {
                break;
            }
            taken += domains.len();
            self.burst.ingress = PortId::ROUTER;
            self.switch(now_s, |ctx, burst| process_injected(ctx, burst, &domains));
        }
        taken
    }

    /// Moves staged frames into the rings of this worker's ports and the queues to other workers.
    fn drain_stage(&mut self) {
        let mut called = 0_u32;
        while let Some(port) = self.tx.next_dirty() {
            let owner = self.view.port(port).map_or(self.index, |view| view.tx_worker(self.index));
            if owner == self.index {
                self.transmit(port);
            } else {
                self.hand_over(port, owner);
                called |= 1 << owner;
            }
        }
        if called != 0 {
            let owners = (0..self.shared.workers()).filter(|owner| called & 1 << owner != 0);
            owners.for_each(|owner| self.shared.waker(owner).wake());
        }
    }

    fn transmit(&mut self, port: PortId) {
        let slot = self.slots.get(port.index()).map_or(usize::MAX, |slot| *slot as usize);
        let Some(queue) = self.tx.queue(port) else { return };
        let stats = self.stats.port(port);
        let local = self.ports.get_mut(slot).filter(|local| !local.gone);
        let mut reason = Drop::TxPortDown;
        if let Some(local) = local {
            reason = Drop::TxRingFull;
            let total = |queue: &Frames| (queue.len() as u64, queue.iter().map(|frame| frame.len() as u64).sum());
            let (packets, bytes): (u64, u64) = total(queue);
            local.dev.tx(&mut self.pool, queue);
            if !queue.is_empty() {
                // Full ring: send now, and take what that made room for.
                service(local, &mut self.pool, stats, &self.shared, self.index);
                local.dev.tx(&mut self.pool, queue);
            }
            let (left, left_bytes) = total(queue);
            stats.tx_packets.add(packets - left);
            stats.tx_bytes.add(bytes - left_bytes);
        }
        if !queue.is_empty() {
            stats.drop(reason, queue.len() as u64);
            queue.drain(..).for_each(|frame| self.pool.free(frame));
        }
    }

    fn hand_over(&mut self, port: PortId, owner: usize) {
        let Some(queue) = self.tx.queue(port) else { return };
        for frame in queue.drain(..) {
            if let Err(frame) = self.shared.hand_over(self.index, owner, port, frame) {
                self.stats.port(port).drop(Drop::HandoffFull, 1);
                self.pool.free(frame);
            }
        }
    }

    fn discard(&mut self, frame: Frame, port: PortId, reason: Drop) {
        self.stats.port(port).drop(reason, 1);
        self.pool.free(frame);
    }

    /// Sends, reclaims and refills on every port.
    fn service(&mut self) {
        self.unsent = false;
        for local in self.ports.iter_mut().filter(|local| !local.gone) {
            let stats = self.stats.port(local.id);
            self.unsent |= service(local, &mut self.pool, stats, &self.shared, self.index);
        }
    }
}

/// Services one port; true if frames still wait in its transmit ring.
fn service(local: &mut Local, pool: &mut FramePool, stats: &PortStats, shared: &Shared, worker: usize) -> bool {
    match local.dev.service(pool) {
        Ok(done) => {
            if done.refused > 0 {
                stats.drop(Drop::TxRefused, u64::from(done.refused));
            }
            done.unsent > 0
        }
        Err(error) => {
            local.gone = true;
            // A full queue only delays the news: netlink tells the control thread as well.
            let _ = shared.tell(Event::Gone { worker, port: local.id, error });
            false
        }
    }
}

impl std::ops::Drop for Worker {
    /// Gives every frame back: ports are closed, queues to this worker emptied.
    fn drop(&mut self) {
        self.shared.grace().sleep(self.index);
        for local in self.ports.drain(..) {
            self.shared.pool().reclaim(local.dev.close());
        }
        for from in 0..self.shared.workers() {
            while let Some((_, frame)) = self.shared.take_handoff(from, self.index) {
                self.pool.free(frame);
            }
        }
        while let Some((_, frame)) = self.shared.injected(self.index).pop() {
            self.pool.free(frame);
        }
    }
}
