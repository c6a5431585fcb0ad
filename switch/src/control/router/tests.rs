//! Next hops and routes against a plain map: who uses what, when numbers are free, and what workers would find.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::interfaces::{Iface, Interfaces};
use super::next_hops::{Origin, Spec, Target};
use super::routes::{Cursor, Routes};
use crate::config::Via;
use crate::host::{Host, HostSettings, SharedHost};
use crate::ids::{DomainId, Mac, VrfId};
use crate::limits::FRAMES_MIN;
use crate::port::SharedPool;
use crate::table::fdb::Fdb;
use crate::table::next_hop::NextHop;
use crate::table::router::{RouterFlags, RouterView};
use crate::table::snapshot::Snapshot;
use crate::worker::Shared;

/// Routes without a control thread around them.
struct Rig {
    shared: Arc<Shared>,
    host: SharedHost,
    routes: Routes,
    generation: u64,
}

fn iface(number: usize, up: bool) -> Iface {
    let flags = RouterFlags { proxy: false, suppress: false, dhcp: false, redirects: true, clamp_mss: false };
    Iface {
        name: format!("bridge{number}").into(),
        domain: DomainId::new(number + 1).unwrap(),
        vrf: VrfId::DEFAULT,
        mac: Mac::from_bits(0x0200_0000_0000 | number as u64),
        mtu: 1500,
        addresses: vec![format!("10.{number}.0.1/24").parse().unwrap()],
        flags,
        dhcp: None,
        ra: None,
        up,
    }
}

impl Rig {
    fn new() -> Rig {
        let pool = SharedPool::heap(FRAMES_MIN);
        let shared = Shared::new(1, pool, Arc::new(Fdb::new(1, 1))).unwrap();
        let host: SharedHost = Arc::new(Mutex::new(Host::new(Arc::clone(&shared), HostSettings::default())));
        let routes = Routes::new(&shared, &host);
        Rig { shared, host, routes, generation: 0 }
    }

    /// What control does when interfaces change, in its order.
    fn interfaces(&mut self, up: &[bool]) {
        let all: Vec<Iface> = up.iter().enumerate().map(|(number, up)| iface(number, *up)).collect();
        self.routes.interfaces = Interfaces::new(all.clone());
        self.routes.refresh(false);
        self.publish(&all);
        self.routes.refresh(true);
    }

    fn publish(&mut self, all: &[Iface]) {
        self.generation += 1;
        let view = Arc::new(Snapshot::new(self.generation, &[], &[]));
        self.routes.published(self.generation);
        self.host.lock().configure(all.iter().map(Iface::for_host).collect(), view);
    }

    /// Everything that waits is done, and every worker has passed and has the newest snapshot.
    fn settle(&mut self) {
        for _ in 0..100 {
            if self.routes.is_replaced() {
                self.generation += 1;
                self.routes.published(self.generation);
            }
            self.shared.grace().pass(0);
            if !self.routes.turn(self.generation) && !self.routes.hops.owes() {
                return;
            }
        }
        panic!("routes do not settle");
    }

    /// Every route with what workers find for it.
    fn listed(&self) -> BTreeMap<String, (bool, Option<NextHop>)> {
        let mut listed = BTreeMap::new();
        let mut cursor = Cursor::default();
        while let Some((_, routes)) = self.routes.list(&mut cursor, 3) {
            for route in routes {
                let hop = self.shared.router().next_hops.get(route.hop);
                assert!(
                    listed.insert(route.to.to_string(), (route.active, hop)).is_none(),
                    "{} is listed twice",
                    route.to
                );
            }
        }
        listed
    }
}

fn via(hops: &[(u8, u8, u16)]) -> Target {
    let hops = hops.iter().map(|&(net, host, weight)| Via { to: [10, net, 0, host].into(), weight }).collect();
    Target::Via { vrf: VrfId::DEFAULT, hops, interface: None }
}

fn put(rig: &mut Rig, to: &str, origin: Origin, target: Target) {
    rig.routes.put(VrfId::DEFAULT, to.parse().unwrap(), Spec { origin, target }).unwrap();
}

#[test]
fn a_number_is_free_only_when_no_worker_can_follow_it() {
    let mut rig = Rig::new();
    rig.interfaces(&[true, true]);
    rig.settle();
    // A worker in the midst of its turn.
    rig.shared.grace().wake(0);
    put(&mut rig, "172.16.0.0/16", Origin::File, via(&[(0, 9, 1)]));
    put(&mut rig, "172.17.0.0/16", Origin::File, via(&[(0, 9, 1)]));
    let hop = rig.routes.get(VrfId::DEFAULT, "172.16.0.0/16".parse().unwrap()).unwrap();
    assert!(matches!(rig.shared.router().next_hops.get(hop), Some(NextHop::Gateway(_))));
    assert_eq!(rig.routes.hops.numbers(), 2, "one for both routes, and one for the router");
    assert!(rig.routes.remove(VrfId::DEFAULT, "172.16.0.0/16".parse().unwrap()));
    rig.routes.turn(u64::MAX);
    assert!(!rig.routes.hops.owes(), "the other route still needs it");
    assert!(rig.routes.remove(VrfId::DEFAULT, "172.17.0.0/16".parse().unwrap()));
    rig.routes.turn(u64::MAX);
    assert!(rig.shared.router().next_hops.get(hop).is_some(), "the worker may be on its way there");
    assert_eq!((rig.routes.hops.numbers(), rig.host.lock().neighbours(None, 9)[0].held), (2, 1));
    // The same neighbour again, in between: its slot is not given up.
    put(&mut rig, "172.18.0.0/16", Origin::File, via(&[(0, 9, 1)]));
    rig.shared.grace().pass(0);
    rig.routes.turn(rig.generation.saturating_sub(1));
    assert_eq!(rig.shared.router().next_hops.get(hop).is_some(), rig.generation > 0, "nor with an older snapshot");
    rig.settle();
    assert_eq!((rig.routes.hops.numbers(), rig.host.lock().neighbours(None, 9)[0].held), (2, 1));
    rig.routes.remove(VrfId::DEFAULT, "172.18.0.0/16".parse().unwrap());
    rig.settle();
    assert_eq!((rig.routes.hops.numbers(), rig.routes.total()), (0, 0));
    assert!(rig.host.lock().neighbours(None, 9).iter().all(|row| row.held == 0));
}

#[test]
fn members_come_and_go_and_flows_stay_where_they_can() {
    let mut rig = Rig::new();
    rig.interfaces(&[true, true, true]);
    put(&mut rig, "0.0.0.0/0", Origin::File, via(&[(0, 9, 1), (1, 9, 1), (2, 9, 2)]));
    let hop = rig.routes.get(VrfId::DEFAULT, "0.0.0.0/0".parse().unwrap()).unwrap();
    let members = |rig: &Rig| -> Vec<u8> {
        let member = |hash| rig.routes.hops.member(hop, hash).unwrap();
        let members: Vec<_> = (0..256).map(member).collect();
        // What the packet path does says the same.
        let Some(NextHop::Group(group)) = rig.shared.router().next_hops.get(hop) else { panic!("no group") };
        for (hash, key) in members.iter().enumerate() {
            let Some(NextHop::Gateway(slot)) = rig.shared.router().next_hops.member(group, hash as u32) else {
                panic!("slot {hash} leads nowhere");
            };
            assert_eq!(rig.shared.router().neighbours.key(slot), Some(*key));
        }
        members.iter().map(|key| key.domain().index() as u8 - 1).collect()
    };
    let before = members(&rig);
    let count = |members: &[u8], who| members.iter().filter(|member| **member == who).count();
    assert_eq!([0, 1, 2].map(|who| count(&before, who)), [64, 64, 128]);
    rig.interfaces(&[true, false, true]);
    let during = members(&rig);
    assert_eq!(count(&during, 1), 0);
    assert!(before.iter().zip(&during).all(|(before, during)| before == during || *before == 1));
    rig.interfaces(&[true, true, true]);
    let after = members(&rig);
    assert_eq!(count(&after, 1), 64);
    assert!(during.iter().zip(&after).all(|(during, after)| during == after || *after == 1));
    rig.interfaces(&[false, false, false]);
    assert!(!rig.routes.hops.is_active(hop));
    assert_eq!(rig.shared.router().next_hops.get(hop), None, "in the same turn");
    rig.settle();
    assert_eq!(rig.routes.longest(VrfId::DEFAULT, [1, 2, 3, 4].into()), None);
    assert_eq!(rig.routes.longest_idle(VrfId::DEFAULT, [1, 2, 3, 4].into()).unwrap().0.prefix_len(), 0);
}

#[test]
fn the_nearest_route_has_most_bits_in_common() {
    let mut rig = Rig::new();
    for to in ["10.1.0.0/16", "10.2.3.0/24", "192.0.2.0/24", "2001:db8::/32"] {
        put(&mut rig, to, Origin::File, Target::Blackhole);
    }
    let nearest = |to: &str| rig.routes.nearest(VrfId::DEFAULT, to.parse().unwrap()).map(|to| to.to_string());
    assert_eq!(nearest("10.2.4.1").as_deref(), Some("10.2.3.0/24"));
    assert_eq!(nearest("10.0.0.1").as_deref(), Some("10.1.0.0/16"));
    assert_eq!(nearest("200.0.0.1").as_deref(), Some("192.0.2.0/24"));
    assert_eq!(nearest("2001:db9::1").as_deref(), Some("2001:db8::/32"));
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<(u8, u8, u16)>),
    Blackhole(u8),
    Remove(u8),
    Links([bool; 3]),
    Reload,
    Pass,
    Turn,
}

fn step() -> impl Strategy<Value = Step> {
    let hops = proptest::collection::btree_map((0u8..3, 2u8..5), 1u16..4, 1..4);
    let hops = hops.prop_map(|hops| hops.into_iter().map(|((net, host), weight)| (net, host, weight)).collect());
    prop_oneof![
        6 => (any::<u8>(), hops).prop_map(|(at, hops)| Step::Put(at % 12, hops)),
        1 => any::<u8>().prop_map(|at| Step::Blackhole(at % 12)),
        4 => any::<u8>().prop_map(|at| Step::Remove(at % 12)),
        2 => any::<[bool; 3]>().prop_map(Step::Links),
        1 => Just(Step::Reload),
        2 => Just(Step::Pass),
        2 => Just(Step::Turn),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn uses_are_counted_whatever_happens(steps in proptest::collection::vec(step(), 1..60)) {
        let mut rig = Rig::new();
        let mut up = [true; 3];
        rig.interfaces(&up);
        rig.shared.grace().wake(0);
        let mut model: BTreeMap<String, Target> = BTreeMap::new();
        let to = |at: u8| format!("172.{}.0.0/16", 16 + at);
        for step in steps {
            let origin = rig.routes.origin_added();
            match step {
                Step::Put(at, hops) => {
                    put(&mut rig, &to(at), origin, via(&hops));
                    model.insert(to(at), via(&hops));
                }
                Step::Blackhole(at) => {
                    put(&mut rig, &to(at), origin, Target::Blackhole);
                    model.insert(to(at), Target::Blackhole);
                }
                Step::Remove(at) => {
                    let was = rig.routes.remove(VrfId::DEFAULT, to(at).parse().unwrap());
                    prop_assert_eq!(was, model.remove(&to(at)).is_some());
                }
                Step::Links(now) => {
                    up = now;
                    rig.interfaces(&up);
                }
                Step::Reload => {
                    prop_assert_eq!(rig.routes.forget_added(), model.len());
                    model.clear();
                    rig.settle();
                }
                Step::Pass => rig.shared.grace().pass(0),
                Step::Turn => drop(rig.routes.turn(rig.generation)),
            }
            // Once settled or not: what is in force leads where it says.
            let listed = rig.listed();
            prop_assert_eq!(listed.keys().collect::<Vec<_>>(), model.keys().collect::<Vec<_>>());
            for (to, (_, hop)) in listed {
                let reachable = match &model[&to] {
                    Target::Via { hops, .. } => hops.iter().any(|hop| match hop.to {
                        std::net::IpAddr::V4(to) => up[usize::from(to.octets()[1])],
                        std::net::IpAddr::V6(_) => false,
                    }),
                    _ => true,
                };
                prop_assert_eq!(hop.is_some(), reachable, "{}", to);
            }
        }
        rig.settle();
        let different: HashSet<&Target> = model.values().collect();
        let routers: HashSet<std::net::IpAddr> = different.iter().flat_map(|target| match target {
            Target::Via { hops, .. } => hops.iter().map(|hop| hop.to).collect(),
            _ => Vec::new(),
        }).filter(|to| matches!(to, std::net::IpAddr::V4(to) if up[usize::from(to.octets()[1])])).collect();
        prop_assert_eq!(rig.routes.hops.numbers(), different.len() + routers.len(), "a number for each, and no more");
        for (to, (active, hop)) in rig.listed() {
            prop_assert_eq!(active, hop.is_some(), "{} once settled", to);
        }
        rig.routes.forget_added();
        rig.settle();
        prop_assert_eq!((rig.routes.hops.numbers(), rig.routes.total()), (0, 0));
        prop_assert!(rig.host.lock().neighbours(None, 99).iter().all(|row| row.held == 0));
    }
}

#[test]
fn interfaces_speak_for_their_link_local_address() {
    let mut own = iface(0, true);
    assert!(own.view().ipv6.is_empty());
    own.addresses.push("fd00::1/64".parse().unwrap());
    assert_eq!(own.view().ipv6.len(), 2);
    assert!(own.view().has_ipv6(RouterView::link_local(own.mac).to_bits()));
    let routes: Vec<String> = own.routes().map(|(to, _)| to.to_string()).collect();
    assert_eq!(routes, ["10.0.0.1/32", "10.0.0.0/24", "10.0.0.0/32", "10.0.0.255/32", "fd00::1/128", "fd00::/64"]);
    own.up = false;
    assert_eq!(own.routes().count(), 4, "no subnet behind a link that is down");
}
