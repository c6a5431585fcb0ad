//! What the workers and the control thread share: tables, and bounded lock-free queues between them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam::queue::{ArrayQueue, SegQueue};
use rustix::event::{EventfdFlags, eventfd};

use crate::ids::PortId;
use crate::limits::{HANDOFF, INJECTED_MAX, PORTS_MAX};
use crate::path::{HostQueues, Injected};
use crate::port::{Frame, Port, PortError, SharedPool};
use crate::stats::WorkerStats;
use crate::table::fdb::Fdb;
use crate::table::grace::Grace;
use crate::table::router::RouterTables;
use crate::table::snapshot::Snapshot;

/// What the control thread tells a worker.
pub enum Command {
    /// Use this configuration from the next burst on.
    View(Arc<Snapshot>),
    /// Drive this queue of `port`.
    Attach {
        /// The port.
        port: PortId,
        /// The queue.
        dev: Box<dyn Port>,
    },
    /// Give back one queue of `port`.
    Detach {
        /// The port.
        port: PortId,
    },
    /// Keep so many frames in the fill ring of each queue of `port`.
    FillTarget {
        /// The port.
        port: PortId,
        /// Frames per queue.
        frames: u32,
    },
    /// End the loop.
    Stop,
}

/// What a worker tells the control thread.
pub enum Event {
    /// A configuration that this worker no longer uses.
    Retired(Arc<Snapshot>),
    /// The queue asked for by [`Command::Detach`]; close it.
    Detached {
        /// Who drove it.
        worker: usize,
        /// The port.
        port: PortId,
        /// The queue.
        dev: Box<dyn Port>,
    },
    /// A port stopped working; detach it.
    Gone {
        /// Who drives it.
        worker: usize,
        /// The port.
        port: PortId,
        /// What the device said.
        error: PortError,
    },
}

/// Wakes a thread that sleeps on a file descriptor.
pub struct Waker {
    asleep: AtomicBool,
    fd: OwnedFd,
}

impl Waker {
    /// A waker for a thread that is awake.
    pub fn new() -> io::Result<Waker> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Waker { asleep: AtomicBool::new(false), fd })
    }

    /// Wakes the thread if it sleeps or is about to. One load when it does not.
    #[inline]
    pub fn wake(&self) {
        // Pairs with the store in `set_asleep`: either we see the flag, or the sleeper sees our queue.
        std::sync::atomic::fence(Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) {
            let _ = rustix::io::write(&self.fd, &1u64.to_ne_bytes());
        }
    }

    /// Announces sleep (true): look at all queues once more afterwards, then wait for [`Waker::fd`].
    /// On waking (false), swallows what was written.
    pub fn set_asleep(&self, asleep: bool) {
        self.asleep.store(asleep, Ordering::SeqCst);
        std::sync::atomic::fence(Ordering::SeqCst);
        if !asleep {
            let _ = rustix::io::read(&self.fd, &mut [0u8; 8]);
        }
    }

    /// Readable once woken.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// One worker's mailbox.
struct Mailbox {
    commands: SegQueue<Command>,
    waker: Waker,
    stats: Arc<WorkerStats>,
    /// Frames from each worker to this one.
    handoffs: Vec<ArrayQueue<(PortId, Frame)>>,
    /// Frames of the router for this worker to send: from the host, and fragments from itself.
    injected: ArrayQueue<Injected>,
}

/// Everything that more than one thread touches.
pub struct Shared {
    pool: Arc<SharedPool>,
    fdb: Arc<Fdb>,
    router: RouterTables,
    grace: Arc<Grace>,
    host: HostQueues,
    host_waker: Waker,
    host_stats: Arc<WorkerStats>,
    mailboxes: Vec<Mailbox>,
    events: ArrayQueue<Event>,
    control: Waker,
}

impl Shared {
    /// State for `workers` workers over one pool and one forwarding database.
    pub fn new(workers: usize, pool: Arc<SharedPool>, fdb: Arc<Fdb>) -> io::Result<Arc<Shared>> {
        let handoff = if workers > 1 { HANDOFF } else { 1 };
        let mailbox = |_| {
            Ok(Mailbox {
                commands: SegQueue::new(),
                waker: Waker::new()?,
                stats: Arc::default(),
                handoffs: (0..workers).map(|_| ArrayQueue::new(handoff)).collect(),
                injected: ArrayQueue::new(INJECTED_MAX),
            })
        };
        let mailboxes = (0..workers).map(mailbox).collect::<io::Result<_>>()?;
        let control = Waker::new()?;
        // The control thread's loop always waits on this descriptor.
        control.asleep.store(true, Ordering::SeqCst);
        let host = HostQueues::new(pool.region().count() as usize);
        Ok(Arc::new(Shared {
            pool,
            fdb,
            router: RouterTables::default(),
            // The host reads routes as workers do.
            grace: Arc::new(Grace::new(workers + 1)),
            host,
            host_waker: Waker::new()?,
            host_stats: Arc::default(),
            mailboxes,
            events: ArrayQueue::new(4 * PORTS_MAX),
            control,
        }))
    }

    /// Number of workers.
    pub fn workers(&self) -> usize {
        self.mailboxes.len()
    }

    /// The frame pool.
    pub fn pool(&self) -> &Arc<SharedPool> {
        &self.pool
    }

    /// The forwarding database.
    #[inline]
    pub fn fdb(&self) -> &Fdb {
        &self.fdb
    }

    /// The forwarding database, to keep.
    pub fn fdb_arc(&self) -> Arc<Fdb> {
        Arc::clone(&self.fdb)
    }

    /// Counters of worker `index`, which must exist.
    pub fn stats(&self, index: usize) -> &Arc<WorkerStats> {
        &self.mailboxes[index].stats
    }

    /// Counters of all workers, and of the switch as a host.
    pub fn all_stats(&self) -> impl Iterator<Item = &WorkerStats> {
        self.mailboxes.iter().map(|mailbox| &*mailbox.stats).chain([&*self.host_stats])
    }

    /// Counters of the switch as a host.
    pub fn host_stats(&self) -> &WorkerStats {
        &self.host_stats
    }

    /// The router's tables.
    #[inline]
    pub fn router(&self) -> &RouterTables {
        &self.router
    }

    /// Who may still read what was taken out of the router's tables: workers by number, then the host.
    #[inline]
    pub fn grace(&self) -> &Arc<Grace> {
        &self.grace
    }

    /// What workers leave to the switch as a host.
    #[inline]
    pub fn host(&self) -> &HostQueues {
        &self.host
    }

    /// The waker of the host's thread.
    #[inline]
    pub fn host_waker(&self) -> &Waker {
        &self.host_waker
    }

    /// Frames of the router that worker `index`, which must exist, is to send.
    #[inline]
    pub fn injected(&self, index: usize) -> &ArrayQueue<Injected> {
        &self.mailboxes[index].injected
    }

    /// Sends a command to worker `index` and wakes it. Control thread.
    pub fn command(&self, index: usize, command: Command) {
        if let Some(mailbox) = self.mailboxes.get(index) {
            mailbox.commands.push(command);
            mailbox.waker.wake();
        }
    }

    /// The next command for worker `index`.
    #[inline]
    pub fn next_command(&self, index: usize) -> Option<Command> {
        self.mailboxes.get(index)?.commands.pop()
    }

    /// The waker of worker `index`, which must exist.
    #[inline]
    pub fn waker(&self, index: usize) -> &Waker {
        &self.mailboxes[index].waker
    }

    /// Tells the control thread; gives the event back if its queue is full.
    pub fn tell(&self, event: Event) -> Result<(), Event> {
        self.events.push(event)?;
        self.control.wake();
        Ok(())
    }

    /// The next event. Control thread.
    pub fn next_event(&self) -> Option<Event> {
        self.events.pop()
    }

    /// Readable when events wait; drain it with [`Shared::clear_control_wake`] before taking them.
    pub fn control_fd(&self) -> BorrowedFd<'_> {
        self.control.fd()
    }

    /// Swallows wake-ups, so that the next event wakes again.
    pub fn clear_control_wake(&self) {
        let _ = rustix::io::read(&self.control.fd, &mut [0u8; 8]);
    }

    /// Queues a frame from one worker for a port of another; gives it back if the queue is full.
    #[inline]
    pub fn hand_over(&self, from: usize, to: usize, port: PortId, frame: Frame) -> Result<(), Frame> {
        let Some(queue) = self.mailboxes.get(to).and_then(|mailbox| mailbox.handoffs.get(from)) else {
            return Err(frame);
        };
        queue.push((port, frame)).map_err(|(_, frame)| frame)
    }

    /// The next frame that worker `from` left for worker `to`.
    #[inline]
    pub fn take_handoff(&self, from: usize, to: usize) -> Option<(PortId, Frame)> {
        if from == to {
            return None;
        }
        self.mailboxes.get(to)?.handoffs.get(from)?.pop()
    }

    /// Frames between workers now, and between them and the host.
    pub fn handoffs(&self) -> usize {
        let queues =
            |mailbox: &Mailbox| mailbox.handoffs.iter().map(ArrayQueue::len).sum::<usize>() + mailbox.injected.len();
        self.mailboxes.iter().map(queues).sum::<usize>() + self.host.len()
    }

    /// True if nothing waits for worker `index`.
    pub fn is_quiet(&self, index: usize) -> bool {
        self.mailboxes.get(index).is_none_or(|mailbox| {
            let idle = mailbox.commands.is_empty() && mailbox.injected.is_empty();
            idle && mailbox.handoffs.iter().all(ArrayQueue::is_empty)
        })
    }
}
