//! Closing what workers gave back, on a thread of its own: each socket costs a kernel grace period.
//!
//! The control thread would otherwise stand still for tens of milliseconds per port. Frames go back to the
//! pool as soon as the kernel is done with them; the control thread hears of it by [`Closer::closed`].

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::ids::PortId;
use crate::port::{Attachment, Port, SharedPool};

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

    /// Starts the thread; it calls `wake` after each port. Without a thread, closes in place.
    pub fn spawn(pool: Arc<SharedPool>, wake: impl Fn() + Send + 'static) -> Closer {
        let mut closer = Closer::in_place(pool);
        let (jobs, queue) = channel::<Job>();
        let (pool, done) = (Arc::clone(&closer.pool), closer.done.clone());
        let work = move || {
            for job in queue {
                close(job, &pool, &done);
                wake();
            }
        };
        match std::thread::Builder::new().name("closer".to_string()).spawn(work) {
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
            close(job, &self.pool, &self.done);
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

fn close(job: Job, pool: &SharedPool, done: &Sender<PortId>) {
    drop(job.attachment);
    for queue in job.queues {
        pool.reclaim(queue.close());
    }
    if let Some(port) = job.port {
        // Nobody listens any more when the switch ends.
        let _ = done.send(port);
    }
}
