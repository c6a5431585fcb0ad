//! One AF_XDP socket as a [`Port`]: four rings shared with the kernel and the account of what it holds.
//!
//! Driven by the worker that owns the queue; opened by the control thread, closed by its closing threads. Every chunk
//! handed to the kernel is entered in [`Held`] and taken out when it comes back, so that whatever happens to the
//! interface, `close` returns exactly what the port was given.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;

use xsk_rs::FrameDesc;

use super::depth::Depth;
use super::held::Held;
use super::umem::{Memory, Queues};
use crate::limits::{BURST, ETHERNET_HEADER, FRAME_ROOM, FRAME_SIZE, RING_SIZE};
use crate::port::{Frame, FramePool, Frames, KernelCounters, Port, PortError, Service, SharedPool};

/// More descriptors of the same packet follow (`XDP_PKT_CONTD`, linux/if_xdp.h).
const PACKET_CONTINUES: u32 = 1;
/// Frames put into the fill ring at once, when the pool has them.
const FILL_BATCH: u32 = 32;
/// Most `sendto` calls of one [`Port::service`]: enough for a full ring at 32 frames each, the least a kernel
/// takes per call.
const KICKS_MAX: usize = (RING_SIZE / 32) as usize;

/// What one `sendto` came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kick {
    /// The kernel looked at the ring and can be called again if it left something.
    Sent,
    /// It sent what it could for now: budget, completion ring, send buffer or memory used up.
    Again,
    /// It sent some, and the far side refused the last one.
    Refused,
    /// The interface is down.
    Down,
}

/// See the module text.
pub(super) struct AfxdpPort {
    queues: Queues,
    memory: Memory,
    pool: Arc<SharedPool>,
    held: Held,
    scratch: [FrameDesc; BURST],
    depth: Depth,
    /// Frames in the fill ring, or received and not yet taken.
    filled: u32,
    /// Frames put into the transmit ring that have not come back.
    in_flight: u32,
    /// Frames in the transmit ring after the last kick, and those put in since.
    unsent: u32,
    /// Since the last service.
    refused: u32,
    /// A packet whose last segments were not yet received.
    partial: Option<Frame>,
    /// The rest of the packet at the front of the receive ring is to be dropped.
    skipping: bool,
    /// Received packets that had more segments than a packet may have.
    too_long: u64,
    /// Packets of several segments can be sent.
    multi_buffer: bool,
    down: bool,
    gone: bool,
}

impl AfxdpPort {
    /// A port over a bound socket. The fill ring is empty until the first [`Port::service`].
    pub(super) fn new(
        queues: Queues,
        memory: Memory,
        pool: Arc<SharedPool>,
        fill_target: u32,
        multi_buffer: bool,
    ) -> AfxdpPort {
        let held = Held::new(pool.region().count());
        AfxdpPort {
            queues,
            memory,
            pool,
            held,
            scratch: [FrameDesc::default(); BURST],
            depth: Depth::new(fill_target.min(RING_SIZE)),
            filled: 0,
            in_flight: 0,
            unsent: 0,
            refused: 0,
            partial: None,
            skipping: false,
            too_long: 0,
            multi_buffer,
            down: false,
            gone: false,
        }
    }

    /// The socket's descriptor.
    pub(super) fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: the queues keep the socket open for as long as `self` is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.queues.rx.fd().as_raw_fd()) }
    }

    /// Turns a descriptor that the kernel gave back into a token, or `None` if the kernel did not hold that
    /// chunk through this port (which it never should say).
    #[inline]
    fn take_back(held: &mut Held, desc: &FrameDesc, len: usize) -> Option<Frame> {
        let index = (desc.addr() / FRAME_SIZE) as u32;
        if len > FRAME_ROOM || !held.remove(index) {
            debug_assert!(false, "the kernel returned chunk {index} ({len} bytes), which it does not hold");
            return None;
        }
        // SAFETY: the bit said that this chunk's reference was given up by `into_index` for this port; it is
        // cleared now, so this is the only token made from that reference.
        Some(unsafe { Frame::from_index(index, len as u32) })
    }

    /// Adds a received segment to the packet it belongs to; `continues` if more of that packet follow.
    #[inline]
    fn receive(&mut self, pool: &mut FramePool, segment: Frame, continues: bool) -> Option<Frame> {
        if self.skipping {
            self.skipping = continues;
            pool.free(segment);
            return None;
        }
        let packet = match self.partial.take() {
            None => segment,
            Some(mut head) => match pool.region().append(&mut head, segment) {
                Ok(()) => head,
                Err(segment) => {
                    self.too_long += 1;
                    self.skipping = continues;
                    pool.free(head);
                    pool.free(segment);
                    return None;
                }
            },
        };
        if continues {
            self.partial = Some(packet);
            return None;
        }
        Some(packet)
    }

    /// True if the kernel would send this packet. A bad descriptor would never complete: its chunk would be lost.
    #[inline]
    fn sendable(&self, pool: &FramePool, frame: &Frame) -> bool {
        if frame.len() < ETHERNET_HEADER || frame.head_len() == 0 || self.held.contains(frame.index()) {
            return false;
        }
        frame.segments() == 1 || self.multi_buffer && pool.region().segments(frame).all(|segment| !segment.is_empty())
    }

    /// Puts the first `used` descriptors of the scratch array into the transmit ring.
    #[inline]
    fn produce(&mut self, used: usize) {
        let descs = self.scratch.get(..used).unwrap_or(&[]);
        // SAFETY: the descriptors are of this UMEM, and their tokens have ended in `into_index`.
        let taken = unsafe { self.queues.tx.produce(descs) };
        // `tx` asked for the room before. Should the ring still refuse, the chunks stay in `held` and come
        // back at close.
        debug_assert_eq!(taken, used);
        self.unsent += taken as u32;
        self.in_flight += taken as u32;
    }

    /// Queues one packet, segment by segment, through the scratch array; returns how much of it is in use.
    #[inline]
    fn queue(&mut self, pool: &FramePool, frame: Frame, mut used: usize) -> usize {
        let mut rest = Some(frame);
        while let Some(frame) = rest {
            let (one, more) = pool.region().split_first(frame);
            let len = one.head_len();
            let index = one.into_index();
            rest = more;
            if used == BURST {
                self.produce(used);
                used = 0;
            }
            let fresh = self.held.insert(index);
            debug_assert!(fresh, "chunk {index} is in the kernel's hands twice");
            let (Some(slot), Some(template)) = (self.scratch.get_mut(used), self.memory.descs.get(index as usize))
            else {
                continue;
            };
            *slot = *template;
            // SAFETY: the descriptor is of this UMEM. No byte is read or written: the cursor only stores the
            // length in the descriptor, so that other holders of a flooded frame may read it meanwhile.
            unsafe { self.memory.umem.data_mut(slot) }.cursor().set_pos(len);
            slot.set_options(if rest.is_some() { PACKET_CONTINUES } else { 0 });
            used += 1;
        }
        used
    }

    /// Frees what was sent; returns how many frames that were.
    #[inline]
    fn reclaim(&mut self, pool: &mut FramePool) -> u32 {
        let mut total = 0;
        while self.in_flight > 0 {
            // SAFETY: the scratch descriptors are overwritten before they are used.
            let count = unsafe { self.queues.done.consume(&mut self.scratch) };
            for desc in self.scratch.iter().take(count) {
                if let Some(frame) = Self::take_back(&mut self.held, desc, 0) {
                    pool.free(frame);
                }
            }
            self.in_flight = self.in_flight.saturating_sub(count as u32);
            total += count as u32;
            if count < BURST {
                break;
            }
        }
        total
    }

    /// Tops the fill ring up, in batches.
    #[inline]
    fn refill(&mut self, pool: &mut FramePool) {
        let few = FILL_BATCH.min(self.depth.frames()).max(1);
        if self.depth.frames().saturating_sub(self.filled) < few {
            return;
        }
        // Frames that were received and not yet taken have left the ring as well.
        self.depth.look(self.filled.saturating_sub(self.queues.rx.nb_avail_exact()));
        while self.depth.frames().saturating_sub(self.filled) >= few {
            let want = (self.depth.frames() - self.filled).min(BURST as u32) as usize;
            let mut used = 0;
            while used < want {
                let Some(frame) = pool.alloc() else { break };
                let index = frame.into_index();
                let fresh = self.held.insert(index);
                debug_assert!(fresh, "free chunk {index} is in the kernel's hands");
                let (Some(slot), Some(template)) = (self.scratch.get_mut(used), self.memory.descs.get(index as usize))
                else {
                    break;
                };
                *slot = *template;
                used += 1;
            }
            // SAFETY: the descriptors are of this UMEM, and their tokens have ended in `into_index`.
            let taken = unsafe { self.queues.fill.produce(self.scratch.get(..used).unwrap_or(&[])) };
            self.filled += taken as u32;
            self.depth.passed(taken as u32);
            if taken < used {
                self.take_back_fill(pool, taken, used);
                return;
            }
            if used < want {
                return;
            }
        }
    }

    /// Frees what the fill ring had no room for. The kernel shows received frames before it shows the room that they
    /// left in the fill ring (`xsk_flush`, net/xdp/xsk.c), and its core may stand still in between. Asked again soon.
    #[cold]
    fn take_back_fill(&mut self, pool: &mut FramePool, taken: usize, used: usize) {
        for desc in self.scratch.get(taken..used).unwrap_or(&[]) {
            if let Some(frame) = Self::take_back(&mut self.held, desc, 0) {
                pool.free(frame);
            }
        }
    }

    /// Frames that the kernel has not yet taken from the transmit ring.
    fn ring_unsent(&mut self) -> u32 {
        RING_SIZE.saturating_sub(self.queues.tx.nb_free_exact())
    }

    /// One `sendto`, which makes the kernel send from the transmit ring (`__xsk_generic_xmit`, net/xdp/xsk.c).
    fn kick(&mut self) -> Result<Kick, PortError> {
        // SAFETY: a call without buffer or address on our own socket.
        let result = unsafe {
            libc::sendto(self.queues.tx.fd().as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0)
        };
        if result >= 0 {
            self.down = false;
            return Ok(Kick::Sent);
        }
        let error = io::Error::last_os_error();
        let kick = match error.raw_os_error().unwrap_or(0) {
            libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM | libc::EINTR => Kick::Again,
            // The frame at fault was taken from the ring and completes; the kernel stopped behind it.
            libc::EBUSY | libc::EOVERFLOW => Kick::Refused,
            libc::ENETDOWN => Kick::Down,
            libc::ENXIO | libc::ENODEV => {
                self.gone = true;
                return Err(PortError::Gone);
            }
            _ => return Err(PortError::Io(error)),
        };
        self.down = kick == Kick::Down;
        Ok(kick)
    }

    /// Calls the kernel until it has taken everything or takes no more; returns how many frames came back.
    fn send(&mut self, pool: &mut FramePool) -> Result<u32, PortError> {
        let mut completed = 0;
        for _ in 0..KICKS_MAX {
            let before = self.unsent;
            let kick = self.kick()?;
            completed += self.reclaim(pool);
            self.unsent = self.ring_unsent();
            if kick == Kick::Refused {
                self.refused += 1;
            }
            if kick == Kick::Down || self.unsent == 0 || self.unsent >= before {
                break;
            }
        }
        Ok(completed)
    }

    fn refuse(&mut self, pool: &mut FramePool, frame: Frame) {
        self.refused += 1;
        pool.free(frame);
    }
}

impl Port for AfxdpPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        loop {
            let room = out.remaining_capacity().min(BURST);
            if room == 0 {
                return;
            }
            let Some(wanted) = self.scratch.get_mut(..room) else { return };
            // SAFETY: the descriptors are overwritten before they are used.
            let count = unsafe { self.queues.rx.consume(wanted) };
            self.filled = self.filled.saturating_sub(count as u32);
            // The kernel wrote these on another core: let their misses overlap.
            for desc in self.scratch.iter().take(count) {
                pool.region().prefetch((desc.addr() / FRAME_SIZE) as u32);
            }
            for position in 0..count {
                let Some(desc) = self.scratch.get(position) else { break };
                let continues = desc.options() & PACKET_CONTINUES != 0;
                let Some(segment) = Self::take_back(&mut self.held, desc, desc.lengths().data()) else { continue };
                if let Some(packet) = self.receive(pool, segment, continues) {
                    // At most one packet per descriptor, and no more descriptors than room.
                    out.push(packet);
                }
            }
            if count < room {
                return;
            }
        }
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        // A send attempt tells whether a link that was down is up again.
        if self.gone || self.down && !matches!(self.kick(), Ok(Kick::Sent | Kick::Again | Kick::Refused)) {
            frames.drain(..).for_each(|frame| self.refuse(pool, frame));
            return;
        }
        // Never more in flight than the completion ring has room for.
        let room = self.queues.tx.nb_free(BURST as u32).min(RING_SIZE.saturating_sub(self.in_flight)) as usize;
        let mut segments = 0;
        let whole = frames.iter().take_while(|frame| {
            segments += frame.segments();
            segments <= room
        });
        let count = whole.count();
        let mut used = 0;
        for frame in frames.drain(..count) {
            if self.sendable(pool, &frame) {
                used = self.queue(pool, frame, used);
            } else {
                self.refuse(pool, frame);
            }
        }
        if used > 0 {
            self.produce(used);
        }
    }

    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError> {
        let mut completed = self.reclaim(pool);
        let sent = if self.gone {
            Err(PortError::Gone)
        } else if self.unsent > 0 && !self.down {
            self.send(pool)
        } else {
            Ok(0)
        };
        if !self.gone {
            self.refill(pool);
        }
        completed += sent?;
        let refused = std::mem::take(&mut self.refused);
        // What waits for a link that is down goes out, or is found stuck, at the next `tx`.
        let unsent = if self.down { 0 } else { self.unsent };
        Ok(Service { unsent, refused, completed })
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket())
    }

    fn held(&self) -> usize {
        self.held.count() + self.partial.as_ref().map_or(0, Frame::segments)
    }

    fn kernel_counters(&self) -> KernelCounters {
        let Ok(kernel) = self.queues.rx.fd().xdp_statistics() else { return KernelCounters::default() };
        KernelCounters {
            rx_dropped: kernel.rx_dropped() + self.too_long,
            rx_ring_full: kernel.rx_ring_full(),
            rx_fill_ring_empty: kernel.rx_fill_ring_empty_descs(),
            tx_invalid: kernel.tx_invalid_descs(),
        }
    }

    fn set_fill_target(&mut self, frames: u32) {
        self.depth.set_limit(frames.min(RING_SIZE));
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        let last = self.socket().try_clone_to_owned();
        let AfxdpPort { queues, pool, mut held, partial, .. } = *self;
        // Unmaps the rings and closes the ring library's descriptor, under the lock that opening a port takes too. Ours
        // keeps the socket open, so that nobody waits for that lock while the kernel waits for its readers.
        drop(queues);
        // The kernel unbinds the socket before close returns (`xsk_release` waits for readers): from here on it neither
        // reads nor writes our chunks. (This is the last reference: descriptors are close-on-exec, and the switch
        // starts no other programs. If there was no second descriptor to be had, the one above was the last.)
        drop(last);
        let mut frames = Vec::with_capacity(held.count());
        let mut rest = partial;
        while let Some(frame) = rest {
            let (one, more) = pool.region().split_first(frame);
            frames.push(one);
            rest = more;
        }
        for index in held.take_all() {
            // SAFETY: the bit said that this chunk's reference was given up by `into_index` for this port, the
            // set is empty now, and the kernel has let go.
            frames.push(unsafe { Frame::from_index(index, 0) });
        }
        frames
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::port::afxdp::umem;

    /// A port on a veth, in a network namespace that ends with the calling thread. `None`, after a line that says so,
    /// where this process may not make one.
    fn lonely_port(frames: u32, fill_target: u32) -> Option<(AfxdpPort, Arc<SharedPool>)> {
        // SAFETY: a plain system call, which moves this thread only.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            eprintln!("SKIPPED: cannot make a network namespace: run this test as root");
            return None;
        }
        let words = ["link", "add", "lonely0", "type", "veth", "peer", "name", "lonely1"];
        assert!(std::process::Command::new("ip").args(words).status().unwrap().success());
        let made = umem::create(frames).unwrap();
        let queues = umem::bind_patiently(&made.memory.umem, "lonely0", 0, umem::BUSY_WAIT).unwrap();
        let shared = SharedPool::new(made.region, made.frames);
        Some((AfxdpPort::new(queues, made.memory, Arc::clone(&shared), fill_target, false), shared))
    }

    #[test]
    fn a_full_fill_ring_refuses_and_no_frame_is_lost() {
        let Some((mut port, shared)) = lonely_port(2 * RING_SIZE, RING_SIZE) else { return };
        let mut pool = FramePool::new(Arc::clone(&shared));
        port.service(&mut pool).unwrap();
        pool.give_all();
        let free = shared.free_estimate();
        assert_eq!((port.filled, port.held(), free), (RING_SIZE, RING_SIZE as usize, RING_SIZE as usize));
        // As when received frames were taken whose places in the fill ring the kernel does not show as free yet.
        port.filled -= 52;
        for _ in 0..3 {
            port.service(&mut pool).unwrap();
        }
        pool.give_all();
        assert_eq!((port.filled, port.held(), shared.free_estimate()), (RING_SIZE - 52, RING_SIZE as usize, free));
        shared.reclaim(Box::new(port).close());
        assert_eq!(shared.free_estimate(), 2 * RING_SIZE as usize);
    }
}
