//! What the packet path leaves to others: frames for the switch as a host, and frames that take another turn.
//!
//! Bounded lock-free queues, one for each kind of reason, so that a flood of one kind does not keep the others out. Nor
//! does one port keep the others out of a queue: it may have as much waiting there as there is room left, so that N
//! busy ports have an N+1st part each and leave as much to whoever comes next (a dynamic threshold after Choudhury and
//! Hahne). What counts is pool frames, of which a long packet has several.

use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};

use crossbeam::queue::ArrayQueue;
use crossbeam::utils::CachePadded;

use super::Ctx;
use crate::ids::{DomainId, PortId};
use crate::limits::{PORTS_MAX, PUNTS_MAX, SEGMENTS_MAX};
use crate::port::Frame;
use crate::stats::Drop;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};

/// What a sender is to be told, in an ICMP or ICMPv6 error, about the packet that it sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Complaint {
    /// Its TTL or hop limit ran out (11/0, v6 3/0).
    TtlExceeded,
    /// There is no route (3/0, v6 1/0).
    NoRoute,
    /// The route says unreachable (3/1, v6 1/3).
    Unreachable,
    /// The route says prohibited (3/13, v6 1/1).
    Prohibited,
    /// It is larger than this MTU, in bytes, and must not be fragmented (3/4, v6 2/0).
    TooBig(u32),
    /// Its source address means nothing where it is going (v6 1/2).
    BeyondScope,
}

impl Complaint {
    /// The reason under which the packet is counted.
    pub fn reason(self) -> Drop {
        match self {
            Complaint::TtlExceeded => Drop::TtlExceeded,
            Complaint::NoRoute => Drop::NoRoute,
            Complaint::Unreachable => Drop::RouteUnreachable,
            Complaint::Prohibited => Drop::RouteProhibited,
            Complaint::TooBig(_) => Drop::PacketTooBig,
            Complaint::BeyondScope => Drop::IpMartian,
        }
    }
}

/// Why the switch as a host gets a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Why {
    /// ARP, neighbour discovery, DHCP or the like in a group frame, which others got as well.
    Heard,
    /// The same, but nobody else got it: there was no other receiver, or it was sent to the router.
    HeardAlone,
    /// An ARP request or neighbour solicitation for a known neighbour, to be answered for it. It was not flooded.
    Suppress,
    /// To an address of the switch.
    Local,
    /// Routed, but the next hop's MAC address is not known: to be kept until it is. TTL and addresses are done, the
    /// frame's destination MAC address is missing.
    Resolve(NeighbourKey),
    /// Not forwarded: the sender is to be told. The packet is as it came.
    Complain(Complaint),
    /// A copy of a packet that leaves by the domain it came from, towards this neighbour.
    Redirect(NeighbourKey),
}

/// A frame for the switch as a host.
#[derive(Debug)]
pub struct Punt {
    /// The frame, from its destination MAC address on; read only, since it may be shared with the ports it is
    /// flooded to. TCP and UDP checksums are complete.
    pub frame: Frame,
    /// Port that it came from.
    pub port: PortId,
    /// Bridge domain that it came in by.
    pub domain: DomainId,
    /// What for.
    pub why: Why,
}

/// What `output` does with a lane of verdict `Aside`.
#[derive(Clone, Copy, Debug)]
pub enum Aside {
    /// Give it to the host.
    Punt(Why),
    /// Cut it into fragments of at most so many bytes, and send them where the frame is going. The header is done.
    Fragment(u32),
}

/// A frame, complete but for its tag, to be sent on a bridge domain as if by its router.
pub type Injected = (DomainId, Frame);

/// Kinds of [`Why`], with a queue each.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PuntKind {
    /// ARP, neighbour discovery, DHCP.
    Heard,
    /// Packets to the switch's own addresses.
    Local,
    /// Packets whose next hop's MAC address is not known.
    Resolve,
    /// Packets about which their senders are to be told.
    Complain,
}

impl PuntKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [PuntKind; 4] = [PuntKind::Heard, PuntKind::Local, PuntKind::Resolve, PuntKind::Complain];

    /// The kind's name in `show-host`.
    pub const fn name(self) -> &'static str {
        match self {
            PuntKind::Heard => "heard",
            PuntKind::Local => "local",
            PuntKind::Resolve => "resolve",
            PuntKind::Complain => "complain",
        }
    }
}

impl Why {
    /// Its kind.
    pub fn kind(self) -> PuntKind {
        match self {
            Why::Heard | Why::HeardAlone | Why::Suppress => PuntKind::Heard,
            Why::Local => PuntKind::Local,
            Why::Resolve(_) => PuntKind::Resolve,
            Why::Complain(_) | Why::Redirect(_) => PuntKind::Complain,
        }
    }
}

/// One kind's queue. Its counts are of pool frames.
struct Queue {
    punts: ArrayQueue<Punt>,
    /// Of all ports.
    waiting: CachePadded<AtomicUsize>,
    /// Of each port, the router included.
    by_port: Box<[AtomicU16]>,
    room: usize,
}

impl Queue {
    fn new(room: usize) -> Queue {
        let by_port = (0..=PORTS_MAX).map(|_| AtomicU16::new(0)).collect();
        // As many packets as frames, if all are short.
        Queue { punts: ArrayQueue::new(room), waiting: CachePadded::default(), by_port, room }
    }

    fn push(&self, punt: Punt) -> Result<(), Frame> {
        let Some(own) = self.by_port.get(punt.port.index()) else { return Err(punt.frame) };
        let frames = punt.frame.segments();
        // Counted first and taken back if that was too much: workers together never exceed the limits. The queue itself
        // orders the counting here before that in `pop`.
        let room = self.room.saturating_sub(self.waiting.fetch_add(frames, Ordering::Relaxed));
        let of_port = usize::from(own.fetch_add(frames as u16, Ordering::Relaxed));
        let pushed = if frames <= room && of_port < room { self.punts.push(punt) } else { Err(punt) };
        pushed.map_err(|punt| {
            self.forget(&punt);
            punt.frame
        })
    }

    fn pop(&self) -> Option<Punt> {
        let punt = self.punts.pop()?;
        self.forget(&punt);
        Some(punt)
    }

    fn forget(&self, punt: &Punt) {
        let frames = punt.frame.segments();
        self.waiting.fetch_sub(frames, Ordering::Relaxed);
        if let Some(own) = self.by_port.get(punt.port.index()) {
            own.fetch_sub(frames as u16, Ordering::Relaxed);
        }
    }
}

/// The queues to the host. Written by workers, read by the host's thread.
pub struct HostQueues {
    queues: [Queue; PuntKind::ALL.len()],
    used: ArrayQueue<NeighbourSlot>,
}

impl HostQueues {
    /// Queues beside a pool of `frames` frames, of which they hold a small part at most.
    pub fn new(frames: usize) -> HostQueues {
        // The longest packet of each of two ports, however small the pool.
        let room = (frames / 64).clamp(2 * SEGMENTS_MAX, PUNTS_MAX);
        HostQueues { queues: std::array::from_fn(|_| Queue::new(room)), used: ArrayQueue::new(PUNTS_MAX) }
    }

    /// Leaves a frame; gives it back if there is no room for it, or none for its port. Workers have [`leave`].
    pub fn punt(&self, punt: Punt) -> Result<(), Frame> {
        self.queues[punt.why.kind() as usize].push(punt)
    }

    /// The next frame, of each kind in turn: call it with 0, 1, 2, ... The host's thread.
    pub fn next(&self, turn: usize) -> Option<Punt> {
        let kinds = self.queues.len();
        (0..kinds).find_map(|kind| self.queues[(turn + kind) % kinds].pop())
    }

    /// The next frame that was heard: ARP, neighbour discovery and the like. The host's thread.
    pub fn next_heard(&self) -> Option<Punt> {
        self.queues[PuntKind::Heard as usize].pop()
    }

    /// Says that a neighbour was used whose user was to say so. A full queue forgets it: the next use is told again
    /// once the host set the flag again.
    pub fn used(&self, slot: NeighbourSlot) {
        let _ = self.used.push(slot);
    }

    /// The next neighbour that was used. The host's thread.
    pub fn next_used(&self) -> Option<NeighbourSlot> {
        self.used.pop()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queues.iter().all(|queue| queue.punts.is_empty()) && self.used.is_empty()
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.punts.len()).sum()
    }

    /// Pool frames that wait in the queue of one kind, and how many may.
    pub fn fill(&self, kind: PuntKind) -> (usize, usize) {
        let queue = &self.queues[kind as usize];
        (queue.waiting.load(Ordering::Relaxed), queue.room)
    }
}

/// Leaves a frame to the host, which is woken at the end of the burst; gives it back, and counts that, if there is no
/// room for it.
pub fn leave(ctx: &mut Ctx<'_>, punt: Punt) -> Result<(), Frame> {
    let (port, kind) = (punt.port, punt.why.kind());
    let left = ctx.host.punt(punt);
    if left.is_ok() {
        *ctx.punted = true;
        ctx.stats.port(port).punted.add(1);
    } else {
        ctx.stats.refused(kind as usize).add(1);
    }
    left
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::port::{FramePool, SharedPool};

    /// Queues beside a pool, and the pool.
    struct Bed {
        queues: HostQueues,
        shared: Arc<SharedPool>,
        pool: FramePool,
    }

    impl Bed {
        fn new(frames: u32) -> Bed {
            let shared = SharedPool::heap(frames);
            let pool = FramePool::new(Arc::clone(&shared));
            Bed { queues: HostQueues::new(frames as usize), shared, pool }
        }

        /// Leaves a packet of so many pool frames.
        fn leave(&mut self, port: usize, segments: usize, why: Why) -> bool {
            let mut whole = self.pool.alloc().unwrap();
            for _ in 1..segments {
                let next = self.pool.alloc().unwrap();
                self.pool.region().append(&mut whole, next).unwrap();
            }
            let (port, domain) = (PortId::new(port).unwrap(), DomainId::new(1).unwrap());
            let left = self.queues.punt(Punt { frame: whole, port, domain, why });
            left.map_err(|frame| self.pool.free(frame)).is_ok()
        }

        /// Leaves packets of one frame until there is no room.
        fn fill(&mut self, port: usize, why: Why) -> usize {
            (0..).take_while(|_| self.leave(port, 1, why)).count()
        }

        fn drain(&mut self) {
            std::iter::from_fn(|| self.queues.next(0)).for_each(|punt| self.pool.free(punt.frame));
        }

        fn free(&self) -> usize {
            self.pool.local_len() + self.shared.free_estimate()
        }
    }

    const TOLD: Why = Why::Complain(Complaint::TtlExceeded);

    #[test]
    fn one_port_leaves_room_for_the_next_and_that_for_another() {
        let mut bed = Bed::new(16_384);
        let taken: Vec<usize> = (0..4).map(|port| bed.fill(port, TOLD)).collect();
        assert_eq!(taken, [128, 64, 32, 16], "each the half of what is left");
        assert_eq!(bed.queues.fill(PuntKind::Complain), (240, 256));
        assert_eq!(bed.fill(0, Why::Local), 128, "another kind has a queue of its own");
        bed.drain();
        assert_eq!(bed.queues.fill(PuntKind::Complain), (0, 256));
        assert_eq!(bed.fill(3, TOLD), 128, "what was taken is forgotten");
        bed.drain();
    }

    #[test]
    fn busy_ports_share_evenly_and_a_quiet_one_always_finds_room() {
        const BUSY: usize = 20;
        let mut bed = Bed::new(16_384);
        let mut served = [0usize; BUSY + 1];
        for round in 0..20_000 {
            // The host is slower than all of them together, by far.
            for port in 0..BUSY {
                bed.leave(port, 1, TOLD);
            }
            if round % 40 == 0 {
                assert!(bed.leave(BUSY, 1, TOLD), "in round {round}");
            }
            if let Some(punt) = bed.queues.next(0) {
                served[punt.port.index()] += 1;
                bed.pool.free(punt.frame);
            }
        }
        let (least, most) = (served[..BUSY].iter().min().unwrap(), served[..BUSY].iter().max().unwrap());
        assert!(most - least <= most / 10, "{served:?}");
        assert!(served[BUSY] >= 490, "{served:?}");
        bed.drain();
    }

    #[test]
    fn long_packets_count_by_their_pool_frames() {
        let mut bed = Bed::new(16_384);
        let left = (0..).take_while(|_| bed.leave(0, 3, TOLD)).count();
        assert_eq!((left, bed.queues.fill(PuntKind::Complain).0), (43, 129), "the half, less than one packet more");
        (1..9).for_each(|port| while bed.leave(port, 3, TOLD) {});
        let (waiting, room) = bed.queues.fill(PuntKind::Complain);
        assert!(waiting <= room, "{waiting} of {room}");
        assert_eq!(bed.free(), 16_384 - waiting);
        bed.drain();
        assert_eq!(bed.queues.fill(PuntKind::Complain).0, 0);
    }

    #[test]
    fn the_longest_packet_of_each_of_two_ports_fits_beside_the_smallest_pool() {
        let mut bed = Bed::new(crate::limits::FRAMES_MIN);
        assert!(bed.leave(0, SEGMENTS_MAX, Why::Local) && !bed.leave(0, 1, Why::Local));
        assert!(bed.leave(1, SEGMENTS_MAX, Why::Local) && !bed.leave(2, 1, Why::Local));
        bed.drain();
    }

    #[test]
    fn workers_that_push_at_once_and_a_host_that_takes_leave_nothing_counted() {
        let (shared, queues) = (SharedPool::heap(4_096), HostQueues::new(4_096));
        let pushing = std::sync::atomic::AtomicUsize::new(3);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let (mut pool, queues, pushing) = (FramePool::new(shared.clone()), &queues, &pushing);
                scope.spawn(move || {
                    for number in 0..50_000 {
                        let frame = pool.alloc().unwrap();
                        let port = PortId::new((number + worker) % 3).unwrap();
                        let punt = Punt { frame, port, domain: DomainId::new(1).unwrap(), why: TOLD };
                        if let Err(frame) = queues.punt(punt) {
                            pool.free(frame);
                        }
                    }
                    pushing.fetch_sub(1, Ordering::Release);
                });
            }
            let mut pool = FramePool::new(shared.clone());
            while pushing.load(Ordering::Acquire) > 0 || !queues.is_empty() {
                assert!(queues.len() <= 64);
                queues.next(0).into_iter().for_each(|punt| pool.free(punt.frame));
            }
        });
        let queue = &queues.queues[PuntKind::Complain as usize];
        assert_eq!(queues.fill(PuntKind::Complain).0, 0);
        assert!(queue.by_port.iter().all(|count| count.load(Ordering::Relaxed) == 0));
        assert_eq!(shared.free_estimate(), 4_096);
    }
}
