//! Brings leases to disk on a thread of its own: a disk may take its time, ARP and ICMP may not.
//!
//! One batch is under way at a time. What changes meanwhile goes with the next one, so that a slow disk is asked
//! less often, for more leases at once.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{Change, Lease};
use crate::worker::AbortOnPanic;

/// What is written at once.
#[derive(Debug)]
pub struct Batch {
    /// What changed, with the name of its bridge; one entry per address.
    pub changes: Vec<(String, Change)>,
    /// When, in unix seconds.
    pub now_s: u64,
}

/// A place among all changes: see [`Writer::mark`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Mark(u64);

/// The thread, and what it is given next. Belongs to the host. Dropping it waits until all is written.
pub struct Writer {
    thread: Option<(SyncSender<Batch>, JoinHandle<()>)>,
    /// The newest of each address that is in no batch yet; bounded by the addresses of all pools.
    pending: BTreeMap<(String, Ipv4Addr), Option<Lease>>,
    now_s: u64,
    /// Batches that the thread was given.
    given: u64,
    /// Batches that it is done with.
    done: Arc<AtomicU64>,
}

impl Writer {
    /// Keeps nothing: whatever is added counts as written.
    pub fn off() -> Writer {
        Writer { thread: None, pending: BTreeMap::new(), now_s: 0, given: 0, done: Arc::default() }
    }

    /// Starts the thread. It calls `commit` with each batch, which returns when the batch is on disk or cannot be
    /// brought there, with a line for the log if there is something to say; after each it calls `tell`. Both run on
    /// that thread; a panic of it ends the process, as a worker's does.
    ///
    /// # Errors
    /// The operating system's, if it has no thread to give.
    pub fn spawn(
        mut commit: impl FnMut(Batch) -> Option<String> + Send + 'static,
        tell: impl Fn() + Send + 'static,
    ) -> io::Result<Writer> {
        let mut writer = Writer::off();
        let (sender, batches) = sync_channel::<Batch>(1);
        let done = Arc::clone(&writer.done);
        let thread = std::thread::Builder::new().name("leases".to_string()).spawn(move || {
            let _guard = AbortOnPanic("the thread that writes leases");
            for batch in batches {
                if let Some(line) = commit(batch) {
                    tracing::error!("{line}");
                }
                // Release pairs with `is_over`: who sees the count sees what commit did.
                done.fetch_add(1, Ordering::Release);
                tell();
            }
        })?;
        writer.thread = Some((sender, thread));
        Ok(writer)
    }

    /// Takes a change for the next batch. The newest one of an address counts.
    pub fn add(&mut self, bridge: &str, Change { address, lease }: Change, now_s: u64) {
        if self.thread.is_some() {
            self.pending.insert((bridge.to_string(), address), lease);
            self.now_s = now_s;
        }
    }

    /// Gives the thread what was added since the last batch, unless it is still busy with that one. Never waits.
    pub fn hand_over(&mut self) {
        if self.is_over(Mark(self.given)) {
            self.give();
        }
    }

    /// The moment at which all that was added until now is written.
    pub fn mark(&self) -> Mark {
        Mark(self.given + u64::from(!self.pending.is_empty()))
    }

    /// True once all that was added before the mark was made is on disk, or the log says that it is not.
    pub fn is_over(&self, mark: Mark) -> bool {
        self.done.load(Ordering::Acquire) >= mark.0
    }

    /// Waits if the thread has not begun with the batch before.
    fn give(&mut self) {
        let Some((sender, _)) = self.thread.as_ref().filter(|_| !self.pending.is_empty()) else { return };
        let changes = std::mem::take(&mut self.pending).into_iter();
        let changes = changes.map(|((bridge, address), lease)| (bridge, Change { address, lease })).collect();
        // The thread ends before its sender only with the process.
        let _ = sender.send(Batch { changes, now_s: self.now_s });
        self.given += 1;
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.give();
        if let Some((sender, thread)) = self.thread.take() {
            drop(sender);
            // It cannot have panicked: that ends the process.
            let _ = thread.join();
        }
    }
}
