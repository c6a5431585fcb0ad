//! How many pool frames wait for MAC addresses: a part of the pool at most, and of what is left of that a port may have
//! as much as is free. So one port's scan, or answers to senders that it invented, leave room for the others.

use std::collections::{HashMap, VecDeque};

use super::Waiting;
use crate::ids::PortId;

/// What waits, in pool frames.
pub(super) struct Held {
    pub frames: usize,
    /// Most of them.
    pub most: usize,
    /// Those in packets of each port; none of a port is not listed.
    by_port: HashMap<PortId, usize>,
}

impl Held {
    pub fn new(most: usize) -> Held {
        Held { frames: 0, most, by_port: HashMap::new() }
    }

    /// True if a packet may wait, where `leaving` goes for it.
    pub fn has_room(&self, waiting: &Waiting, leaving: Option<&Waiting>) -> bool {
        let freed = leaving.map_or(0, Waiting::frames);
        let own = leaving.filter(|leaving| leaving.port == waiting.port).map_or(0, Waiting::frames);
        let of_port = self.by_port.get(&waiting.port).copied().unwrap_or(0).saturating_sub(own);
        let room = (self.most + freed).saturating_sub(self.frames);
        waiting.frames() <= room && of_port < room
    }

    /// Counts packets that wait from now on.
    pub fn note(&mut self, packets: &VecDeque<Waiting>) {
        for packet in packets {
            self.frames += packet.frames();
            *self.by_port.entry(packet.port).or_default() += packet.frames();
        }
    }

    /// Takes [`Held::note`] back.
    pub fn forget(&mut self, packets: &VecDeque<Waiting>) {
        for packet in packets {
            self.frames -= packet.frames();
            if let Some(count) = self.by_port.get_mut(&packet.port) {
                *count -= packet.frames();
                if *count == 0 {
                    self.by_port.remove(&packet.port);
                }
            }
        }
    }
}
