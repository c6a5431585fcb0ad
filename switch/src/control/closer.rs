//! Closing what workers gave back, on threads of its own: each socket costs a kernel grace period.
//!
//! The control thread would otherwise stand still for tens of milliseconds per port. One thread detaches port after
//! port, which takes the kernel's one lock for network configuration again and again; two at it would only keep the
//! control thread's attaching from that lock. Sockets then close on up to [`THREADS_MAX`] threads at once: that is
//! waiting, and grace periods that are waited for together pass together. Frames go back to the pool as soon as the
//! kernel is done with them; the control thread hears of it by [`Closer::closed`].

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{Builder, JoinHandle, Scope, scope};

use crossbeam::queue::SegQueue;

use crate::ids::PortId;
use crate::port::{Attachment, Port, SharedPool};

/// Most threads that wait for sockets to close, beside the one that detaches. They end when nothing is left to close.
const THREADS_MAX: usize = 16;

/// A port that no worker drives any more.
pub struct Job {
    /// Which; `None` for a queue that nobody asked for.
    pub port: Option<PortId>,
    /// Detached first, so that nothing new arrives while the queues close.
    pub attachment: Option<Box<dyn Attachment>>,
    /// Its queues.
    pub queues: Vec<Box<dyn Port>>,
}

/// The closing thread, or its work done in place.
pub struct Closer {
    pool: Arc<SharedPool>,
    jobs: Option<Sender<Job>>,
    closed: Receiver<PortId>,
    done: Sender<PortId>,
    thread: Option<JoinHandle<()>>,
}

impl Closer {
    /// Closes in place, on the caller's thread.
    pub fn in_place(pool: Arc<SharedPool>) -> Closer {
        let (done, closed) = channel();
        Closer { pool, jobs: None, closed, done, thread: None }
    }

    /// Starts the thread; `wake` is called after each port, by whichever thread closed it. Without a thread, closes in
    /// place.
    pub fn spawn(pool: Arc<SharedPool>, wake: impl Fn() + Send + Sync + 'static) -> Closer {
        let mut closer = Closer::in_place(pool);
        let (jobs, queue) = channel();
        let (pool, done) = (Arc::clone(&closer.pool), closer.done.clone());
        let closing = Closing { pool, done, wake, detached: SegQueue::new(), threads: AtomicUsize::new(0) };
        match Builder::new().name("closer".to_string()).spawn(move || closing.run(&queue)) {
            Ok(thread) => {
                closer.jobs = Some(jobs);
                closer.thread = Some(thread);
            }
            Err(error) => tracing::warn!("no thread for closing ports ({error}): the control thread closes them"),
        }
        closer
    }

    /// Closes a port, now or soon.
    pub fn close(&self, job: Job) {
        let left = match &self.jobs {
            Some(jobs) => jobs.send(job).err().map(|unsent| unsent.0),
            None => Some(job),
        };
        if let Some(job) = left {
            job.detach().close(&self.pool, &self.done);
        }
    }

    /// The next port that is closed and whose frames are back.
    pub fn closed(&self) -> Option<PortId> {
        self.closed.try_recv().ok()
    }
}

impl Drop for Closer {
    /// Finishes what is under way.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Job {
    fn detach(self) -> Detached {
        drop(self.attachment);
        Detached { port: self.port, queues: self.queues }
    }
}

/// A port whose sockets are to be closed.
struct Detached {
    port: Option<PortId>,
    queues: Vec<Box<dyn Port>>,
}

impl Detached {
    fn close(self, pool: &SharedPool, done: &Sender<PortId>) {
        for queue in self.queues {
            pool.reclaim(queue.close());
        }
        if let Some(port) = self.port {
            // Nobody listens any more when the switch ends.
            let _ = done.send(port);
        }
    }
}

/// What the closing threads share.
struct Closing<W> {
    pool: Arc<SharedPool>,
    done: Sender<PortId>,
    wake: W,
    detached: SegQueue<Detached>,
    /// How many help.
    threads: AtomicUsize,
}

impl<W: Fn() + Sync> Closing<W> {
    /// Detaches and closes until the closer ends and nothing is left.
    fn run(&self, jobs: &Receiver<Job>) {
        while let Ok(first) = jobs.recv() {
            scope(|scope| {
                let mut next = Some(first);
                while let Some(job) = next {
                    self.detached.push(job.detach());
                    next = jobs.try_recv().ok();
                    // A port that comes alone is closed right here.
                    if next.is_some() {
                        self.call_help(scope);
                    }
                }
                self.close_all();
            });
        }
    }

    fn close_all(&self) {
        while let Some(detached) = self.detached.pop() {
            detached.close(&self.pool, &self.done);
            (self.wake)();
        }
    }

    /// One more thread closes what is detached, unless there are enough. Should none start, this one does it later.
    fn call_help<'s>(&'s self, scope: &'s Scope<'s, '_>) {
        if self.threads.load(Ordering::Relaxed) >= THREADS_MAX {
            return;
        }
        self.threads.fetch_add(1, Ordering::Relaxed);
        let help = || {
            self.close_all();
            self.threads.fetch_sub(1, Ordering::Relaxed);
        };
        if Builder::new().name("closer".to_string()).spawn_scoped(scope, help).is_err() {
            self.threads.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::io;
    use std::os::fd::BorrowedFd;
    use std::sync::{Condvar, Mutex};
    use std::time::Duration;

    use super::*;
    use crate::port::{Frame, FramePool, Frames, PortError, Service};

    const PATIENCE: Duration = Duration::from_secs(30);

    /// What the ports and attachments of a test have come to.
    #[derive(Default)]
    struct Seen {
        /// No attachment ends before this is set.
        may_detach: bool,
        detached: HashSet<usize>,
        /// Closes under way now, and the most there ever were.
        closing: usize,
        most: usize,
        /// A close waits until this many were under way at once.
        company: usize,
    }

    #[derive(Clone, Default)]
    struct Scene(Arc<(Mutex<Seen>, Condvar)>);

    impl Scene {
        fn tell(&self, change: impl FnOnce(&mut Seen)) {
            change(&mut self.0.0.lock().unwrap());
            self.0.1.notify_all();
        }

        fn wait(&self, until: impl Fn(&Seen) -> bool) {
            let seen = self.0.0.lock().unwrap();
            let waited = self.0.1.wait_timeout_while(seen, PATIENCE, |seen| !until(seen)).unwrap();
            assert!(!waited.1.timed_out());
        }
    }

    struct TestAttachment(usize, Scene);

    impl Attachment for TestAttachment {
        fn merges_at_container(&self) -> bool {
            true
        }

        fn merge_at_container(&mut self, _cores: &[usize]) -> io::Result<bool> {
            Ok(true)
        }

        fn set_threaded(&mut self, _threaded: bool) -> io::Result<()> {
            Ok(())
        }
    }

    impl Drop for TestAttachment {
        fn drop(&mut self) {
            self.1.wait(|seen| seen.may_detach);
            self.1.tell(|seen| {
                seen.detached.insert(self.0);
            });
        }
    }

    /// Holds frames, and closes slowly.
    struct TestPort(usize, Vec<Frame>, Scene);

    impl Port for TestPort {
        fn rx(&mut self, _pool: &mut FramePool, _out: &mut Frames) {}

        fn tx(&mut self, _pool: &mut FramePool, _frames: &mut Frames) {}

        fn service(&mut self, _pool: &mut FramePool) -> Result<Service, PortError> {
            Ok(Service::default())
        }

        fn fd(&self) -> Option<BorrowedFd<'_>> {
            None
        }

        fn held(&self) -> usize {
            self.1.len()
        }

        fn close(self: Box<Self>) -> Vec<Frame> {
            let TestPort(number, frames, scene) = *self;
            scene.tell(|seen| {
                assert!(seen.detached.contains(&number), "closed before it was detached");
                seen.closing += 1;
                seen.most = seen.most.max(seen.closing);
            });
            scene.wait(|seen| seen.most >= seen.company);
            std::thread::sleep(Duration::from_millis(1));
            scene.tell(|seen| seen.closing -= 1);
            frames
        }
    }

    const FRAMES: usize = 1024;

    fn job(number: usize, pool: &mut FramePool, scene: &Scene) -> Job {
        let frames = std::iter::from_fn(|| pool.alloc()).take(3).collect();
        Job {
            port: PortId::new(number),
            attachment: Some(Box::new(TestAttachment(number, scene.clone()))),
            queues: vec![Box::new(TestPort(number, frames, scene.clone()))],
        }
    }

    /// Gives `count` ports to a closer whose first detach waits until all are there; what was seen once it has ended.
    fn close_many(count: usize, company: usize) -> (usize, usize) {
        let (scene, shared) = (Scene::default(), SharedPool::heap(FRAMES as u32));
        scene.tell(|seen| seen.company = company);
        let mut pool = FramePool::new(Arc::clone(&shared));
        let woken = Arc::new(AtomicUsize::new(0));
        let wakes = Arc::clone(&woken);
        let wake = move || {
            wakes.fetch_add(1, Ordering::SeqCst);
        };
        let closer = Closer::spawn(Arc::clone(&shared), wake);
        (0..count).for_each(|number| closer.close(job(number, &mut pool, &scene)));
        scene.tell(|seen| seen.may_detach = true);
        let mut closed = HashSet::new();
        while closed.len() < count {
            let port = closer.closed.recv_timeout(PATIENCE).expect("every port is closed");
            assert!(closed.insert(port), "{port:?} is closed twice");
        }
        drop(closer);
        pool.give_all();
        assert_eq!(shared.free_estimate(), FRAMES, "frames are lost");
        let most = scene.0.0.lock().unwrap().most;
        (most, woken.load(Ordering::SeqCst))
    }

    #[test]
    fn ports_that_are_given_up_together_close_together() {
        assert_eq!(close_many(8, 8), (8, 8));
    }

    #[test]
    fn many_ports_close_on_a_bounded_number_of_threads() {
        let (most, woken) = close_many(200, 2);
        assert!((2..=THREADS_MAX + 1).contains(&most), "{most} closes at once");
        assert_eq!(woken, 200);
    }

    #[test]
    fn an_end_waits_for_what_is_under_way() {
        let (scene, shared) = (Scene::default(), SharedPool::heap(FRAMES as u32));
        let mut pool = FramePool::new(Arc::clone(&shared));
        let closer = Closer::spawn(Arc::clone(&shared), || {});
        scene.tell(|seen| seen.may_detach = true);
        (0..20).for_each(|number| closer.close(job(number, &mut pool, &scene)));
        drop(closer);
        pool.give_all();
        assert_eq!(shared.free_estimate(), FRAMES);
    }
}
