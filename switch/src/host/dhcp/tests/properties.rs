//! Arbitrary octets never panic; whatever clients do, no address has two of them and the store can follow.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// What one client does, or time.
#[derive(Clone, Debug)]
enum Step {
    Discover { client: u8, wanted: Option<u8>, relayed: bool },
    Select { client: u8, address: u8 },
    Reboot { client: u8, address: u8 },
    Extend { client: u8, address: u8, unicast: bool },
    Decline { client: u8, address: u8 },
    Release { client: u8, address: u8 },
    Inform { client: u8, address: u8 },
    ProbeDone { address: u8, in_use: bool },
    Wait { seconds: u64 },
    Reconfigure { last: u8, with_statics: bool },
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let client = || prop_oneof![4 => 1u8..7, 1 => Just(0x50u8)];
    let address = || prop_oneof![6 => 100u8..105, 1 => Just(50u8), 1 => any::<u8>()];
    prop_oneof![
        6 => (client(), proptest::option::of(address()), any::<bool>())
            .prop_map(|(client, wanted, relayed)| Step::Discover { client, wanted, relayed }),
        8 => (client(), address()).prop_map(|(client, address)| Step::Select { client, address }),
        2 => (client(), address()).prop_map(|(client, address)| Step::Reboot { client, address }),
        3 => (client(), address(), any::<bool>())
            .prop_map(|(client, address, unicast)| Step::Extend { client, address, unicast }),
        1 => (client(), address()).prop_map(|(client, address)| Step::Decline { client, address }),
        2 => (client(), address()).prop_map(|(client, address)| Step::Release { client, address }),
        1 => (client(), address()).prop_map(|(client, address)| Step::Inform { client, address }),
        5 => (100u8..104, any::<bool>()).prop_map(|(address, in_use)| Step::ProbeDone { address, in_use }),
        3 => prop_oneof![0u64..40, 500u64..5000].prop_map(|seconds| Step::Wait { seconds }),
        1 => (101u8..106, any::<bool>())
            .prop_map(|(last, with_statics)| Step::Reconfigure { last, with_statics }),
        1 => Just(Step::Restart),
    ]
}

/// The server with what the test knows about its clients.
struct Model {
    server: Server,
    settings: Settings,
    now: u64,
    /// Who was told that it has which address, until when.
    held: BTreeMap<Ipv4Addr, (u8, u64)>,
    /// What a store would have.
    stored: BTreeMap<Ipv4Addr, Lease>,
}

impl Model {
    fn take(&mut self, step: Step) {
        let (server, now) = (&mut self.server, self.now);
        let relay = |relayed| if relayed { RELAY } else { Ipv4Addr::UNSPECIFIED };
        let (client, answer) = match step {
            Step::Discover { client, wanted, relayed } => {
                let discover = Message::new(DISCOVER, client).giaddr(relay(relayed));
                let discover = wanted.into_iter().fold(discover, |message, last| message.address(50, ip(last)));
                (client, discover.to(server, now))
            }
            Step::Select { client, address } => (client, select(client, ip(address)).to(server, now)),
            Step::Reboot { client, address } => {
                (client, Message::new(REQUEST, client).address(50, ip(address)).to(server, now))
            }
            Step::Extend { client, address, unicast } => {
                let request = Message::new(REQUEST, client).ciaddr(ip(address));
                (client, if unicast { request.unicast_to(server, now) } else { request.to(server, now) })
            }
            Step::Decline { client, address } => {
                let decline = Message::new(DECLINE, client).address(54, SERVER).address(50, ip(address));
                self.ended(client, address, decline, Silence::Declined);
                return;
            }
            Step::Release { client, address } => {
                let release = Message::new(RELEASE, client).address(54, SERVER).ciaddr(ip(address));
                self.ended(client, address, release, Silence::Released);
                return;
            }
            Step::Inform { client, address } => {
                if let Answer::Reply(reply) = Message::new(INFORM, client).ciaddr(ip(address)).to(server, now) {
                    assert_eq!(Read::of(Answer::Reply(reply)).yiaddr(), Ipv4Addr::UNSPECIFIED);
                }
                return;
            }
            Step::ProbeDone { address, in_use } => {
                let waits = server.leases().find(|lease| lease.address == ip(address)).cloned();
                let client = waits.and_then(|lease| lease.hardware.last().copied()).unwrap_or(0);
                (client, server.probe_done(ip(address), in_use, now))
            }
            Step::Wait { seconds } => {
                self.now += seconds;
                return;
            }
            Step::Reconfigure { last, with_statics } => {
                let statics = if with_statics { settings().statics } else { Vec::new() };
                self.settings = Settings { last: ip(last), statics, ..self.settings.clone() };
                server.reconfigure(self.settings.clone(), now);
                return;
            }
            Step::Restart => {
                self.store();
                self.server = Server::new(self.settings.clone(), self.stored.values().cloned().collect(), now);
                return;
            }
        };
        self.check(client, answer);
    }

    fn ended(&mut self, client: u8, address: u8, message: Message, obeyed: Silence) {
        let answer = message.unicast_to(&mut self.server, self.now);
        if answer == Answer::None(obeyed) && self.held.get(&ip(address)).is_some_and(|(holder, _)| *holder == client) {
            self.held.remove(&ip(address));
        }
    }

    fn check(&mut self, client: u8, answer: Answer) {
        let Answer::Reply(_) = answer else { return };
        let reply = Read::of(answer);
        if reply.kind() == NAK {
            assert_eq!(reply.option(51), None);
            self.held.retain(|_, (holder, _)| *holder != client);
            return;
        }
        let address = reply.yiaddr();
        let reserved = self.settings.statics.iter().find(|entry| entry.address == address);
        match reserved {
            Some(entry) => assert_eq!(entry.client, Client::of_mac(mac(client)), "{address} is reserved"),
            None => assert!((self.settings.first..=self.settings.last).contains(&address), "{address}"),
        }
        if let Some((holder, until)) = self.held.get(&address) {
            assert!(*holder == client || *until <= self.now, "{address} of {holder} until {until} goes to {client}");
        }
        if reply.kind() == ACK {
            self.held.retain(|_, (holder, _)| *holder != client);
            self.held.insert(address, (client, self.now + u64::from(reply.number(51).unwrap())));
        }
    }

    /// Follows the changes and compares with what the server knows.
    fn store(&mut self) {
        for change in self.server.take_changes() {
            match change.lease {
                Some(lease) => _ = self.stored.insert(change.address, lease),
                None => _ = self.stored.remove(&change.address),
            }
        }
        let lasting =
            |lease: &&Lease| matches!(lease.state, State::Bound | State::Quarantined) && lease.is_current(self.now);
        let known: Vec<&Lease> = self.server.leases().filter(lasting).collect();
        let stored: Vec<&Lease> = self.stored.values().filter(lasting).collect();
        assert_eq!(known, stored);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_address_ever_has_two_clients(probe in any::<bool>(), steps in vec(step(), 1..120)) {
        let settings = Settings { probe, ..settings() };
        let server = Server::new(settings.clone(), Vec::new(), NOW);
        let mut model = Model { server, settings, now: NOW, held: BTreeMap::new(), stored: BTreeMap::new() };
        for step in steps {
            model.take(step);
            model.store();
            let clients: Vec<_> = model.server.leases().filter_map(|lease| lease.client.clone()).collect();
            let distinct: std::collections::BTreeSet<_> = clients.iter().collect();
            assert_eq!(distinct.len(), clients.len(), "one address per client");
        }
    }

    #[test]
    fn arbitrary_octets_never_panic(payload in vec(any::<u8>(), 0..700)) {
        server().handle(Request { payload: &payload, destination: BROADCAST }, NOW);
    }

    #[test]
    fn arbitrary_options_never_panic(kind in 0u8..20, octets in vec(any::<u8>(), 0..400), fields in any::<[u8; 28]>()) {
        let mut message = Message::new(kind, 1).field(4, &fields[..24]).field(2, &fields[24..25]);
        message = message.field(108, &octets[..octets.len().min(128)]);
        message.0.extend(octets);
        if let Answer::Reply(reply) = message.to(&mut server(), NOW) {
            prop_assert!((300..=1472).contains(&reply.payload.len()));
        }
    }

    #[test]
    fn arbitrary_well_formed_options_never_panic(options in vec((any::<u8>(), vec(any::<u8>(), 0..40)), 0..20)) {
        let message = Message::new(DISCOVER, 1);
        let message = options.iter().fold(message, |message, (code, data)| message.option(*code, data));
        if let Answer::Reply(reply) = message.to(&mut server(), NOW) {
            prop_assert!((300..=1472).contains(&reply.payload.len()));
        }
    }
}
