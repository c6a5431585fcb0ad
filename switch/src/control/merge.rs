//! Containers that receive in batches: asking for it when their link is up, and again when the kernel forgot.
//!
//! At most one is asked per turn of the control thread, since it takes milliseconds: a thousand containers that start
//! at once, or one whose link flaps without end, must not keep requests waiting. Control thread.

use std::time::{Duration, Instant};

use super::Control;
use super::ports::{Attached, Life};

/// Shortest time between two attempts at one port.
const PAUSE: Duration = Duration::from_secs(1);
/// Attempts before it is left, until its link changes.
const TRIES: u8 = 3;
/// How often it is looked whether all of them still do: a container may set GRO itself.
const CHECK: Duration = Duration::from_secs(10);

/// Whether the container behind a port receives in batches.
#[derive(Default)]
pub(super) struct Merge {
    state: State,
    /// When to ask next.
    due: Option<Instant>,
    asked: Option<Instant>,
    tries: u8,
}

#[derive(Default)]
enum State {
    /// It does not have to, or cannot yet.
    #[default]
    NotAsked,
    Yes,
    /// Somebody turned GRO off there.
    Declined,
    /// Why not.
    No(String),
}

impl Merge {
    /// True if it does.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Yes)
    }

    /// What the operator should know.
    pub fn note(&self) -> Option<String> {
        match &self.state {
            State::No(why) => Some(format!("its container receives frame by frame ({why})")),
            State::Declined => Some("its container receives frame by frame (GRO was turned off there)".to_string()),
            State::NotAsked | State::Yes => None,
        }
    }

    /// The link changed, or is new; `holds` if nothing needs to be done.
    pub fn look(&mut self, up: bool, holds: bool, now: Instant) {
        if !up {
            (self.state, self.due) = (State::NotAsked, None);
        } else if !(holds && self.is_done()) {
            self.tries = TRIES;
            self.due = Some(self.asked.map_or(now, |asked| now.max(asked + PAUSE)));
        }
    }
}

impl Control {
    /// Asks the next container whose time has come. Answers when to look again; `None` while there is nothing to ask.
    pub(super) fn merge(&mut self, now: Instant) -> Option<Instant> {
        if !self.merges {
            return None;
        }
        if now >= self.merge_check {
            self.merge_check = now + CHECK;
            // Whoever declined may have changed his mind.
            let asked = |port: &&mut Attached| matches!(port.merge.state, State::Yes | State::Declined);
            attached(&mut self.ports).filter(asked).for_each(|port| {
                port.merge.look(true, port.attachment.merges_at_container(), now);
            });
        }
        let due = attached(&mut self.ports).find(|port| port.merge.due.is_some_and(|due| now >= due));
        // The far end of a port may be a port to come, which receives by itself.
        if let Some(port) = due.filter(|_| !self.look) {
            ask(port, &self.config.switch.workers, now);
        }
        let next = attached(&mut self.ports).filter_map(|port| port.merge.due).min();
        Some(next.map_or(self.merge_check, |due| due.min(self.merge_check)))
    }

    /// True while a container waits for being asked for the first time.
    pub(super) fn owes_merges(&self) -> bool {
        let mut attached = self.ports.all().filter_map(|slot| slot.attached());
        attached.any(|port| port.merge.due.is_some() && port.merge.asked.is_none())
    }
}

fn attached(ports: &mut super::ports::PortTable) -> impl Iterator<Item = &mut Attached> {
    ports.all_mut().filter_map(|slot| match &mut slot.life {
        Life::Attached(attached) => Some(&mut **attached),
        _ => None,
    })
}

/// Each queue is to be received on the core of the worker that owns it.
fn ask(port: &mut Attached, workers: &[usize], now: Instant) {
    let cores: Vec<usize> = port.owners.iter().filter_map(|&owner| workers.get(owner).copied()).collect();
    port.merge.asked = Some(now);
    port.merge.due = None;
    match port.attachment.merge_at_container(&cores) {
        Ok(true) => port.merge.state = State::Yes,
        Ok(false) => port.merge.state = State::Declined,
        Err(error) => {
            port.merge.tries = port.merge.tries.saturating_sub(1);
            port.merge.due = (port.merge.tries > 0).then(|| now + PAUSE);
            port.merge.state = State::No(error.to_string());
            if port.merge.due.is_none()
                && let Some(note) = port.merge.note()
            {
                tracing::info!("port {}: {note}", port.link.name);
            }
        }
    }
}
