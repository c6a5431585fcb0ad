//! Many addresses in one load: which address a frame carries follows from its sequence number alone, so that every
//! generator sends the same frames, and none needs a table, whose cache lines a device under test could use. An
//! address is two fixed bytes and 32 bits of a mixing function, which looks random and never repeats. Pure.

use serde::Serialize;

/// First byte of every address: unicast, locally administered.
const FIRST: u8 = 0x02;
/// Multipliers and shifts of [`mix`], those of MurmurHash3's last step.
pub(super) const MULTIPLIERS: [u32; 2] = [0x85eb_ca6b, 0xc2b2_ae35];
pub(super) const SHIFTS: [u32; 3] = [16, 13, 16];
/// Where the group stands in the number that an address is mixed from.
pub(super) const GROUP_SHIFT: u32 = 24;
/// Most addresses of a group.
pub const COUNT_MAX: u32 = 1 << GROUP_SHIFT;

/// A set of addresses: the first `count` of a group. No two groups, and no two numbers of one, share an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Group {
    /// Which group.
    pub id: u8,
    /// Its size, 1 to [`COUNT_MAX`].
    pub count: u32,
}

/// Which address a frame carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that the frame was built with.
    #[default]
    Built,
    /// The address with the frame's sequence number, beginning anew after the last.
    InTurn(Group),
    /// One at random. Source and destination of groups of one size have the same number: every source has one partner.
    Random(Group),
}

/// The addresses of a load's frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Macs {
    /// Destinations.
    pub destination: Choice,
    /// Sources.
    pub source: Choice,
}

impl Group {
    /// The address of a number below `count`.
    pub fn address(self, number: u32) -> [u8; 6] {
        let [a, b, c, d] = mix(number ^ u32::from(self.id) << GROUP_SHIFT).to_ne_bytes();
        [FIRST, self.id, a, b, c, d]
    }
}

impl Choice {
    /// The address of the frame with this sequence number; `None` for what it was built with.
    pub fn of(self, sequence: u32) -> Option<[u8; 6]> {
        match self {
            Choice::Built => None,
            Choice::InTurn(group) => Some(group.address(sequence % group.count.max(1))),
            Choice::Random(group) => {
                Some(group.address(((u64::from(mix(sequence)) * u64::from(group.count)) >> 32) as u32))
            }
        }
    }
}

impl Macs {
    /// Whether all frames keep what they were built with.
    pub fn built(self) -> bool {
        self == Macs::default()
    }

    /// Writes the addresses of the frame with this sequence number.
    #[inline]
    pub fn write(self, frame: &mut [u8], sequence: u32) {
        for (at, choice) in [(0, self.destination), (6, self.source)] {
            if let (Some(address), Some(place)) = (choice.of(sequence), frame.get_mut(at..at + 6)) {
                place.copy_from_slice(&address);
            }
        }
    }
}

/// A bijection of 32-bit numbers whose results look random.
#[inline]
pub(super) fn mix(number: u32) -> u32 {
    let [first, second] = MULTIPLIERS;
    let [before, between, after] = SHIFTS;
    let mixed = (number ^ number >> before).wrapping_mul(first);
    let mixed = (mixed ^ mixed >> between).wrapping_mul(second);
    mixed ^ mixed >> after
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_address_occurs_twice() {
        let groups = [Group { id: 1, count: 50_000 }, Group { id: 2, count: 50_000 }];
        let all: HashSet<[u8; 6]> = groups.iter().flat_map(|g| (0..g.count).map(|n| g.address(n))).collect();
        assert_eq!(all.len(), 100_000);
        assert!(all.iter().all(|mac| mac[0] & 3 == 2), "unicast and local");
    }

    #[test]
    fn in_turn_every_address_comes_once_a_round() {
        let group = Group { id: 3, count: 1000 };
        let round =
            |from: u32| (from..from + 1000).map(|n| Choice::InTurn(group).of(n).unwrap()).collect::<HashSet<_>>();
        assert_eq!((round(0).len(), round(4000)), (1000, round(0)));
    }

    #[test]
    fn at_random_all_addresses_come_about_as_often() {
        let mut times = std::collections::HashMap::new();
        for sequence in 0..100_000 {
            *times.entry(Choice::Random(Group { id: 3, count: 100 }).of(sequence)).or_insert(0) += 1;
        }
        assert_eq!(times.len(), 100);
        assert!(times.values().all(|n| (800..1200).contains(n)), "{times:?}");
        // One address is always the same one.
        let one = Choice::Random(Group { id: 3, count: 1 });
        assert!((0..1000).all(|n| one.of(n) == one.of(0)));
    }

    #[test]
    fn only_what_was_chosen_is_written() {
        let (from, to) = (Group { id: 1, count: 10 }, Group { id: 2, count: 10 });
        let mut frame = [0xee; 14];
        Macs::default().write(&mut frame, 4);
        assert_eq!(frame, [0xee; 14]);
        Macs { destination: Choice::InTurn(to), source: Choice::Built }.write(&mut frame, 14);
        assert_eq!((&frame[..6], &frame[6..]), (&to.address(4)[..], &[0xee; 8][..]));
        Macs { destination: Choice::Random(to), source: Choice::Random(from) }.write(&mut frame, 5);
        let number = (0..10).find(|n| frame[..6] == to.address(*n)).unwrap();
        assert_eq!((&frame[6..12], &frame[12..]), (&from.address(number)[..], &[0xee; 2][..]));
    }
}
