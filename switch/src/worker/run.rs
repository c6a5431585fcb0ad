//! The thread around a worker: pinned, raised in priority, spinning under load and asleep when idle.

use std::time::Instant;

use arrayvec::ArrayVec;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::patience::Patience;
use super::{Shared, Worker, priority};
use crate::limits::PORTS_MAX;

/// How a worker waits for packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PollMode {
    /// Spin under load, sleep on the sockets when idle.
    Adaptive,
    /// Never sleep.
    Spin,
}

/// How to run a worker.
#[derive(Clone, Copy, Debug)]
pub struct RunOptions {
    /// Core to pin the thread to.
    pub core: usize,
    /// How it waits.
    pub poll: PollMode,
    /// Zero of the switch's clock.
    pub epoch: Instant,
}

/// Turns between two looks at the clock while spinning without traffic.
const IDLE_TURNS: u32 = 16;

/// Longest sleep: counters of an idle loop stay this fresh.
const SLEEP_MAX_NS: i64 = 200_000_000;

/// Runs worker `index` on the calling thread until it is told to stop.
pub fn run(mut worker: Worker, options: RunOptions) {
    priority::settle(options.core, worker.index);
    let stats = std::sync::Arc::clone(&worker.stats);
    let poll = &stats.poll;
    let mut now_ns = elapsed_ns(options.epoch);
    let started_ns = now_ns;
    let mut last_work_ns = now_ns;
    let mut idle_turns = 0;
    let mut patience = Patience::new(worker.index);
    let mut last_packets_ns = now_ns;
    while !worker.is_stopping() {
        let moved = worker.poll_once(now_ns);
        poll.iterations.add(1);
        if moved > 0 || worker.unsent {
            patience.resumed(now_ns - last_packets_ns, now_ns);
            let after_ns = elapsed_ns(options.epoch);
            poll.busy_iterations.add(1);
            poll.packets.add(moved as u64);
            poll.busy_ns.add(after_ns - now_ns);
            now_ns = after_ns;
            last_work_ns = now_ns;
            last_packets_ns = now_ns;
            idle_turns = 0;
        } else {
            idle_turns = (idle_turns + 1) % IDLE_TURNS;
            if idle_turns == 0 || patience.gives_way(now_ns) {
                now_ns = elapsed_ns(options.epoch);
            }
            std::hint::spin_loop();
        }
        poll.elapsed_ns.set(now_ns - started_ns);
        if options.poll == PollMode::Adaptive && now_ns - last_work_ns > patience.spin_ns(now_ns) {
            sleep(&worker);
            let woke_ns = elapsed_ns(options.epoch);
            poll.sleeps.add(1);
            poll.sleep_ns.add(woke_ns - now_ns);
            poll.frames_held.set(worker.frames_held() as u64);
            poll.core_shared_until_ns.set(patience.shared_until_ns().saturating_sub(started_ns));
            now_ns = woke_ns;
            // One look at the ports; without packets the next turn sleeps again.
            last_work_ns = now_ns.saturating_sub(patience.spin_ns(now_ns));
        }
    }
}

fn elapsed_ns(epoch: Instant) -> u64 {
    epoch.elapsed().as_nanos() as u64
}

/// Waits until a port is readable, somebody wakes the worker, or the longest sleep is over.
fn sleep(worker: &Worker) {
    let shared: &Shared = &worker.shared;
    let waker = shared.waker(worker.index);
    waker.set_asleep(true);
    shared.grace().sleep(worker.index);
    if shared.is_quiet(worker.index) {
        let mut fds: ArrayVec<PollFd<'_>, { PORTS_MAX + 1 }> = ArrayVec::new();
        fds.push(PollFd::from_borrowed_fd(waker.fd(), PollFlags::IN));
        let ports = worker.ports.iter().filter(|local| !local.gone).filter_map(|local| local.dev.fd());
        fds.extend(ports.take(PORTS_MAX).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        let timeout = Timespec { tv_sec: 0, tv_nsec: SLEEP_MAX_NS };
        // An interrupted or failed wait is a short one: the loop looks at every port either way.
        let _ = poll(&mut fds, Some(&timeout));
    }
    shared.grace().wake(worker.index);
    waker.set_asleep(false);
}

/// Ends the process when its thread, of this name, panics. A switch that lives on without a worker would swallow what
/// comes in on its ports; after an end the kernel detaches them, and a service manager starts a new one.
pub struct AbortOnPanic(pub &'static str);

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!("{} failed: ending at once", self.0);
            std::process::abort();
        }
    }
}
