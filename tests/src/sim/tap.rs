//! A port that writes down what the switch took from the port inside it, burst by burst: the reference switch is
//! fed from this record, so it sees exactly the frames, bursts and order that the workers saw.

use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex};

use switch::port::{Frame, FramePool, Frames, Port, PortError, Service};

/// One receive call that brought something.
pub struct RxBurst {
    /// Which tap recorded it.
    pub tap: usize,
    /// The packets in order.
    pub packets: Vec<Vec<u8>>,
}

/// The record that the taps of one simulation share. Locked for moments, by one thread.
pub type TapLog = Arc<Mutex<Vec<RxBurst>>>;

/// See the module text.
pub struct TapPort {
    inner: Box<dyn Port>,
    tap: usize,
    log: TapLog,
}

impl TapPort {
    /// Records what `inner` receives as tap number `tap`.
    pub fn new(inner: Box<dyn Port>, tap: usize, log: TapLog) -> TapPort {
        TapPort { inner, tap, log }
    }
}

impl Port for TapPort {
    fn rx(&mut self, pool: &mut FramePool, out: &mut Frames) {
        let before = out.len();
        self.inner.rx(pool, out);
        let bytes = |frame: &Frame| pool.region().segments(frame).flatten().copied().collect();
        let packets: Vec<Vec<u8>> = out.iter().skip(before).map(bytes).collect();
        if !packets.is_empty() {
            self.log.lock().expect("one thread").push(RxBurst { tap: self.tap, packets });
        }
    }

    fn tx(&mut self, pool: &mut FramePool, frames: &mut Frames) {
        self.inner.tx(pool, frames);
    }

    fn service(&mut self, pool: &mut FramePool) -> Result<Service, PortError> {
        self.inner.service(pool)
    }

    fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.inner.fd()
    }

    fn held(&self) -> usize {
        self.inner.held()
    }

    fn close(self: Box<Self>) -> Vec<Frame> {
        self.inner.close()
    }
}
