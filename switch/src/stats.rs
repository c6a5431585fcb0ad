//! What is counted, and the one list of reasons why a frame is dropped.
//!
//! Each worker writes counters of its own (plain loads and stores, no shared line); the control
//! thread reads and sums them on request. A reader may see a packet in one counter and not yet in the next.

use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam::utils::CachePadded;

use crate::ids::{DomainId, PortId};
use crate::limits::{DOMAINS_MAX, PORTS_MAX};

macro_rules! drop_reasons {
    ($($variant:ident $name:literal $help:literal)+) => {
        /// Why a frame was dropped. Every drop on the packet path has one of these.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u16)]
        pub enum Drop {
            $(#[doc = $help] $variant,)+
        }

        impl Drop {
            /// All reasons, in the order of their numbers.
            pub const ALL: &'static [Drop] = &[$(Drop::$variant,)+];

            /// The reason's name in `show-drops` and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(Drop::$variant => $name,)+ }
            }

            /// One line for the operator.
            pub const fn help(self) -> &'static str {
                match self { $(Drop::$variant => $help,)+ }
            }
        }
    };
}

drop_reasons! {
    RxMalformed "rx_malformed" "Shorter than an Ethernet header (or its VLAN tag), so no address to switch on."
    RxPortDown "rx_port_down" "Received on a port that is not (or no longer) in the forwarding state."
    VlanReserved "vlan_reserved" "VLAN id 4095, which 802.1Q reserves."
    VlanNotMember "vlan_not_member" "Tagged with a VLAN id that the ingress port does not carry."
    VlanUntagged "vlan_untagged" "Untagged on a trunk without a native bridge domain."
    L2LinkLocal "l2_link_local" "Sent to 01:80:C2:00:00:00..0F, which a bridge never forwards."
    L2SourceGroup "l2_source_group" "The source address is a group address, which no station has."
    L2SamePort "l2_same_port" "The destination is on the port that the frame came from."
    L2NoReceiver "l2_no_receiver" "To be flooded, but no other port of the bridge domain takes it."
    L2Isolated "l2_isolated" "From an isolated port to another isolated port."
    L2NotMember "l2_not_member" "The destination port has left the bridge domain."
    L2Local "l2_local" "To an address of the switch itself, which nothing answers."
    MtuExceeded "mtu_exceeded" "Larger than the egress port's MTU allows."
    TxPortDown "tx_port_down" "The egress port is down or gone."
    TxRingFull "tx_ring_full" "The egress port's transmit ring stayed full: its receiver is slower than its senders."
    TxRefused "tx_refused" "The kernel or the far interface refused the frame (down, too long, or its queue full)."
    HandoffFull "handoff_full" "The queue to the worker that owns the egress port was full."
    RouterNotIp "router_not_ip" "To the router's MAC address, but neither IPv4, IPv6 nor ARP."
    IpMalformed "ip_malformed" "An IP header whose version, lengths or checksum are wrong."
    IpMartian "ip_martian" "From or to an IP address that may not be forwarded (loopback, link-local, multicast, 0/8, 240/4)."
    IpLinkGroup "ip_link_group" "A packet to one host in a broadcast or multicast frame, which a router must not forward."
    IpSourceRoute "ip_source_route" "An IPv4 packet that names its own route (RFC 7126)."
    IpBroadcast "ip_broadcast" "To the broadcast or network address of a subnet (RFC 2644)."
    TtlExceeded "ttl_exceeded" "The packet's TTL or hop limit ran out here."
    NoRoute "no_route" "No route to the destination; show-routes lists them, route-get explains a match."
    RouteBlackhole "route_blackhole" "The route to the destination says that packets vanish."
    RouteUnreachable "route_unreachable" "The route to the destination says unreachable."
    RouteProhibited "route_prohibited" "The route to the destination says prohibited."
    NeighbourUnresolved "neighbour_unresolved" "Nobody answered for the next hop's MAC address, or too many packets waited for it."
    PacketTooBig "packet_too_big" "Larger than the next hop's MTU and not to be fragmented; the sender was told, limits aside."
    FragmentFailed "fragment_failed" "Could not be cut into fragments: its options are too long for the MTU, or the queue was full."
    PuntFull "punt_full" "More packets for the switch itself, of this port or of all, than it can look at."
    ReassemblyFailed "reassembly_failed" "A fragment for the switch itself whose datagram did not become whole in time, overlapped, or had to make room."
    HostIgnored "host_ignored" "For the switch itself, which has no use for it: not valid, not asked for, or nothing to answer."
    HostLimited "host_limited" "An ICMP error that was not sent, to keep within its rate."
    PoolExhausted "pool_exhausted" "No free frame for a copy or a header; raise [switch] frames."
}

/// Counters of one port as one worker sees it. 64-bit, cumulative since start.
#[derive(Default)]
pub struct PortStats {
    /// Packets received.
    pub rx_packets: Counter,
    /// Bytes received, from the destination address to the end of the payload.
    pub rx_bytes: Counter,
    /// Packets given to the port for transmission.
    pub tx_packets: Counter,
    /// Bytes of those packets.
    pub tx_bytes: Counter,
    /// Packets from this port that were flooded.
    pub flooded: Counter,
    /// Addresses learned on this port.
    pub learned: Counter,
    /// Addresses that moved to this port.
    pub moved: Counter,
    /// Source addresses not learned because a limit was reached or the table was full.
    pub learn_refused: Counter,
    /// Packets from this port that were routed.
    pub routed: Counter,
    /// Packets (or copies) from this port given to the switch as a host.
    pub punted: Counter,
    /// Partial checksums finished for this port's senders.
    pub checksums_finished: Counter,
    /// `rx_dropped` of the kernel's socket statistics, over all sockets the port ever had; as are the next three.
    pub kernel_rx_dropped: Counter,
    /// `rx_ring_full`.
    pub kernel_rx_ring_full: Counter,
    /// `rx_fill_ring_empty_descs`; the frames lost are in `rx_dropped` too.
    pub kernel_rx_fill_ring_empty: Counter,
    /// `tx_invalid_descs`.
    pub kernel_tx_invalid: Counter,
    drops: DropCounters,
}

/// One counter for each reason.
struct DropCounters([Counter; Drop::ALL.len()]);

impl Default for DropCounters {
    fn default() -> Self {
        DropCounters(std::array::from_fn(|_| Counter::default()))
    }
}

impl PortStats {
    /// Adds `count` drops of `reason`.
    #[inline]
    pub fn drop(&self, reason: Drop, count: u64) {
        if let Some(counter) = self.drops.0.get(reason as usize) {
            counter.add(count);
        }
    }

    /// Drops of `reason` so far.
    pub fn drops(&self, reason: Drop) -> u64 {
        self.drops.0.get(reason as usize).map_or(0, Counter::get)
    }

    /// Every counter, for clearing when a port id is used again.
    fn all(&self) -> impl Iterator<Item = &Counter> {
        [
            &self.rx_packets,
            &self.rx_bytes,
            &self.tx_packets,
            &self.tx_bytes,
            &self.flooded,
            &self.learned,
            &self.moved,
            &self.learn_refused,
            &self.routed,
            &self.punted,
            &self.checksums_finished,
            &self.kernel_rx_dropped,
            &self.kernel_rx_ring_full,
            &self.kernel_rx_fill_ring_empty,
            &self.kernel_tx_invalid,
        ]
        .into_iter()
        .chain(&self.drops.0)
    }
}

/// A counter with one writer at a time.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `count`. Single writer: a load and a store, no locked instruction.
    #[inline]
    pub fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// The value now.
    #[inline]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Sets the value.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }
}

/// Counters of the poll loop.
#[derive(Default)]
pub struct LoopStats {
    /// Turns of the loop.
    pub iterations: Counter,
    /// Turns that moved at least one packet.
    pub busy_iterations: Counter,
    /// Nanoseconds spent in those.
    pub busy_ns: Counter,
    /// Times the worker slept on its sockets.
    pub sleeps: Counter,
    /// Nanoseconds slept.
    pub sleep_ns: Counter,
    /// Bursts received.
    pub bursts: Counter,
    /// Packets in them.
    pub received: Counter,
    /// Packets moved: those, and what other workers and the host left for this one.
    pub packets: Counter,
    /// Nanoseconds since the loop began, as of its last turn.
    pub elapsed_ns: Counter,
    /// Until when its core counts as shared, on the clock of `elapsed_ns`.
    pub core_shared_until_ns: Counter,
    /// Frame references this worker holds outside the free lists (last turn).
    pub frames_held: Counter,
}

/// All counters that one worker writes.
pub struct WorkerStats {
    /// The poll loop's own.
    pub poll: CachePadded<LoopStats>,
    ports: Box<[CachePadded<PortStats>]>,
    domains: Box<[[Counter; FLOOD_CLASSES]]>,
    refused: CachePadded<[Counter; PUNT_KINDS]>,
}

/// Kinds of flooding that are counted apart: unknown unicast, broadcast, multicast.
const FLOOD_CLASSES: usize = 3;

/// Kinds of packets that are left to the switch as a host.
const PUNT_KINDS: usize = 4;

impl Default for WorkerStats {
    fn default() -> Self {
        // One more for PortId::ROUTER.
        let ports = (0..=PORTS_MAX).map(|_| CachePadded::default()).collect();
        let domains = (0..=DOMAINS_MAX).map(|_| Default::default()).collect();
        WorkerStats { poll: CachePadded::default(), ports, domains, refused: CachePadded::default() }
    }
}

impl WorkerStats {
    /// Counters of `port`.
    #[inline]
    pub fn port(&self, port: PortId) -> &PortStats {
        // PortId is at most PORTS_MAX by construction; the fallback keeps the path free of panics.
        self.ports.get(port.index()).unwrap_or(&self.ports[0])
    }

    /// Frames of `domain` flooded, by class (a `FloodClass` as a number).
    #[inline]
    pub fn flooded(&self, domain: DomainId, class: usize) -> &Counter {
        let classes = self.domains.get(domain.index()).unwrap_or(&self.domains[0]);
        classes.get(class).unwrap_or(&classes[0])
    }

    /// Packets that the host's queue of a kind (a `PuntKind` as a number) had no room for.
    #[inline]
    pub fn refused(&self, kind: usize) -> &Counter {
        self.refused.get(kind).unwrap_or(&self.refused[0])
    }

    /// Sets every flood counter of `domain` to zero. Control thread, while no worker knows the domain.
    pub fn clear_domain(&self, domain: DomainId) {
        (0..FLOOD_CLASSES).for_each(|class| self.flooded(domain, class).set(0));
    }

    /// Sets every counter of `port` to zero, before its id means another interface. Control thread, while
    /// no worker knows the port.
    pub fn clear(&self, port: PortId) {
        self.port(port).all().for_each(|counter| counter.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_snake_case_and_explained() {
        let mut names: Vec<_> = Drop::ALL.iter().map(|reason| reason.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Drop::ALL.len());
        for reason in Drop::ALL {
            assert!(reason.name().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'));
            assert!(reason.help().ends_with('.'), "{}", reason.name());
            assert_eq!(Drop::ALL[*reason as usize], *reason);
        }
    }

    #[test]
    fn counters_add_and_clear_per_port() {
        let stats = WorkerStats::default();
        let (a, b) = (PortId::new(0).unwrap(), PortId::new(1).unwrap());
        stats.port(a).drop(Drop::MtuExceeded, 2);
        stats.port(b).rx_packets.add(3);
        stats.clear(a);
        assert_eq!((stats.port(a).drops(Drop::MtuExceeded), stats.port(b).rx_packets.get()), (0, 3));
    }
}
