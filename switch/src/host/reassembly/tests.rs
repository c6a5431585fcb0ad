//! Datagrams against their fragments in any order, and what a flood of fragments can take.

use proptest::prelude::*;

use super::*;
use crate::path::transport::UDP;

const SECOND: u64 = 1_000_000_000;

fn home() -> DomainId {
    DomainId::new(1).unwrap()
}

fn port(index: usize) -> PortId {
    PortId::new(index).unwrap()
}

/// A packet of this version from host `source` with `payload`.
fn packet(is_v4: bool, source: u32, payload: &[u8]) -> Vec<u8> {
    if is_v4 {
        return icmp::envelope(source.into(), [10, 0, 0, 1].into(), 0, 7, UDP, payload);
    }
    let source = Ipv6Addr::from(0xfd00 << 112 | u128::from(source));
    icmp6::envelope(source, "fd00::1".parse().unwrap(), 64, UDP, payload.to_vec())
}

/// The octets `from..to` of its payload as a fragment; `to` behind the end makes it the last.
fn piece(packet: &[u8], identification: u16, from: usize, to: usize) -> Vec<u8> {
    let is_v4 = packet[0] >> 4 == 4;
    let (header, payload) = packet.split_at(if is_v4 { 20 } else { 40 });
    let (more, to) = (to < payload.len(), to.min(payload.len()));
    let part = &payload[from..to];
    let mut piece = header.to_vec();
    if is_v4 {
        piece[2..4].copy_from_slice(&(20 + part.len() as u16).to_be_bytes());
        piece[4..6].copy_from_slice(&identification.to_be_bytes());
        piece[6..8].copy_from_slice(&((from as u16 / 8) | if more { MORE_V4 } else { 0 }).to_be_bytes());
    } else {
        piece[4..6].copy_from_slice(&(8 + part.len() as u16).to_be_bytes());
        let next = std::mem::replace(&mut piece[6], FRAGMENT);
        piece.extend([next, 0]);
        piece.extend((from as u16 | u16::from(more)).to_be_bytes());
        piece.extend(u32::from(identification).to_be_bytes());
    }
    [&piece[..], part].concat()
}

fn new() -> Reassembly {
    Reassembly::new(ReassemblySettings::default())
}

impl Reassembly {
    /// Takes a packet that must be a fragment.
    fn give(&mut self, packet: &[u8], port: PortId, now_ns: u64) -> Option<Vec<u8>> {
        let Reading::Fragment(fragment) = Reading::of(packet, VrfId::DEFAULT, home()) else {
            panic!("no fragment: {packet:02x?}");
        };
        let whole = self.take(&fragment, port, home(), now_ns);
        self.check();
        whole
    }

    /// Everything is within limits, and counted as it is.
    fn check(&self) {
        assert_eq!(self.cost, self.all.values().map(Datagram::cost).sum::<usize>());
        assert!(self.cost <= self.settings.octets_max, "{} octets", self.cost);
        assert!(self.all.len() <= self.settings.datagrams_max && self.due.len() == self.all.len());
        for name in self.all.keys() {
            let of_source = self.all.keys().filter(|other| other.source == name.source).count();
            assert!(of_source <= self.settings.source_datagrams_max, "{of_source} of {}", name.source);
        }
    }

    fn lost(&mut self) -> u64 {
        self.take_lost().iter().map(|(_, count)| count).sum()
    }
}

#[test]
fn a_packet_is_put_together_and_only_from_its_own_fragments() {
    let mut all = new();
    for is_v4 in [true, false] {
        let [a, b] = [1, 2].map(|source| packet(is_v4, source, &[source as u8; 3_000]));
        assert_eq!(all.give(&piece(&a, 7, 0, 1_480), port(0), 0), None);
        assert_eq!(all.give(&piece(&b, 7, 1_480, 4_000), port(0), 0), None, "another source");
        assert_eq!(all.give(&piece(&a, 8, 1_480, 4_000), port(0), 0), None, "another datagram");
        assert_eq!(all.give(&piece(&a, 7, 1_480, 4_000), port(0), 0), Some(a));
        assert_eq!(all.give(&piece(&b, 7, 0, 1_480), port(0), 0), Some(b));
    }
    // What is left: the fragments without a beginning.
    assert_eq!((all.all.len(), all.lost()), (2, 0));
}

#[test]
fn protocols_vrfs_and_links_are_kept_apart() {
    let mut all = new();
    let mut take = |bytes: &[u8], vrf: usize, domain: usize| {
        let (vrf, domain) = (VrfId::new(vrf).unwrap(), DomainId::new(domain).unwrap());
        let Reading::Fragment(fragment) = Reading::of(bytes, vrf, domain) else { panic!("no fragment") };
        all.take(&fragment, port(0), domain, 0)
    };
    let v4 = packet(true, 1, &[1; 100]);
    let mut tcp = piece(&v4, 7, 48, 999);
    tcp[9] = 6;
    assert_eq!(take(&piece(&v4, 7, 0, 48), 0, 1), None);
    assert_eq!(take(&tcp, 0, 1), None);
    assert_eq!(take(&piece(&v4, 7, 48, 999), 1, 1), None);
    assert_eq!(take(&piece(&v4, 7, 48, 999), 0, 2), Some(v4), "another interface of the same VRF");
    let mut link = packet(false, 1, &[1; 100]);
    link[8..10].copy_from_slice(&[0xfe, 0x80]);
    assert_eq!(take(&piece(&link, 7, 0, 48), 0, 1), None);
    assert_eq!(take(&piece(&link, 7, 48, 999), 0, 2), None);
    assert_eq!(take(&piece(&link, 7, 48, 999), 0, 1), Some(link));
}

#[test]
fn headers_are_those_of_the_first_fragment() {
    let mut all = new();
    let whole = packet(false, 1, &[9; 200]);
    // A hop-by-hop header before the fragment header.
    let with_option = |mut piece: Vec<u8>| {
        let next = std::mem::replace(&mut piece[6], HOP_BY_HOP);
        piece.splice(40..40, [next, 0, 1, 4, 0, 0, 0, 0]);
        piece[5] += 8;
        piece
    };
    // The second one says another next header, which does not count.
    let mut second = piece(&whole, 7, 96, 999);
    second[40] = 6;
    assert_eq!(all.give(&second, port(0), 0), None);
    let found = all.give(&with_option(piece(&whole, 7, 0, 96)), port(0), 0).unwrap();
    assert_eq!((found[6], found[4..6].to_vec(), &found[40..48]), (0, vec![0, 208], &[UDP, 0, 1, 4, 0, 0, 0, 0][..]));
    assert_eq!(found[48..], whole[40..]);
}

#[test]
fn what_cannot_be_a_fragment_is_refused() {
    let is_broken = |packet: &[u8]| match Reading::of(packet, VrfId::DEFAULT, home()) {
        Reading::Broken(pointer) => Some(pointer),
        _ => None,
    };
    for (is_v4, [odd, beyond]) in [(true, [None, None]), (false, [Some(4), Some(42)])] {
        let whole = packet(is_v4, 1, &[1; 100]);
        let mut uneven = piece(&whole, 7, 0, 48);
        uneven.pop();
        uneven[if is_v4 { 3 } else { 5 }] -= 1;
        assert_eq!(is_broken(&uneven), Some(odd));
        let mut late = piece(&whole, 7, 48, 999);
        let at = if is_v4 { 6 } else { 42 };
        late[at..at + 2].copy_from_slice(&if is_v4 { OFFSET_V4 } else { OFFSET_V6 }.to_be_bytes());
        assert_eq!(is_broken(&late), Some(beyond));
        assert_eq!(is_broken(&piece(&whole, 7, 100, 999)), Some(None), "empty");
        assert_eq!(is_broken(&whole), None);
    }
}

#[test]
fn a_flood_of_first_fragments_stays_within_bounds_and_pushes_out_its_own() {
    for is_v4 in [true, false] {
        let mut all = new();
        let slow = packet(is_v4, 0xffff_0001, &[1; 4_000]);
        assert_eq!(all.give(&piece(&slow, 7, 0, 1_480), port(1), 0), None);
        let flood = packet(is_v4, 0, &[2; 4_000]);
        for number in 0..2_000u32 {
            let mut fragment = piece(&flood, number as u16, 0, 1_440);
            // Many sources behind one port.
            let source = if is_v4 { 12..16 } else { 20..24 };
            fragment[source].copy_from_slice(&(number + 1).to_be_bytes());
            assert_eq!(all.give(&fragment, port(0), u64::from(number)), None);
        }
        assert_eq!(all.all.len(), 256);
        assert!(all.lost() >= 2_000 - 256);
        assert_eq!(all.give(&piece(&slow, 7, 1_480, 9_999), port(1), 0), Some(slow), "another port's was kept");
    }
}

#[test]
fn one_source_has_so_many_datagrams_and_loses_its_oldest() {
    let mut all = new();
    let [one, other] = [1, 2].map(|source| packet(true, source, &[1; 4_000]));
    assert_eq!(all.give(&piece(&other, 7, 0, 1_480), port(0), 0), None);
    for number in 0..20 {
        assert_eq!(all.give(&piece(&one, number, 0, 1_480), port(0), 0), None);
    }
    assert_eq!((all.all.len(), all.lost()), (17, 4));
    for (number, is_kept) in [(0, false), (19, true), (18, true)] {
        let rest = all.give(&piece(&one, number, 1_480, 9_999), port(0), 0);
        assert_eq!(rest.is_some(), is_kept, "{number}");
    }
    assert!(all.give(&piece(&other, 7, 1_480, 9_999), port(0), 0).is_some());
}

#[test]
fn long_datagrams_and_tiny_fragments_stay_within_octets() {
    let settings = ReassemblySettings { octets_max: 1 << 20, ..ReassemblySettings::default() };
    let mut all = Reassembly::new(settings);
    for number in 0..100u32 {
        let long = packet(true, number, &vec![3; 65_000]);
        assert_eq!(all.give(&piece(&long, 1, 8, 64_000), port(0), 0), None);
    }
    assert!(all.all.len() < 17, "{}", all.all.len());
    let whole = packet(true, 1_000, &vec![4; 65_000]);
    for from in (8..65_000).step_by(64) {
        assert_eq!(all.give(&piece(&whole, 1, from, from + 8), port(0), 0), None);
    }
    // One that is more than may be kept pushes itself out.
    let mut small = Reassembly::new(ReassemblySettings { octets_max: 10_000, ..settings });
    assert_eq!(small.give(&piece(&whole, 1, 0, 32_000), port(0), 0), None);
    assert_eq!((small.all.len(), small.cost, small.lost()), (0, 0, 1));
}

#[test]
fn time_is_up_once_and_is_told_where_the_beginning_came() {
    let mut all = new();
    let [v4, v6] = [true, false].map(|is_v4| packet(is_v4, 1, &[1; 4_000]));
    let first = piece(&v4, 1, 0, 1_480);
    assert_eq!(all.give(&first, port(0), SECOND), None);
    // A later fragment does not put it off.
    assert_eq!(all.give(&piece(&v4, 1, 2_960, 9_999), port(0), 20 * SECOND), None);
    assert_eq!(all.give(&piece(&v6, 1, 1_480, 2_960), port(0), SECOND), None);
    assert_eq!(all.next_due(), Some(31 * SECOND));
    assert!(all.expire(31 * SECOND - 1).is_none());
    let expired = all.expire(31 * SECOND).unwrap();
    assert_eq!((expired.came.domain, expired.first), (home(), Some(first)));
    assert!(all.expire(31 * SECOND).is_none());
    assert_eq!(all.next_due(), Some(61 * SECOND));
    assert_eq!(all.expire(99 * SECOND).unwrap().first, None);
    assert_eq!((all.next_due(), all.cost, all.lost()), (None, 0, 3));
}

#[test]
fn an_overlap_is_remembered_until_the_time_is_up() {
    for is_v4 in [true, false] {
        let whole = packet(is_v4, 1, &[1; 4_000]);
        let shorter = packet(is_v4, 1, &[1; 3_000]);
        let bad = [
            [piece(&whole, 1, 0, 1_480), piece(&whole, 1, 1_472, 2_960)],
            [piece(&whole, 1, 1_480, 2_960), piece(&whole, 1, 1_472, 1_488)],
            // Two ends, and more behind the end.
            [piece(&whole, 1, 2_960, 9_999), piece(&shorter, 1, 1_480, 9_999)],
            [piece(&shorter, 1, 1_480, 9_999), piece(&whole, 1, 2_960, 9_999)],
            [piece(&shorter, 1, 1_480, 9_999), piece(&whole, 1, 3_000, 3_008)],
            [piece(&whole, 1, 3_000, 3_008), piece(&shorter, 1, 1_480, 9_999)],
            // The same place, but not the same.
            [piece(&whole, 1, 0, 1_480), piece(&packet(is_v4, 1, &[2; 4_000]), 1, 0, 1_480)],
        ];
        for (number, [first, second]) in bad.iter().enumerate() {
            let mut all = new();
            assert_eq!((all.give(first, port(0), 0), all.give(second, port(0), 0)), (None, None));
            assert_eq!((all.all.len(), all.lost()), (1, 2), "case {number}");
            for from in [0, 1_480, 2_960] {
                assert_eq!(all.give(&piece(&whole, 1, from, from + 1_480), port(0), SECOND), None);
            }
            assert_eq!((all.lost(), all.cost), (3, DATAGRAM_COST));
            assert_eq!(all.expire(60 * SECOND).unwrap().first, None);
        }
    }
}

proptest! {
    #[test]
    fn any_cut_in_any_order_with_repetitions_gives_the_packet_once(
        is_v4: bool,
        payload in proptest::collection::vec(any::<u8>(), 17..2_000),
        cuts in proptest::collection::btree_set(1usize..250, 1..20),
        order in any::<Vec<prop::sample::Index>>(),
    ) {
        let whole = packet(is_v4, 1, &payload);
        let mut ends: Vec<usize> = cuts.into_iter().map(|cut| cut * 8).filter(|cut| *cut < payload.len()).collect();
        ends.push(payload.len());
        let mut from = 0;
        let pieces: Vec<Vec<u8>> = ends
            .iter()
            .map(|end| piece(&whole, 1, std::mem::replace(&mut from, *end), *end))
            .collect();
        prop_assume!(pieces.len() > 1);
        let mut all = new();
        let mut left: Vec<usize> = (0..pieces.len()).collect();
        for index in order {
            // Never the last that is missing: it would be put together, and begin anew.
            let index = index.index(pieces.len());
            if left != [index] {
                prop_assert_eq!(all.give(&pieces[index], port(0), 0), None);
                left.retain(|other| *other != index);
            }
        }
        while let Some(index) = left.pop() {
            let found = all.give(&pieces[index], port(0), 0);
            let expected = left.is_empty().then(|| {
                let mut whole = whole.clone();
                if is_v4 {
                    whole[4..6].copy_from_slice(&1u16.to_be_bytes());
                    whole[10..12].fill(0);
                    let sum = !checksum::sum(&whole[..20]);
                    whole[10..12].copy_from_slice(&sum.to_be_bytes());
                }
                whole
            });
            prop_assert_eq!(found, expected);
        }
        prop_assert_eq!((all.all.len(), all.cost, all.lost()), (0, 0, 0));
    }

    #[test]
    fn any_octets_are_read_without_harm(mut octets in proptest::collection::vec(any::<u8>(), 0..200), is_v4: bool) {
        if let Some(first) = octets.first_mut() {
            *first = if is_v4 { 0x40 | (*first & 0xf) } else { 0x60 };
        }
        if !is_v4 && octets.len() > 40 {
            octets[4..6].fill(0);
            octets[5] = octets.len() as u8 - 40;
            octets[6] = [FRAGMENT, HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS][usize::from(octets[7] % 4)];
        }
        if let Reading::Fragment(fragment) = Reading::of(&octets, VrfId::DEFAULT, home()) {
            let mut all = new();
            if fragment.is_atomic() {
                prop_assert!(fragment.alone().is_some());
            } else {
                all.take(&fragment, port(0), home(), 0);
                all.check();
            }
        }
    }
}
