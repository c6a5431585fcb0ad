//! The data the stages pass along: frames, what was read from their headers, what is to happen to them.

use arrayvec::ArrayVec;

use super::punt::Aside;
use crate::ids::{DomainId, Mac, PortId};
use crate::limits::{BURST, ETHERNET_HEADER, PORTS_MAX, VLAN_TAG};
use crate::port::{Frame, Frames};
use crate::stats::Drop;
use crate::table::fdb::{Fdb, Home, MacKey};
use crate::table::snapshot::FloodClass;

/// What is to happen to a frame. A plain value of two halves of a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Verdict {
    /// Not decided yet.
    Pending,
    /// To one port.
    Port(PortId),
    /// To every member of the bridge domain that takes this class, except where it came from.
    Flood(FloodClass),
    /// To the router's MAC address: the route stage decides.
    Router,
    /// Routed, and from there to one port.
    Routed(PortId),
    /// Something rarer: an entry of the burst's [asides](Burst::parts).
    Aside(u16),
    /// Nowhere, for this reason.
    Drop(Drop),
}

/// What was read from a frame's headers.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Bridge domain, once admitted.
    pub domain: Option<DomainId>,
    /// Tag control information of the 802.1Q tag in front, if there is one.
    pub tci: Option<u16>,
    /// EtherType behind that tag; a length for 802.3 frames.
    pub ethertype: u16,
    /// The router sends this frame: it has left the port it came in by, and may leave by that port again.
    pub routed: bool,
    /// The switch as a host wants to see this flooded frame, too.
    pub heard: bool,
}

impl Meta {
    /// Of a frame that nothing is known about yet.
    pub const UNKNOWN: Meta =
        Meta { dst: Mac::ZERO, src: Mac::ZERO, domain: None, tci: None, ethertype: 0, routed: false, heard: false };

    /// Where the payload behind the EtherType starts, from the start of the frame.
    #[inline]
    pub fn l3_offset(&self) -> usize {
        if self.tci.is_some() { ETHERNET_HEADER + VLAN_TAG } else { ETHERNET_HEADER }
    }
}

/// What the stages know of one frame and decide about it.
#[derive(Clone, Copy, Debug)]
pub struct Lane {
    /// What is known of it.
    pub meta: Meta,
    /// What is to happen to it.
    pub verdict: Verdict,
    /// Where the forwarding database looks for the source, as admitted.
    pub src_home: Home,
    /// The same of the destination.
    pub dst_home: Home,
}

impl Lane {
    /// One with nothing but this known.
    #[inline(always)]
    pub fn new(meta: Meta, verdict: Verdict) -> Lane {
        Lane { meta, verdict, src_home: Home::default(), dst_home: Home::default() }
    }

    /// Admits the frame to `domain`.
    #[inline(always)]
    pub fn admit(&mut self, domain: DomainId, fdb: &Fdb) {
        self.meta.domain = Some(domain);
        self.src_home = fdb.home(MacKey::new(domain, self.meta.src));
        self.dst_home = fdb.home(MacKey::new(domain, self.meta.dst));
    }

    /// True until a stage has settled what is to happen to the frame.
    #[inline]
    pub fn is_pending(&self) -> bool {
        matches!(self.verdict, Verdict::Pending)
    }
}

/// Up to [`BURST`] frames of one ingress port, worked on together. The frames stand apart from their lanes, so that a
/// port fills them in where they are and none is moved before it goes to its egress queue.
pub struct Burst {
    /// Port that all the frames came from.
    pub ingress: PortId,
    /// The frames in order of arrival.
    pub frames: Frames,
    /// Lanes that `forward` left to the router, and group frames on domains that have one.
    pub for_router: u16,
    /// Every frame is whole, without a tag, and from an individual address: what most bursts are. Set by parse.
    pub plain: bool,
    lanes: [Lane; BURST],
    asides: Asides,
}

/// What [`Verdict::Aside`] refers to, in a burst.
pub type Asides = ArrayVec<Aside, BURST>;

impl Default for Burst {
    fn default() -> Self {
        let lane = Lane::new(Meta::UNKNOWN, Verdict::Pending);
        Burst {
            ingress: PortId::FIRST,
            frames: Frames::new(),
            for_router: 0,
            plain: false,
            lanes: [lane; BURST],
            asides: Asides::new(),
        }
    }
}

impl Burst {
    /// Frames and their lanes, in order of arrival.
    #[inline]
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&mut Frame, &mut Lane)> {
        self.frames.iter_mut().zip(&mut self.lanes)
    }

    /// The lanes of all frames, in order of arrival.
    #[inline]
    pub fn lanes(&mut self) -> &mut [Lane] {
        // Never more frames than lanes: an empty list spares the packet path a panic.
        self.lanes.get_mut(..self.frames.len()).unwrap_or_default()
    }

    /// The frames, their lanes, and what verdicts refer to.
    #[inline]
    pub fn parts(&mut self) -> (&mut Frames, &mut [Lane], &mut Asides) {
        (&mut self.frames, &mut self.lanes, &mut self.asides)
    }
}

/// Frames waiting for their egress ports: filled by output, emptied by the worker after every burst.
pub struct TxStage {
    queues: Box<[Frames]>,
    dirty: ArrayVec<PortId, PORTS_MAX>,
}

impl Default for TxStage {
    fn default() -> Self {
        TxStage { queues: (0..PORTS_MAX).map(|_| Frames::new()).collect(), dirty: ArrayVec::new() }
    }
}

impl TxStage {
    /// Queues a frame for `port`; gives it back if the queue is full. It never is while a burst sends
    /// each of its frames to a port at most once and the worker empties the stage in between.
    #[inline]
    pub fn push(&mut self, port: PortId, frame: Frame) -> Result<(), Frame> {
        let Some(queue) = self.queues.get_mut(port.index()) else { return Err(frame) };
        let was_empty = queue.is_empty();
        queue.try_push(frame).map_err(|full| full.element())?;
        if was_empty {
            // Room for every port id once.
            let _ = self.dirty.try_push(port);
        }
        Ok(())
    }

    /// Takes a port that has frames waiting, in order of first use.
    #[inline]
    pub fn next_dirty(&mut self) -> Option<PortId> {
        self.dirty.pop()
    }

    /// The frames waiting for `port`.
    #[inline]
    pub fn queue(&mut self, port: PortId) -> Option<&mut Frames> {
        self.queues.get_mut(port.index())
    }
}
