//! The host's thread: takes a turn when a worker left something, when something is due, or when somebody changed
//! something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Instant;

use parking_lot::MutexGuard;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::SharedHost;
use crate::worker::{AbortOnPanic, Shared};

/// The running thread. Ends it when told to, or when dropped.
pub struct HostThread {
    ending: Arc<AtomicBool>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl HostThread {
    /// Starts the thread. `epoch` is zero of the switch's clock. A panic of it ends the process, as a worker's does.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub fn spawn(host: SharedHost, shared: Arc<Shared>, epoch: Instant) -> std::io::Result<HostThread> {
        let ending = Arc::new(AtomicBool::new(false));
        let (flag, queues) = (Arc::clone(&ending), Arc::clone(&shared));
        let thread = std::thread::Builder::new().name("host".to_string()).spawn(move || {
            let _guard = AbortOnPanic("the host's thread");
            run(&host, &queues, epoch, &flag);
        })?;
        Ok(HostThread { ending, shared, thread: Some(thread) })
    }

    /// Ends the thread and waits for it. What it still holds goes back to the pool with the last owner of the host.
    ///
    /// # Errors
    /// If the thread ended abnormally.
    pub fn stop(mut self) -> std::thread::Result<()> {
        self.end()
    }

    fn end(&mut self) -> std::thread::Result<()> {
        self.ending.store(true, Ordering::SeqCst);
        self.shared.host_waker().wake();
        self.thread.take().map_or(Ok(()), JoinHandle::join)
    }
}

impl Drop for HostThread {
    fn drop(&mut self) {
        // Who wants to know how it ended calls `stop`.
        let _ = self.end();
    }
}

fn run(host: &SharedHost, shared: &Shared, epoch: Instant, ending: &AtomicBool) {
    let changed = host.lock().changed();
    let now_ns = || epoch.elapsed().as_nanos() as u64;
    while !ending.load(Ordering::SeqCst) {
        let mut guard = host.lock();
        let due_ns = guard.turn(now_ns());
        // To whoever waits, not to the next turn: a flood of packets must not keep the control thread out.
        MutexGuard::unlock_fair(guard);
        let waker = shared.host_waker();
        waker.set_asleep(true);
        let quiet = || shared.host().is_empty() && !changed.load(Ordering::SeqCst) && !ending.load(Ordering::SeqCst);
        let wait_ns = due_ns.saturating_sub(now_ns());
        if wait_ns > 0 && quiet() {
            let mut fds = [PollFd::from_borrowed_fd(waker.fd(), PollFlags::IN)];
            let timeout =
                Timespec { tv_sec: (wait_ns / 1_000_000_000) as i64, tv_nsec: (wait_ns % 1_000_000_000) as i64 };
            // An interrupted or failed wait is a short one. Nothing due: only a waker ends it.
            let _ = poll(&mut fds, (due_ns != u64::MAX).then_some(&timeout));
        }
        waker.set_asleep(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Host, HostSettings};
    use crate::port::SharedPool;
    use crate::table::fdb::Fdb;
    use parking_lot::Mutex;
    use std::time::Duration;

    #[test]
    fn the_thread_sleeps_without_gateways_hears_of_changes_and_ends() {
        let shared = Shared::new(1, SharedPool::heap(256), Arc::new(Fdb::new(1_024, 1))).unwrap();
        let host = Arc::new(Mutex::new(Host::new(Arc::clone(&shared), HostSettings::default())));
        let turns = || host.lock().turns();
        let thread = HostThread::spawn(Arc::clone(&host), Arc::clone(&shared), Instant::now()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while turns() == 0 {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
        std::thread::sleep(Duration::from_millis(50));
        let before = turns();
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(turns(), before, "with nothing to do it sleeps");
        host.lock().configure(Vec::new(), Arc::default());
        while turns() == before {
            assert!(Instant::now() < deadline, "a change is attended to at once");
            std::thread::yield_now();
        }
        thread.stop().unwrap();
    }
}
