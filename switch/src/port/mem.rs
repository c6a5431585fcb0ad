//! A port in memory: what a test writes to the [`Wire`] is received, what is transmitted appears there.
//!
//! Transmitted frames complete after a configurable number of services, as the kernel's do, so that
//! frames in flight and shared frames are exercised without a kernel. Buffers are recycled through the
//! wire: in steady state nothing is allocated.

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use crossbeam::queue::ArrayQueue;

use super::{Frame, FramePool, Frames, Port, PortError, Service};
use crate::limits::{FRAME_LEN_MAX, FRAME_ROOM, RING_SIZE};

/// The far side of a [`MemPort`]. Any thread.
pub struct Wire {
    to_switch: ArrayQueue<Vec<u8>>,
    from_switch: ArrayQueue<Vec<u8>>,
    spare: ArrayQueue<Vec<u8>>,
}

impl Wire {
    /// A wire that holds up to `depth` packets in each direction.
    pub fn new(depth: usize) -> Arc<Wire> {
        Arc::new(Wire {
            to_switch: ArrayQueue::new(depth),
            from_switch: ArrayQueue::new(depth),
            spare: ArrayQueue::new(2 * depth),
        })
    }

    /// Sends a packet to the switch; false if the wire is full.
    pub fn send(&self, packet: &[u8]) -> bool {
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.to_switch.push(buffer).is_ok()
    }

    /// Takes the next packet that the switch sent.
    pub fn receive(&self) -> Option<Vec<u8>> {
        self.from_switch.pop()
    }

    /// Gives a buffer back for use again.
    pub fn recycle(&self, buffer: Vec<u8>) {
        let _ = self.spare.push(buffer);
    }

    /// Packets that the switch has not received yet.
    pub fn waiting(&self) -> usize {
        self.to_switch.len()
    }
}

/// The switch's side of a [`Wire`].
pub struct MemPort {
    wire: Arc<Wire>,
    /// Single-segment frames being "transmitted", with the service call that completes each.
    in_flight: VecDeque<(u64, Frame)>,
    services: u64,
    delay: u64,
    refused: u32,
    capacity: usize,
}

impl MemPort {
    /// A port on `wire` whose frames complete `delay` services after they were sent.
    pub fn new(wire: Arc<Wire>, delay: u64) -> MemPort {
        let capacity = RING_SIZE as usize;
        MemPort { wire, in_flight: VecDeque::with_capacity(capacity), services: 0, delay, refused: 0, capacity }
    }

    /// Copies a packet into frames of the pool; `None` (the packet is lost, as with an empty fill ring)
    /// when there are not enough.
    pub(super) fn import(pool: &mut FramePool, packet: &[u8]) -> Option<Frame> {
        let mut chain: Option<Frame> = None;
        for part in packet.chunks(FRAME_ROOM) {
            let Some(mut frame) = pool.alloc() else {
                if let Some(chain) = chain {
                    pool.free(chain);
                }
                return None;
            };
            pool.region().write(&mut frame, part);
            match &mut chain {
                None => chain = Some(frame),
                Some(head) => {
                    if let Err(spare) = pool.region().append(head, frame) {
                        pool.free(spare);
                    }
                }
            }
        }
        chain
    }
}

impl Port for MemPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        while out.remaining_capacity() > 0 {
            let Some(packet) = self.wire.to_switch.pop() else { return };
            if packet.len() <= FRAME_LEN_MAX
                && let Some(frame) = Self::import(pool, &packet)
            {
                // There is room: checked above.
                let _ = out.try_push(frame).map_err(|full| pool.free(full.element()));
            }
            self.wire.recycle(packet);
        }
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        let room = self.capacity - self.in_flight.len().min(self.capacity);
        let mut used = 0;
        let fitting = frames.iter().take_while(|frame| {
            used += frame.segments();
            used <= room
        });
        let count = fitting.count();
        for frame in frames.drain(..count) {
            let mut packet = self.wire.spare.pop().unwrap_or_default();
            packet.clear();
            pool.region().segments(&frame).for_each(|segment| packet.extend_from_slice(segment));
            if let Err(packet) = self.wire.from_switch.push(packet) {
                self.refused += 1;
                self.wire.recycle(packet);
            }
            let mut rest = Some(frame);
            while let Some(frame) = rest {
                let (one, more) = pool.region().split_first(frame);
                self.in_flight.push_back((self.services + self.delay, one));
                rest = more;
            }
        }
    }

    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError> {
        let mut completed = 0;
        while self.in_flight.front().is_some_and(|(due, _)| *due <= self.services) {
            if let Some((_, frame)) = self.in_flight.pop_front() {
                pool.free(frame);
                completed += 1;
            }
        }
        self.services += 1;
        Ok(Service { unsent: 0, refused: std::mem::take(&mut self.refused), completed })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn held(&self) -> usize {
        self.in_flight.len()
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        self.in_flight.into_iter().map(|(_, frame)| frame).collect()
    }
}
