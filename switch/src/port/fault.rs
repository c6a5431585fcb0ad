//! A port that misbehaves on purpose: wraps any [`Port`] and, by a seeded plan, delays, loses, refuses and dies.
//!
//! Everything it does, a real interface can do as well; what it never does is duplicate or change a packet, or lose
//! a frame of the pool. The same seed and the same calls give the same faults. Used by the simulator, on its thread.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Frame, FramePool, Frames, KernelCounters, Port, PortError, Service};
use crate::limits::BURST;

/// Parts of a million: the unit of every chance in a [`FaultPlan`].
const MILLION: u32 = 1_000_000;

/// How often each fault strikes. Chances are in parts per million; the default plan has no faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FaultPlan {
    /// Per receive call: nothing arrives, though packets wait.
    pub rx_stall_ppm: u32,
    /// Per receive call: only some of the packets that wait arrive; the others come later, in order.
    pub rx_short_ppm: u32,
    /// Per packet: lost before the switch sees it, as with an empty fill ring.
    pub rx_loss_ppm: u32,
    /// Per transmit call: the ring takes no packet.
    pub tx_full_ppm: u32,
    /// Per transmit call: the ring takes only some of the packets, from the front.
    pub tx_short_ppm: u32,
    /// Per packet: taken, and refused by the far side afterwards.
    pub tx_refuse_ppm: u32,
    /// Per service: nothing is sent and nothing completes; packets stay in the ring as `unsent`.
    pub service_stall_ppm: u32,
    /// Per service: the pool is starved of `starve_frames` frames for `starve_services` services.
    pub starve_ppm: u32,
    /// See `starve_ppm`.
    pub starve_frames: usize,
    /// See `starve_ppm`.
    pub starve_services: u64,
    /// Service call at which the interface disappears.
    pub gone_at: Option<u64>,
}

/// Packets that a [`FaultPort`] made away with. Any thread; kept after the port is closed.
#[derive(Debug, Default)]
pub struct FaultLog {
    rx_lost: AtomicU64,
    tx_refused: AtomicU64,
    tx_abandoned: AtomicU64,
}

impl FaultLog {
    /// Packets lost before the switch saw them.
    pub fn rx_lost(&self) -> u64 {
        self.rx_lost.load(Ordering::Relaxed)
    }

    /// Packets taken and then refused.
    pub fn tx_refused(&self) -> u64 {
        self.tx_refused.load(Ordering::Relaxed)
    }

    /// Packets taken whose end the switch was never told: waiting, or refused and not reported, at the close.
    pub fn tx_abandoned(&self) -> u64 {
        self.tx_abandoned.load(Ordering::Relaxed)
    }

    fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(count as u64, Ordering::Relaxed);
    }
}

/// A port that misbehaves; see the module text.
pub struct FaultPort {
    inner: Box<dyn Port>,
    plan: FaultPlan,
    rng: SplitMix,
    log: Arc<FaultLog>,
    /// Received and not yet shown to the switch.
    arriving: VecDeque<Frame>,
    /// Taken for transmission and not yet passed on.
    leaving: VecDeque<Frame>,
    /// Kept from the pool until the service call beside them.
    hoard: Vec<Frame>,
    hoard_until: u64,
    services: u64,
    refused: u32,
    gone: bool,
}

impl FaultPort {
    /// Wraps `inner`, with faults by `plan` drawn from `seed`.
    pub fn new(inner: Box<dyn Port>, plan: FaultPlan, seed: u64) -> FaultPort {
        FaultPort {
            inner,
            plan,
            rng: SplitMix(seed),
            log: Arc::default(),
            arriving: VecDeque::new(),
            leaving: VecDeque::new(),
            hoard: Vec::new(),
            hoard_until: 0,
            services: 0,
            refused: 0,
            gone: false,
        }
    }

    /// What this port makes away with, to keep.
    pub fn log(&self) -> Arc<FaultLog> {
        Arc::clone(&self.log)
    }

    /// Takes what arrived at the inner port, less what is lost.
    fn pull(&mut self, pool: &mut FramePool) {
        if self.arriving.len() >= BURST {
            return;
        }
        let mut frames = Frames::new();
        self.inner.rx(pool, &mut frames);
        for frame in frames {
            if self.rng.strikes(self.plan.rx_loss_ppm) {
                FaultLog::add(&self.log.rx_lost, 1);
                pool.free(frame);
            } else {
                self.arriving.push_back(frame);
            }
        }
    }

    /// Passes waiting packets on, as many as the inner port takes.
    fn push(&mut self, pool: &mut FramePool) {
        while !self.leaving.is_empty() {
            let count = self.leaving.len().min(BURST);
            let mut frames: Frames = self.leaving.drain(..count).collect();
            self.inner.tx(pool, &mut frames);
            if !frames.is_empty() {
                for frame in frames.drain(..).rev() {
                    self.leaving.push_front(frame);
                }
                return;
            }
        }
    }

    fn starve(&mut self, pool: &mut FramePool) {
        if self.services >= self.hoard_until {
            self.hoard.drain(..).for_each(|frame| pool.free(frame));
        }
        if self.hoard.is_empty() && self.rng.strikes(self.plan.starve_ppm) {
            self.hoard.extend(std::iter::from_fn(|| pool.alloc()).take(self.plan.starve_frames));
            self.hoard_until = self.services + self.plan.starve_services;
        }
    }
}

impl Port for FaultPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        if self.gone || self.rng.strikes(self.plan.rx_stall_ppm) {
            return;
        }
        self.pull(pool);
        let mut count = self.arriving.len().min(out.remaining_capacity());
        if self.rng.strikes(self.plan.rx_short_ppm) {
            count = self.rng.below(count + 1);
        }
        out.extend(self.arriving.drain(..count));
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        if self.gone || self.rng.strikes(self.plan.tx_full_ppm) {
            return;
        }
        let mut count = frames.len();
        if self.rng.strikes(self.plan.tx_short_ppm) {
            count = self.rng.below(count + 1);
        }
        for frame in frames.drain(..count) {
            if self.rng.strikes(self.plan.tx_refuse_ppm) {
                FaultLog::add(&self.log.tx_refused, 1);
                self.refused += 1;
                pool.free(frame);
            } else {
                self.leaving.push_back(frame);
            }
        }
    }

    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError> {
        self.services += 1;
        self.gone |= self.plan.gone_at.is_some_and(|at| self.services >= at);
        if self.gone {
            return Err(PortError::Gone);
        }
        self.starve(pool);
        let mut done = Service::default();
        if !self.rng.strikes(self.plan.service_stall_ppm) {
            self.push(pool);
            done = self.inner.service(pool)?;
        }
        done.unsent += self.leaving.len() as u32;
        done.refused += std::mem::take(&mut self.refused);
        Ok(done)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }

    fn held(&self) -> usize {
        let queued = self.arriving.iter().chain(&self.leaving).chain(&self.hoard);
        self.inner.held() + queued.map(Frame::segments).sum::<usize>()
    }

    fn kernel_counters(&self) -> KernelCounters {
        self.inner.kernel_counters()
    }

    fn set_fill_target(&mut self, frames: u32) {
        self.inner.set_fill_target(frames);
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        FaultLog::add(&self.log.rx_lost, self.arriving.len());
        FaultLog::add(&self.log.tx_abandoned, self.leaving.len() + self.refused as usize);
        let mut frames = self.inner.close();
        frames.extend(self.arriving);
        frames.extend(self.leaving);
        frames.extend(self.hoard);
        frames
    }
}

/// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014): every seed is good.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number below `limit`, which must not be 0. The bias of the multiplication is below 2^-32.
    fn below(&mut self, limit: usize) -> usize {
        (((self.next() >> 32) * limit as u64) >> 32) as usize
    }

    /// True with a chance of `ppm` in a million.
    fn strikes(&mut self, ppm: u32) -> bool {
        ppm > 0 && self.below(MILLION as usize) < ppm as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::SharedPool;
    use crate::port::mem::{MemPort, Wire};

    const FRAMES: usize = 256;

    fn lab(plan: FaultPlan) -> (FramePool, Arc<SharedPool>, Arc<Wire>, Box<FaultPort>) {
        let shared = SharedPool::heap(FRAMES as u32);
        let wire = Wire::new(1024);
        let inner = Box::new(MemPort::new(Arc::clone(&wire), 1));
        (FramePool::new(Arc::clone(&shared)), shared, wire, Box::new(FaultPort::new(inner, plan, 7)))
    }

    fn free(pool: &FramePool, shared: &SharedPool) -> usize {
        pool.local_len() + shared.free_estimate()
    }

    /// Sends numbered packets through the port and back out of it; what came out.
    fn reflect(plan: FaultPlan, packets: usize) -> (Vec<u8>, Arc<FaultLog>, u32) {
        let (mut pool, shared, wire, mut port) = lab(plan);
        let (mut out, mut refused, log) = (Vec::new(), 0, port.log());
        let mut frames = Frames::new();
        for turn in 0..packets * 20 {
            if turn < packets {
                let len = if turn % 3 == 0 { 9000 } else { 60 };
                assert!(wire.send(&vec![turn as u8; len]));
            }
            port.rx(&mut pool, &mut frames);
            port.tx(&mut pool, &mut frames);
            refused += port.service(&mut pool).unwrap().refused;
            let queued: usize = frames.iter().map(Frame::segments).sum();
            assert_eq!(free(&pool, &shared) + port.held() + queued, FRAMES, "turn {turn}");
            out.extend(std::iter::from_fn(|| wire.receive()).map(|packet| packet[0]));
        }
        shared.reclaim(frames.drain(..).collect());
        shared.reclaim(port.close());
        assert_eq!(free(&pool, &shared), FRAMES);
        (out, log, refused)
    }

    #[test]
    fn without_faults_it_is_the_port_inside() {
        let (out, log, refused) = reflect(FaultPlan::default(), 100);
        assert_eq!(out, (0..100).collect::<Vec<u8>>());
        assert_eq!((log.rx_lost(), log.tx_refused(), log.tx_abandoned(), refused), (0, 0, 0, 0));
    }

    #[test]
    fn delays_lose_nothing_and_keep_order() {
        let plan = FaultPlan {
            rx_stall_ppm: 300_000,
            rx_short_ppm: 300_000,
            tx_full_ppm: 300_000,
            tx_short_ppm: 300_000,
            service_stall_ppm: 300_000,
            ..FaultPlan::default()
        };
        assert_eq!(reflect(plan, 100).0, (0..100).collect::<Vec<u8>>());
    }

    #[test]
    fn losses_are_counted_and_starvation_ends() {
        let plan = FaultPlan {
            rx_loss_ppm: 200_000,
            tx_refuse_ppm: 200_000,
            starve_ppm: 100_000,
            starve_frames: 200,
            starve_services: 5,
            ..FaultPlan::default()
        };
        let (out, log, refused) = reflect(plan, 200);
        assert!(log.rx_lost() > 10 && log.tx_refused() > 10, "{log:?}");
        assert_eq!(u64::from(refused), log.tx_refused());
        assert_eq!(out.len() as u64, 200 - log.rx_lost() - log.tx_refused());
        assert!(out.is_sorted());
    }

    #[test]
    fn a_port_that_is_gone_takes_nothing_and_gives_everything_back() {
        let plan = FaultPlan { gone_at: Some(3), service_stall_ppm: MILLION, ..FaultPlan::default() };
        let (mut pool, shared, wire, mut port) = lab(plan);
        let log = port.log();
        let mut frames = Frames::new();
        wire.send(&[1; 60]);
        port.rx(&mut pool, &mut frames);
        port.tx(&mut pool, &mut frames);
        assert_eq!(port.service(&mut pool).unwrap().unsent, 1);
        assert!(port.service(&mut pool).is_ok());
        assert!(matches!(port.service(&mut pool), Err(PortError::Gone)));
        wire.send(&[2; 60]);
        port.rx(&mut pool, &mut frames);
        assert!(frames.is_empty());
        shared.reclaim(port.close());
        assert_eq!((log.tx_abandoned(), free(&pool, &shared)), (1, FRAMES));
    }
}
