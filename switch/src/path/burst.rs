//! The data the stages pass along: frames, what was read from their headers, what is to happen to them.

use arrayvec::ArrayVec;

use crate::ids::{DomainId, Mac, PortId};
use crate::limits::{BURST, PORTS_MAX};
use crate::port::{Frame, Frames};
use crate::stats::Drop;
use crate::table::snapshot::FloodClass;

/// What is to happen to a frame. A plain value, so that a settled one can be remembered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// Not decided yet.
    Pending,
    /// To one port.
    Port(PortId),
    /// To every member of the bridge domain that takes this class, except where it came from.
    Flood(FloodClass),
    /// Nowhere, for this reason.
    Drop(Drop),
}

/// What was read from a frame's headers, and where it came from.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    /// Ingress port. Known per frame: a burst may one day mix ports.
    pub port: PortId,
    /// Destination address.
    pub dst: Mac,
    /// Source address.
    pub src: Mac,
    /// Tag control information of the 802.1Q tag in front, if there is one.
    pub tci: Option<u16>,
    /// EtherType behind that tag; a length for 802.3 frames.
    pub ethertype: u16,
    /// Where the payload behind that EtherType starts, from the start of the frame.
    pub l3_offset: u16,
    /// Bridge domain, once admitted.
    pub domain: Option<DomainId>,
}

impl Meta {
    /// Metadata of a frame that nothing is known about yet.
    pub const fn from_port(port: PortId) -> Meta {
        Meta { port, dst: Mac::ZERO, src: Mac::ZERO, tci: None, ethertype: 0, l3_offset: 0, domain: None }
    }
}

/// One frame on its way through the stages.
pub struct Lane {
    /// The frame.
    pub frame: Frame,
    /// What is known of it.
    pub meta: Meta,
    /// What is to happen to it.
    pub verdict: Verdict,
}

/// Up to [`BURST`] frames worked on together.
#[derive(Default)]
pub struct Burst {
    /// The lanes in order of arrival.
    pub lanes: ArrayVec<Lane, BURST>,
}

impl Burst {
    /// Takes the frames that a port received. `frames` is empty afterwards.
    pub fn fill(&mut self, port: PortId, frames: &mut Frames) {
        for frame in frames.drain(..) {
            // A burst is emptied by output before it is filled again, and holds as many as `frames`.
            let lane = Lane { frame, meta: Meta::from_port(port), verdict: Verdict::Pending };
            if let Err(full) = self.lanes.try_push(lane) {
                debug_assert!(false, "burst overflow loses frame {}", full.element().frame.index());
            }
        }
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
