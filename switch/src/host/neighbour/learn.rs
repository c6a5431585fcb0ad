//! What messages say of a neighbour (RFC 826, RFC 4861 7.2.3 and 7.2.5).

use super::{Cache, MS, State};
use crate::ids::Mac;
use crate::table::neighbour::{NeighbourKey, NeighbourSlot};

/// How a neighbour's MAC address became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::host) enum News {
    /// The neighbour told of itself while asking something. With `create`, one that was not known is from now on.
    Told { create: bool },
    /// An ARP reply. It confirms the neighbour if that was asked a short time ago.
    Reply { create: bool },
    /// A neighbour advertisement with these flags.
    Advertised { solicited: bool, overrides: bool, router: bool },
}

impl Cache {
    /// Takes in what was heard of a neighbour. `mac` is `None` for an advertisement without one.
    pub fn learn(&mut self, key: NeighbourKey, mac: Option<Mac>, news: News, now_ns: u64) {
        let known = self.slot(key);
        let create = matches!(news, News::Told { create: true } | News::Reply { create: true });
        let slot = match (known, mac) {
            (Some(slot), _) => slot,
            (None, Some(_)) if create => match self.admit(key, now_ns) {
                Some(slot) => slot,
                None => return,
            },
            _ => return,
        };
        let Some((state, old, asked_ns)) = self.entry(slot).map(|e| (e.state, e.mac, e.asked_ns)) else { return };
        if state == State::Permanent {
            return;
        }
        match news {
            News::Told { .. } => self.told(slot, mac, now_ns),
            News::Reply { .. } => {
                let patience_ns = 3 * self.settings.retrans_ms * MS;
                let asked = asked_ns.is_some_and(|asked_ns| now_ns.saturating_sub(asked_ns) <= patience_ns);
                if asked { self.confirm(slot, mac, now_ns) } else { self.told(slot, mac, now_ns) }
            }
            News::Advertised { solicited, overrides, router } => {
                // Without an address there is nothing to learn for one that has none (7.2.5).
                if old.is_none() && mac.is_none() {
                    return;
                }
                let other = old.is_some() && mac.is_some() && mac != old;
                if other && !overrides {
                    // Two claim the address, and this one does not insist: look before the next use.
                    if state == State::Reachable {
                        self.stale(slot, now_ns);
                    }
                    return;
                }
                self.update(slot, |entry| entry.router = router);
                if solicited { self.confirm(slot, mac, now_ns) } else { self.told(slot, mac, now_ns) }
            }
        }
    }

    /// The neighbour answered.
    fn confirm(&mut self, slot: NeighbourSlot, mac: Option<Mac>, now_ns: u64) {
        let due_ns = now_ns + self.random.around(self.settings.reachable_ms) * MS;
        self.count_move(slot, mac);
        self.update(slot, |entry| {
            entry.mac = mac.or(entry.mac);
            entry.proved = true;
            entry.become_(State::Reachable, now_ns, Some(due_ns));
        });
        self.send_waiting(slot);
    }

    /// Its MAC address is this, but whether it hears us is not known.
    fn told(&mut self, slot: NeighbourSlot, mac: Option<Mac>, now_ns: u64) {
        let old = self.entry(slot).and_then(|entry| entry.mac);
        if mac.is_none() || mac == old {
            return;
        }
        self.count_move(slot, mac);
        self.update(slot, |entry| entry.mac = mac);
        self.stale(slot, now_ns);
        if self.send_waiting(slot) {
            self.used(slot, now_ns);
        }
    }

    fn stale(&mut self, slot: NeighbourSlot, now_ns: u64) {
        let due_ns = now_ns + self.settings.stale_ms * MS;
        self.update(slot, |entry| entry.become_(State::Stale, now_ns, Some(due_ns)));
    }

    fn count_move(&mut self, slot: NeighbourSlot, mac: Option<Mac>) {
        let old = self.entry(slot).and_then(|entry| entry.mac);
        self.counters.moved += u64::from(old.is_some() && mac.is_some() && old != mac);
    }
}
