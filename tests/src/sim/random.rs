//! Random topologies, changes to them, faults and traffic: all from one seeded generator, all small, so that
//! addresses, VLANs and limits collide often.

use rand::Rng;
use rand::rngs::StdRng;
use switch::ids::Mac;
use switch::limits::WORKERS_MAX;
use switch::port::fault::FaultPlan;
use switch::table::snapshot::{PortFlags, PortSetup};

use crate::frames::{self, Checksum, Net, Packet, Transport};
use crate::lab::{domain, port};
use crate::reference::Config;

/// Hosts that speak; few, so that they move between ports.
const HOSTS: u16 = 14;

/// Bytes at the end of every frame that name it.
pub const ID_LEN: usize = 8;

/// Shortest frame that has room for its name behind every header that is read.
const NAMED_MIN: usize = 14 + 4 + ID_LEN;

/// What one simulation is made of.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Workers.
    pub workers: usize,
    /// Whether ports misbehave.
    pub faults: bool,
    /// Ports.
    pub ports: usize,
    /// Bridge domains.
    pub domains: usize,
    /// Frames in the pool.
    pub frames: u32,
    /// Most learned addresses.
    pub entries_max: u32,
}

impl Plan {
    /// One worker and no faults: every output is known exactly, order included.
    pub fn is_exact(&self) -> bool {
        self.workers == 1 && !self.faults
    }

    /// A random one.
    pub fn draw(rng: &mut StdRng) -> Plan {
        let workers = *pick(rng, &[1, 1, 1, 2, 3]);
        let faults = rng.random_bool(0.5);
        // Without faults the pool must suffice, since running dry is one.
        let frames = if faults { *pick(rng, &[128, 512, 1024]) } else { 4096 };
        let entries_max = *pick(rng, &[4, 12, 1024]);
        Plan { workers, faults, ports: rng.random_range(2..=8), domains: rng.random_range(1..=4), frames, entries_max }
    }
}

fn pick<'a, T>(rng: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[rng.random_range(0..from.len())]
}

/// A random configuration for `plan`.
pub fn config(rng: &mut StdRng, plan: &Plan) -> Config {
    let ports = (0..plan.ports).map(|index| {
        let mut setup = PortSetup {
            id: port(index),
            forwarding: true,
            mtu: 1500,
            native: None,
            trunk: Vec::new(),
            flags: PortFlags::default(),
            mac_limit: u32::MAX,
            tx_worker: [0; WORKERS_MAX],
        };
        membership(rng, plan, &mut setup);
        switches(rng, &mut setup);
        setup
    });
    let ports = ports.collect();
    let domains = (1..=plan.domains).map(|number| (domain(number), *pick(rng, &[10, 300]))).collect();
    Config { ports, domains }
}

/// Gives a port random domains: native only, trunk only, or both.
fn membership(rng: &mut StdRng, plan: &Plan, setup: &mut PortSetup) {
    let kind = rng.random_range(0..10);
    setup.native = (kind < 8).then(|| domain(rng.random_range(1..=plan.domains)));
    setup.trunk.clear();
    if kind >= 5 {
        for number in 1..=plan.domains {
            if rng.random_bool(0.7) {
                setup.trunk.push((vlan(number), domain(number)));
            }
        }
        // Another VLAN id for a domain on this trunk than elsewhere: tags must be rewritten.
        if rng.random_bool(0.3)
            && let Some(first) = setup.trunk.first_mut()
        {
            first.0 += 1000;
        }
    }
}

/// The VLAN id that trunks usually carry a domain under.
fn vlan(number: usize) -> u16 {
    number as u16 * 10
}

/// Gives a port random switches, MTU, limit and link state.
fn switches(rng: &mut StdRng, setup: &mut PortSetup) {
    setup.forwarding = rng.random_bool(0.97);
    setup.mtu = *pick(rng, &[1500, 1500, 9000, 9000, 9100, 600]);
    setup.mac_limit = *pick(rng, &[u32::MAX, u32::MAX, u32::MAX, 3, 1, 0]);
    setup.flags = PortFlags {
        learning: rng.random_bool(0.9),
        isolated: rng.random_bool(0.25),
        flood_unicast: rng.random_bool(0.9),
        flood_broadcast: rng.random_bool(0.9),
        flood_multicast: rng.random_bool(0.9),
    };
}

/// Changes one thing.
pub fn change(rng: &mut StdRng, plan: &Plan, config: &mut Config) {
    let at = rng.random_range(0..config.ports.len());
    match rng.random_range(0..4) {
        0 => membership(rng, plan, &mut config.ports[at]),
        1 => config.ports[at].forwarding = rng.random_bool(0.9),
        2 => {
            let at = rng.random_range(0..config.domains.len());
            config.domains[at].1 = *pick(rng, &[10, 20, 300]);
        }
        _ => switches(rng, &mut config.ports[at]),
    }
}

/// A random set of faults, each present or not.
pub fn faults(rng: &mut StdRng) -> FaultPlan {
    let mut chance = |ppm: u32| if rng.random_bool(0.5) { rng.random_range(0..ppm) } else { 0 };
    FaultPlan {
        rx_stall_ppm: chance(300_000),
        rx_short_ppm: chance(300_000),
        rx_loss_ppm: chance(100_000),
        tx_full_ppm: chance(200_000),
        tx_short_ppm: chance(200_000),
        tx_refuse_ppm: chance(100_000),
        service_stall_ppm: chance(500_000),
        starve_ppm: chance(2_000),
        starve_frames: 1000,
        starve_services: 20,
        gone_at: rng.random_bool(0.2).then(|| rng.random_range(1..4000)),
    }
}

/// The address of a random host.
pub fn host(rng: &mut StdRng) -> Mac {
    frames::host(rng.random_range(1..=HOSTS))
}

fn destination(rng: &mut StdRng) -> Mac {
    match rng.random_range(0..100) {
        0..70 => host(rng),
        70..82 => Mac::BROADCAST,
        82..92 => Mac::new([0x01, 0x00, 0x5e, 0, 0, rng.random_range(0..4)]),
        92..98 => Mac::new([0x01, 0x80, 0xc2, 0, 0, rng.random_range(0..0x12)]),
        _ => Mac::ZERO,
    }
}

fn source(rng: &mut StdRng) -> Mac {
    match rng.random_range(0..100) {
        0..96 => host(rng),
        96..98 => Mac::ZERO,
        _ => Mac::new([0x03, 0, 0, 0, 0, 1]),
    }
}

/// A random frame whose last eight bytes are `id`. Frames without room for it (`short`) are made only on request;
/// what is too short to be switched at all is always possible.
pub fn frame(rng: &mut StdRng, plan: &Plan, id: u64, short: bool) -> Vec<u8> {
    let name = id.to_be_bytes();
    let (dst, src) = (destination(rng), source(rng));
    let mut frame = match rng.random_range(0..100) {
        0..2 => return vec![rng.random(); rng.random_range(1..14)],
        2 => return frames::tagged(&frames::sized(dst, src, 14), 10)[..rng.random_range(14..18)].to_vec(),
        3..5 if short => return frames::sized(dst, src, rng.random_range(14..NAMED_MIN)),
        3..50 => packet(rng, dst, src, &name),
        50..60 => [frames::arp_request(src, [10, 0, 0, 1], [10, 0, 0, 2]), name.to_vec()].concat(),
        60..70 => [frames::llc(dst, src, &[0x42, 0x42, 3, 0, 0]), name.to_vec()].concat(),
        _ => {
            let len = length(rng).max(NAMED_MIN);
            [frames::sized(dst, src, len - ID_LEN), name.to_vec()].concat()
        }
    };
    for _ in 0..*pick(rng, &[0, 0, 0, 0, 0, 1, 1, 2]) {
        let vlan = match rng.random_range(0..20) {
            0..3 => 0,
            3 => 4095,
            4 => 77,
            5..8 => vlan(1) + 1000,
            _ => vlan(rng.random_range(1..=plan.domains)),
        };
        frame = frames::tagged(&frame, rng.random_range(0..16) << 12 | vlan);
    }
    frame
}

/// Frame lengths: small, around the usual MTU, around the limit of one pool frame, jumbo.
fn length(rng: &mut StdRng) -> usize {
    match rng.random_range(0..20) {
        0..10 => rng.random_range(60..200),
        10..15 => rng.random_range(1500..1525),
        15 => rng.random_range(600..620),
        16 => rng.random_range(3830..3850),
        17 => rng.random_range(7670..7690),
        _ => rng.random_range(8990..9120),
    }
}

/// A TCP or UDP packet; sometimes its checksum is partial, it is padded, a fragment, or cut short.
fn packet(rng: &mut StdRng, dst: Mac, src: Mac, name: &[u8]) -> Vec<u8> {
    let net = *pick(rng, &[Net::V4, Net::V6]);
    let transport = *pick(rng, &[Transport::Tcp, Transport::Udp]);
    let mut payload = vec![rng.random(); length(rng).saturating_sub(80)];
    payload.extend_from_slice(name);
    let mut packet = Packet::new(dst, src, net, transport, payload);
    packet.checksum = *pick(rng, &[Checksum::Full, Checksum::Partial]);
    let mut frame = packet.build();
    match rng.random_range(0..10) {
        0 => {
            frame.extend(vec![0; rng.random_range(0..40)]);
            frame.extend_from_slice(name);
        }
        1 => {
            frame.truncate(rng.random_range(14..frame.len()));
            frame.extend_from_slice(name);
        }
        2 if net == Net::V4 => frame[20] |= 0x20,
        _ => {}
    }
    frame
}
