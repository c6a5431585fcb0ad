//! What the packet path leaves to others: frames for the switch as a host, and frames that take another turn.
//!
//! Bounded lock-free queues, one for each kind of reason, so that a flood of one kind does not keep the others out.

use crossbeam::queue::ArrayQueue;

use crate::ids::{DomainId, PortId};
use crate::limits::PUNTS_MAX;
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
    /// ARP, neighbour discovery, DHCP or the like in a group frame, which was flooded as well, or sent to the router.
    Heard,
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

/// Kinds of [`Why`] that have a queue of their own.
const QUEUES: usize = 4;

/// The queues to the host. Written by workers, read by the host's thread.
pub struct HostQueues {
    punts: [ArrayQueue<Punt>; QUEUES],
    used: ArrayQueue<NeighbourSlot>,
}

impl HostQueues {
    /// Queues beside a pool of `frames` frames, of which they hold a small part at most.
    pub fn new(frames: usize) -> HostQueues {
        let room = (frames / 64).clamp(4, PUNTS_MAX);
        HostQueues { punts: std::array::from_fn(|_| ArrayQueue::new(room)), used: ArrayQueue::new(PUNTS_MAX) }
    }

    fn queue(&self, why: Why) -> &ArrayQueue<Punt> {
        let [heard, local, resolve, complain] = &self.punts;
        match why {
            Why::Heard | Why::Suppress => heard,
            Why::Local => local,
            Why::Resolve(_) => resolve,
            Why::Complain(_) | Why::Redirect(_) => complain,
        }
    }

    /// Leaves a frame; gives it back if the queue is full.
    pub fn punt(&self, punt: Punt) -> Result<(), Frame> {
        self.queue(punt.why).push(punt).map_err(|punt| punt.frame)
    }

    /// The next frame, of each kind in turn: call it with 0, 1, 2, ... The host's thread.
    pub fn next(&self, turn: usize) -> Option<Punt> {
        (0..QUEUES).find_map(|kind| self.punts[(turn + kind) % QUEUES].pop())
    }

    /// The next frame that was heard: ARP, neighbour discovery and the like. The host's thread.
    pub fn next_heard(&self) -> Option<Punt> {
        self.punts[0].pop()
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
        self.punts.iter().all(ArrayQueue::is_empty) && self.used.is_empty()
    }

    /// Frames that wait.
    pub fn len(&self) -> usize {
        self.punts.iter().map(ArrayQueue::len).sum()
    }
}
