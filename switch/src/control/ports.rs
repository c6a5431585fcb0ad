//! The life of a port: waiting for its interface, attached (up or down), detaching, gone.
//!
//! Ports are brought in line with the configuration and the links that exist by [`Control::reconcile`], which looks
//! at states and not at single events: however fast interfaces come and go, what counts is what is there now.
//! Control thread.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::Control;
use super::ageing::{Flush, Then};
use super::closer::Job;
use super::fill::{Division, Fill};
use super::links::Link;
use super::merge::Merge;
use super::receive::Meter;
use super::view::{FreeIds, place};
use crate::config::StaticEntry;
use crate::ids::PortId;
use crate::port::{AttachReport, Attachment, OpenError, Opened, Port, PortSpec};
use crate::table::fdb::{Entry, FdbError, Kind, MacKey};
use crate::worker::Command;

/// Pause after a failed attach; it doubles up to [`RETRY_MAX`] while nothing about the interface changes.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// See [`RETRY_MIN`]. An attempt costs milliseconds of this thread: many refused ports must not take all of it.
const RETRY_MAX: Duration = Duration::from_secs(60);
/// The same where the kernel did not find the interface that it still lists.
const RETRY_MISSING_MAX: Duration = Duration::from_secs(5);

/// One port and its state.
pub(super) struct Slot {
    pub id: PortId,
    pub interface: String,
    /// False once it left the configuration.
    pub configured: bool,
    /// It came after start, by reload or request.
    pub added: bool,
    pub life: Life,
}

/// Where in its life a port is.
pub(super) enum Life {
    Waiting(Waiting),
    Attached(Box<Attached>),
    Detaching(Detaching),
    /// Out of the configuration and closed; its number is freed once no address refers to it.
    Leaving,
}

/// No interface, or one that cannot be attached.
#[derive(Default)]
pub(super) struct Waiting {
    /// Why, where it is not simply missing.
    pub note: Option<String>,
    tried: Option<Tried>,
}

/// The last failed attempt.
struct Tried {
    at: Instant,
    backoff: Duration,
    /// Serial and version of the link at that time.
    state: (u64, u64),
}

/// In use.
pub(super) struct Attached {
    /// Serial and version of the link: which incarnation of the interface, and in what condition.
    state: (u64, u64),
    pub link: Link,
    /// Worker of each queue.
    pub owners: Vec<usize>,
    pub attachment: Box<dyn Attachment>,
    pub report: AttachReport,
    /// Its container receives in batches, or is to.
    pub merge: Merge,
    pub meter: Meter,
    pub fill: Fill,
}

/// Workers are giving the queues back, or the closer closes them.
pub(super) struct Detaching {
    /// Queues still with workers.
    awaited: usize,
    /// Frames beyond the floor that its fill rings may still hold.
    pub extra: u32,
    queues: Vec<Box<dyn Port>>,
    attachment: Option<Box<dyn Attachment>>,
    after: Waiting,
}

impl Waiting {
    /// When to try a link in this state.
    fn due(&self, state: (u64, u64), now: Instant) -> Instant {
        match &self.tried {
            None => now,
            // Another interface of that name.
            Some(tried) if tried.state.0 != state.0 => now,
            Some(tried) if tried.state != state => tried.at + RETRY_MIN,
            Some(tried) => tried.at + tried.backoff,
        }
    }

    /// True for the first attempt at this incarnation of the interface.
    fn is_first(&self, serial: u64) -> bool {
        self.tried.as_ref().is_none_or(|tried| tried.state.0 != serial)
    }

    fn failed(&mut self, state: (u64, u64), now: Instant, note: Option<String>) {
        let backoff = match &self.tried {
            Some(tried) if tried.state == state && note.is_some() => (tried.backoff * 2).min(RETRY_MAX),
            Some(tried) if tried.state == state => (tried.backoff * 2).min(RETRY_MISSING_MAX),
            _ => RETRY_MIN,
        };
        self.tried = Some(Tried { at: now, backoff, state });
        self.note = note;
    }
}

/// All ports, configured ones and those on their way out.
pub(super) struct PortTable {
    slots: Vec<Option<Slot>>,
    by_name: HashMap<String, PortId>,
    free: FreeIds<PortId>,
}

impl Default for PortTable {
    fn default() -> Self {
        PortTable { slots: Vec::new(), by_name: HashMap::new(), free: FreeIds::ports() }
    }
}

impl PortTable {
    /// The configured port on `interface`.
    pub fn by_name(&self, interface: &str) -> Option<&Slot> {
        self.get(*self.by_name.get(interface)?)
    }

    pub fn get(&self, id: PortId) -> Option<&Slot> {
        self.slots.get(id.index())?.as_ref()
    }

    pub fn get_mut(&mut self, id: PortId) -> Option<&mut Slot> {
        self.slots.get_mut(id.index())?.as_mut()
    }

    /// Every port by number, leaving ones included.
    pub fn all(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }

    pub fn all_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().flatten()
    }

    /// Numbers a new port, `added` after start; `None` while no number is free.
    pub fn add(&mut self, interface: &str, added: bool) -> Option<PortId> {
        let id = self.free.take()?;
        if self.slots.len() <= id.index() {
            self.slots.resize_with(id.index() + 1, || None);
        }
        let life = Life::Waiting(Waiting::default());
        let slot = Slot { id, interface: interface.to_string(), configured: true, added, life };
        *self.slots.get_mut(id.index())? = Some(slot);
        self.by_name.insert(interface.to_string(), id);
        Some(id)
    }

    /// The port leaves the configuration.
    pub fn remove(&mut self, interface: &str) {
        if let Some(slot) = self.by_name.remove(interface).and_then(|id| self.get_mut(id)) {
            slot.configured = false;
        }
    }

    /// Nothing refers to the number any more.
    fn free(&mut self, id: PortId) {
        if let Some(slot) = self.slots.get_mut(id.index()) {
            *slot = None;
            self.free.give(id);
        }
    }

    /// True while another port still holds the interface.
    fn is_held(&self, interface: &str, by_other_than: PortId) -> bool {
        let holds = |slot: &Slot| matches!(slot.life, Life::Attached(_) | Life::Detaching(_));
        self.all().any(|slot| slot.id != by_other_than && slot.interface == interface && holds(slot))
    }

    /// Queues that each of `workers` workers drives.
    fn load(&self, workers: usize) -> Vec<usize> {
        let mut load = vec![0; workers];
        let owners = self.all().filter_map(Slot::attached).flat_map(|attached| &attached.owners);
        for &owner in owners {
            if let Some(queues) = load.get_mut(owner) {
                *queues += 1;
            }
        }
        load
    }
}

impl Slot {
    pub fn attached(&self) -> Option<&Attached> {
        match &self.life {
            Life::Attached(attached) => Some(attached),
            _ => None,
        }
    }
}

/// A message about a port, without the name it begins with: whoever shows it names the port.
fn without_name(message: &str, interface: &str) -> String {
    let rest = message.strip_prefix(interface).and_then(|rest| rest.strip_prefix(": "));
    rest.unwrap_or(message).to_string()
}

/// What a port needs.
enum Step {
    Nothing,
    /// Nothing before this time.
    Later(Instant),
    Attach(Link, (u64, u64)),
    Detach(String),
    Update(Link, u64),
    Leave,
}

impl Control {
    /// Brings every port in line with the configuration and the links. At most one is attached per call, so that
    /// requests are answered in between; then [`Control::look`] stays set.
    pub(super) fn reconcile(&mut self, now: Instant) {
        self.look = false;
        self.retry = None;
        let ids: Vec<PortId> = self.ports.all().map(|slot| slot.id).collect();
        let mut attached = false;
        for id in ids {
            match self.step(id, now) {
                Step::Nothing => {}
                Step::Later(at) => self.retry = Some(self.retry.map_or(at, |retry| retry.min(at))),
                Step::Attach(..) if attached => self.look = true,
                Step::Attach(link, state) => {
                    attached = true;
                    self.attach(id, link, state, now);
                    self.look = true;
                }
                Step::Detach(why) => self.detach(id, &why, Waiting::default()),
                Step::Update(link, version) => self.update(id, link, version, now),
                Step::Leave => self.leave(id),
            }
        }
    }

    fn step(&self, id: PortId, now: Instant) -> Step {
        let Some(slot) = self.ports.get(id) else { return Step::Nothing };
        let known = self.links.by_name(&slot.interface);
        match &slot.life {
            Life::Leaving | Life::Detaching(_) => Step::Nothing,
            Life::Waiting(_) if !slot.configured => Step::Leave,
            Life::Waiting(waiting) => {
                let Some(known) = known.filter(|_| !self.ports.is_held(&slot.interface, id)) else {
                    return Step::Nothing;
                };
                let state = (known.serial, known.version);
                let due = waiting.due(state, now);
                if now < due { Step::Later(due) } else { Step::Attach(known.link.clone(), state) }
            }
            Life::Attached(_) if !slot.configured => {
                Step::Detach(if self.is_stopping() { "the switch ends" } else { "removed" }.to_string())
            }
            Life::Attached(attached) => match known {
                None => Step::Detach("its interface is gone".to_string()),
                Some(known) if known.serial != attached.state.0 => {
                    Step::Detach("its interface was made anew".to_string())
                }
                Some(known) if known.version != attached.state.1 => Step::Update(known.link.clone(), known.version),
                Some(_) => Step::Nothing,
            },
        }
    }

    fn attach(&mut self, id: PortId, link: Link, state: (u64, u64), now: Instant) {
        let fill_target = Fill::new().target;
        let life = self.ports.get(id).map(|slot| &slot.life);
        let patient = matches!(life, Some(Life::Waiting(waiting)) if waiting.is_first(state.0));
        let spec = PortSpec { interface: link.name.clone(), ifindex: link.ifindex, fill_target, patient };
        match self.factory.open(&spec) {
            Ok(opened) => self.attached(id, link, state, opened, now),
            Err(error) => {
                let Some(Slot { life: Life::Waiting(waiting), interface, .. }) = self.ports.get_mut(id) else { return };
                let note = match error {
                    // It went between the event and now; the next event says so.
                    OpenError::Missing(_) => None,
                    OpenError::Refused(message) => Some(without_name(&message, interface)),
                };
                if let Some(message) = note.as_ref().filter(|_| waiting.note != note) {
                    tracing::warn!("port {interface}: cannot be attached: {message}");
                }
                waiting.failed(state, now, note);
            }
        }
    }

    fn attached(&mut self, id: PortId, link: Link, state: (u64, u64), mut opened: Opened, now: Instant) {
        opened.report.notes.iter_mut().for_each(|note| *note = without_name(note, &link.name));
        let owners = place(opened.queues.len(), &self.ports.load(self.shared.workers()));
        if self.config.switch.receive_threads
            && let Err(error) = opened.attachment.set_threaded(false)
            && link.up
        {
            let note = "threaded receive cannot be switched";
            opened.report.notes.push(format!("{note} ({error}): the sender's core does the kernel's receive work"));
        }
        let Some(slot) = self.ports.get_mut(id) else { return };
        for (&owner, dev) in owners.iter().zip(opened.queues) {
            self.shared.command(owner, Command::Attach { port: id, dev });
        }
        let up = if link.up { "up" } else { "down" };
        let peer = opened.report.peer.as_ref().map_or(String::new(), |peer| format!(", peer {peer}"));
        let notes: String = opened.report.notes.iter().map(|note| format!("; {note}")).collect();
        tracing::info!("port {}: attached, link {up}, mtu {}, workers {owners:?}{peer}{notes}", link.name, link.mtu);
        let Opened { attachment, report, .. } = opened;
        let (meter, fill) = (Meter::new(now), Fill::new());
        let mut merge = Merge::default();
        merge.look(link.up && self.merges && report.peer.is_some(), false, now);
        let attached = Attached { state, link, owners, attachment, report, merge, meter, fill };
        slot.life = Life::Attached(Box::new(attached));
        self.changed = true;
        self.divide_pool(Division::More);
        self.insert_statics(id);
    }

    fn update(&mut self, id: PortId, link: Link, version: u64, now: Instant) {
        let Some(Slot { life: Life::Attached(attached), .. }) = self.ports.get_mut(id) else { return };
        attached.state.1 = version;
        let before = std::mem::replace(&mut attached.link, link);
        let link = &attached.link;
        if before.up != link.up {
            tracing::info!("port {}: link {}", link.name, if link.up { "up" } else { "down" });
        }
        if before.mtu != link.mtu {
            tracing::info!("port {}: mtu {} (was {})", link.name, link.mtu, before.mtu);
        }
        let went_down = before.up && !link.up;
        if !before.up && link.up {
            // What the kernel refuses while the link is down may be possible now.
            attached.meter = Meter::new(now);
            if self.config.switch.receive_threads {
                let _ = attached.attachment.set_threaded(false);
            }
        }
        // It may have been down in between.
        let merges = link.up && self.merges && attached.report.peer.is_some();
        attached.merge.look(merges, merges && attached.attachment.merges_at_container(), now);
        self.changed |= before.up != link.up || before.mtu != link.mtu;
        if went_down {
            self.flush_learned(id);
        }
    }

    /// Takes the queues of an attached port back from the workers; `after` is the state that follows.
    pub(super) fn detach(&mut self, id: PortId, why: &str, after: Waiting) {
        let Some(slot) = self.ports.get_mut(id) else { return };
        let life = std::mem::replace(&mut slot.life, Life::Leaving);
        let Life::Attached(attached) = life else {
            slot.life = life;
            return;
        };
        tracing::info!("port {}: detached: {why}", slot.interface);
        for &owner in &attached.owners {
            self.shared.command(owner, Command::Detach { port: id });
        }
        let awaited = attached.owners.len();
        let extra = attached.fill.extra(awaited as u32);
        let attachment = Some(attached.attachment);
        slot.life = Life::Detaching(Detaching { awaited, extra, queues: Vec::new(), attachment, after });
        self.remove_statics(id);
        self.flush_learned(id);
        self.changed = true;
        if awaited == 0 {
            self.close_if_complete(id);
        }
    }

    /// A worker says that the device no longer works.
    pub(super) fn gone(&mut self, id: PortId, why: &str, now: Instant) {
        let Some(slot) = self.ports.get(id) else { return };
        let Some(known) = self.links.by_name(&slot.interface) else {
            return self.detach(id, why, Waiting::default());
        };
        // The kernel still lists it: wait a little for the news of its end before trying it again.
        let mut after = Waiting::default();
        after.failed((known.serial, known.version), now, None);
        self.detach(id, why, after);
    }

    /// A worker gave a queue back.
    pub(super) fn take_back(&mut self, id: PortId, dev: Box<dyn Port>) {
        match self.ports.get_mut(id).map(|slot| &mut slot.life) {
            Some(Life::Detaching(detaching)) => {
                detaching.queues.push(dev);
                detaching.awaited = detaching.awaited.saturating_sub(1);
                self.close_if_complete(id);
            }
            _ => self.closer.close(Job { port: None, attachment: None, queues: vec![dev] }),
        }
    }

    fn close_if_complete(&mut self, id: PortId) {
        let Some(Slot { life: Life::Detaching(detaching), .. }) = self.ports.get_mut(id) else { return };
        if detaching.awaited == 0 {
            let queues = std::mem::take(&mut detaching.queues);
            self.closer.close(Job { port: Some(id), attachment: detaching.attachment.take(), queues });
        }
    }

    /// The closer is done with a port.
    pub(super) fn closed(&mut self, id: PortId) {
        if let Some(Slot { life, .. }) = self.ports.get_mut(id)
            && let Life::Detaching(detaching) = life
        {
            *life = Life::Waiting(std::mem::take(&mut detaching.after));
            self.look = true;
            self.divide_pool(Division::Fewer);
        }
    }

    /// A closed port that is out of the configuration: its number is free once no address refers to it.
    fn leave(&mut self, id: PortId) {
        if let Some(slot) = self.ports.get_mut(id) {
            slot.life = Life::Leaving;
            self.changed = true;
            let after = self.publisher.generation() + 1;
            let matches = Box::new(move |entry: &Entry| entry.port == id);
            self.sweeper.flush(Flush { matches, after, then: Then::FreePort(id) });
        }
    }

    /// Frees a port number.
    pub(super) fn free_port(&mut self, id: PortId) {
        self.shared.all_stats().for_each(|stats| stats.clear(id));
        self.ports.free(id);
        self.number();
    }

    /// Forgets the learned addresses behind a port, once no worker learns there any more.
    pub(super) fn flush_learned(&mut self, id: PortId) {
        self.changed = true;
        self.sweeper.flush(Flush::learned_on(id, self.publisher.generation() + 1));
    }

    /// Puts a static entry into the FDB if its port is attached; otherwise it waits with the port.
    pub(super) fn insert_static(&self, entry: &StaticEntry) -> Result<(), FdbError> {
        let Some(fixed) = self.fixed_entry(entry) else { return Ok(()) };
        if self.ports.get(fixed.port).is_some_and(|slot| slot.attached().is_some()) {
            self.shared.fdb().insert(fixed)?;
        }
        Ok(())
    }

    /// A static entry as the FDB has it; `None` while its port or bridge has no number.
    pub(super) fn fixed_entry(&self, entry: &StaticEntry) -> Option<Entry> {
        let port = self.ports.by_name(&entry.port)?.id;
        let key = MacKey::new(self.domains.get(&entry.bridge)?, entry.mac);
        let kind = if entry.sticky { Kind::Sticky } else { Kind::Static };
        Some(Entry { key, port, kind, stamp_s: self.now_s })
    }

    /// True if a static entry is in the FDB. It is not while its port is not attached: an address learned elsewhere may
    /// be there instead.
    pub(super) fn is_in_force(&self, fixed: &Entry) -> bool {
        self.shared.fdb().lookup(fixed.key).is_some_and(|hit| hit.kind == fixed.kind && hit.port == fixed.port)
    }

    /// Takes a static entry out of the FDB, if it is in it.
    pub(super) fn remove_static(&self, entry: &StaticEntry) {
        let Some(domain) = self.domains.get(&entry.bridge) else { return };
        let key = MacKey::new(domain, entry.mac);
        let fixed = |kind| matches!(kind, Kind::Static | Kind::Sticky);
        if self.shared.fdb().lookup(key).is_some_and(|hit| fixed(hit.kind)) {
            self.shared.fdb().remove(key);
        }
    }

    fn statics_of(&self, id: PortId) -> impl Iterator<Item = &StaticEntry> {
        let interface = self.ports.get(id).map_or("", |slot| slot.interface.as_str());
        self.config.fdb.iter().filter(move |entry| entry.port == interface)
    }

    fn insert_statics(&self, id: PortId) {
        for entry in self.statics_of(id) {
            if let Err(error) = self.insert_static(entry) {
                tracing::warn!("port {}: static entry not in force: {error}", entry.port);
            }
        }
    }

    fn remove_statics(&self, id: PortId) {
        // A port out of the configuration took its entries with it; see `remove_port`.
        self.statics_of(id).for_each(|entry| self.remove_static(entry));
    }
}
