//! Random events: no frame is lost, no limit exceeded, and workers always see what the host knows.

use proptest::prelude::*;

use super::frames::{Nd, arp, packet, packet6};
use super::*;

#[derive(Clone, Debug)]
enum Event {
    Arp { domain: usize, reply: bool, suppress: bool, from: u8, sender: u8, target: u8 },
    Nd { domain: usize, kind: u8, number: u8, source: u8, target: u8, flags: u8, suppress: bool },
    Resolve { domain: usize, target: u8, v6: bool },
    Junk { domain: usize, bytes: Vec<u8>, why: u8 },
    Use(u8),
    Pass(u64),
    Configure(u8),
    Hold { domain: usize, target: u8 },
    LetGo(usize),
    Add { domain: usize, target: u8, number: u8 },
    Remove { domain: usize, target: u8 },
    Flush(Option<usize>),
}

fn event() -> impl Strategy<Value = Event> {
    let domain = || 1usize..4;
    let last = || 0u8..12;
    prop_oneof![
        6 => (domain(), any::<bool>(), any::<bool>(), 0u8..6, last(), last()).prop_map(
            |(domain, reply, suppress, from, sender, target)| {
                Event::Arp { domain, reply, suppress, from, sender, target }
            }
        ),
        6 => (domain(), 133u8..137, 0u8..6, last(), last(), any::<u8>(), any::<bool>()).prop_map(
            |(domain, kind, number, source, target, flags, suppress)| {
                Event::Nd { domain, kind, number, source, target, flags, suppress }
            }
        ),
        8 => (domain(), last(), any::<bool>()).prop_map(|(domain, target, v6)| Event::Resolve { domain, target, v6 }),
        2 => (domain(), proptest::collection::vec(any::<u8>(), 14..80), 0u8..6)
            .prop_map(|(domain, bytes, why)| Event::Junk { domain, bytes, why }),
        4 => any::<u8>().prop_map(Event::Use),
        6 => prop_oneof![0u64..100, 500u64..6_000, 10_000u64..700_000].prop_map(Event::Pass),
        1 => (0u8..8).prop_map(Event::Configure),
        1 => (domain(), last()).prop_map(|(domain, target)| Event::Hold { domain, target }),
        1 => (0usize..8).prop_map(Event::LetGo),
        1 => (domain(), last(), 0u8..6).prop_map(|(domain, target, number)| Event::Add { domain, target, number }),
        1 => (domain(), last()).prop_map(|(domain, target)| Event::Remove { domain, target }),
        1 => proptest::option::of(domain()).prop_map(Event::Flush),
    ]
}

/// Small ones, which are reached.
fn limits() -> HostSettings {
    HostSettings {
        neighbours_max: 14,
        interface_neighbours_max: 8,
        unresolved_max: 6,
        interface_unresolved_max: 4,
        waiting_max: 2,
        waiting_share: 64,
        ..HostSettings::default()
    }
}

const FRAMES: u32 = 512;

struct Run {
    bed: Bed,
    held: Vec<NeighbourSlot>,
    /// Neighbours that the operator asked for, who is not bound by limits.
    wanted: usize,
}

impl Run {
    fn apply(&mut self, event: Event) {
        let bed = &mut self.bed;
        let address = |domain: usize, last: u8| [10, 0, domain as u8, last];
        let text6 = |domain: usize, last: u8| match last {
            0 => "::".to_string(),
            11 => "ff02::1".to_string(),
            last => format!("2001:db8:0:{domain}::{last:x}"),
        };
        match event {
            Event::Arp { domain, reply, suppress, from, sender, target } => {
                let (to, operation) = if reply { (OWN, 2) } else { (Mac::BROADCAST, 1) };
                let sender = (mac(from), if sender == 0 { [0; 4] } else { address(domain, sender) });
                let why = if suppress { Why::Suppress } else { Why::Heard };
                bed.punt(domain, why, &arp(to, operation, sender, (Mac::ZERO, address(domain, target))));
            }
            Event::Nd { domain, kind, number, source, target, flags, suppress } => {
                let (source, target) = (text6(domain, source), text6(domain, target));
                let mut nd = match kind {
                    133 => Nd::router_solicitation(number, &source),
                    135 => Nd::solicitation(number, &source, &target),
                    _ => Nd::advertisement(number, &target, "fe80::ff:fe00:fe", flags),
                };
                if flags & 1 != 0 {
                    nd.body.truncate(16);
                }
                bed.punt(domain, if suppress { Why::Suppress } else { Why::Local }, &nd.frame());
            }
            Event::Resolve { domain, target, v6: false } => {
                let bytes = packet([10, 0, 9, 9], address(domain, target), 30);
                bed.punt(domain % 3 + 1, Why::Resolve(key(domain, &format!("10.0.{domain}.{target}"))), &bytes);
            }
            Event::Resolve { domain, target, v6: true } => {
                let target = format!("2001:db8:0:{domain}::{:x}", target.max(1));
                let bytes = packet6(target.parse().unwrap());
                bed.punt(domain % 3 + 1, Why::Resolve(key(domain, &target)), &bytes);
            }
            event => self.administer(event),
        }
    }

    /// Everything but packets that somebody sends.
    fn administer(&mut self, event: Event) {
        let bed = &mut self.bed;
        match event {
            Event::Junk { domain, bytes, why } => {
                let why = match why {
                    0 if bytes.len() % 2 == 0 => Why::HeardAlone,
                    0 => Why::Heard,
                    1 => Why::Suppress,
                    2 => Why::Local,
                    3 => Why::Complain(crate::path::Complaint::TtlExceeded),
                    4 => Why::Redirect(key(1, "10.0.1.5")),
                    _ => Why::Resolve(key(domain, "10.0.1.5")),
                };
                bed.punt(domain, why, &bytes);
            }
            Event::Use(number) => {
                let rows = bed.host.neighbours(None, usize::MAX);
                let known: Vec<_> = rows.iter().filter(|row| row.mac.is_some()).collect();
                if let Some(row) = known.get(usize::from(number) % known.len().max(1)) {
                    bed.use_it(row.key.domain().index(), &row.key.address().to_string());
                }
            }
            Event::Pass(ms) => bed.pass(ms),
            Event::Configure(which) => {
                let wanted = (1..4).filter(|number| which & 1 << (number - 1) != 0);
                let flags = RouterFlags { suppress: which & 1 != 0, proxy: true, ..FLAGS };
                bed.configure(wanted.map(|number| interface(number, flags)).collect());
            }
            Event::Hold { domain, target } if self.held.len() < 4 => {
                self.wanted += 1;
                self.held.extend(bed.host.hold(key(domain, &format!("10.0.{domain}.{}", target.max(2)))));
            }
            Event::Hold { .. } => {}
            Event::LetGo(at) if at < self.held.len() => bed.host.let_go(self.held.swap_remove(at)),
            Event::LetGo(_) => {}
            Event::Add { domain, target, number } => {
                if bed.host.neighbours_len() < limits().neighbours_max {
                    self.wanted += 1;
                    let _ = bed.host.add_neighbour(key(domain, &format!("10.0.{domain}.{target}")), mac(number));
                }
            }
            Event::Remove { domain, target } => {
                bed.host.remove_neighbour(key(domain, &format!("10.0.{domain}.{target}")));
            }
            Event::Flush(number) => {
                let filter = NeighbourFilter { domain: number.map(super::domain), ..NeighbourFilter::default() };
                bed.host.flush_neighbours(filter);
            }
            Event::Arp { .. } | Event::Nd { .. } | Event::Resolve { .. } => unreachable!("packets"),
        }
    }

    fn check(&mut self) {
        self.bed.host.turn(self.bed.now_ns);
        self.bed.sent();
        let (bed, limits) = (&self.bed, limits());
        bed.check_frames();
        bed.check_table();
        let rows = bed.host.neighbours(None, usize::MAX);
        let is_free = |row: &&NeighbourRow| row.held == 0;
        let unresolved = |number: usize| {
            let here = rows.iter().filter(is_free).filter(move |row| number == 0 || row.key.domain().index() == number);
            here.filter(|row| matches!(row.state, State::Incomplete | State::Failed)).count()
        };
        let extra = self.wanted;
        assert!(rows.len() <= limits.neighbours_max + extra, "{rows:?}");
        assert!((1..4).all(|number| unresolved(number) <= limits.interface_unresolved_max), "{rows:?}");
        assert!(unresolved(0) <= limits.unresolved_max, "{rows:?}");
        assert!(bed.host.frames_held() <= FRAMES as usize / limits.waiting_share);
        for slot in &self.held {
            assert!(bed.shared.router().neighbours.key(*slot).is_some(), "a next hop lost its slot");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn frames_limits_and_the_table_survive_anything(events in proptest::collection::vec(event(), 1..250)) {
        let mut bed = Bed::bare(limits(), FRAMES);
        bed.configure((1..4).map(|number| interface(number, FLAGS)).collect());
        let mut run = Run { bed, held: Vec::new(), wanted: 0 };
        for event in events {
            run.apply(event);
            run.check();
        }
        // Left alone, only what somebody wants is kept.
        let held: Vec<NeighbourSlot> = run.held.drain(..).collect();
        held.into_iter().for_each(|slot| run.bed.host.let_go(slot));
        for _ in 0..4 {
            run.bed.pass(700_000);
            run.bed.sent();
        }
        let rows = run.bed.host.neighbours(None, usize::MAX);
        prop_assert!(rows.iter().all(|row| row.state == State::Permanent), "{:?}", rows);
        prop_assert_eq!(run.bed.host.frames_held(), 0);
    }
}
