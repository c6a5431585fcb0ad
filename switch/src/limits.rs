//! Every constant of the switch, with the relations between them asserted at compile time.
//!
//! A number that two modules must agree on lives here and nowhere else. Where a number was chosen
//! by measurement, the figure stands beside it.

/// Frames handled together: one ring release, one time read and one kick per burst.
pub const BURST: usize = 64;

/// Bytes of one pool frame (the UMEM chunk). The kernel accepts 2048 or 4096 in aligned mode.
pub const FRAME_SIZE: usize = 4096;

/// Bytes the kernel reserves in front of every received frame (`XDP_PACKET_HEADROOM`).
pub const FRAME_HEADROOM: usize = 256;

/// Bytes of packet data that fit in one pool frame; longer packets span several (multi-buffer).
pub const FRAME_ROOM: usize = FRAME_SIZE - FRAME_HEADROOM;

/// Most pool frames one packet may span: `MAX_SKB_FRAGS + 1` of the kernel's transmit path.
pub const SEGMENTS_MAX: usize = 18;

/// Largest frame the switch carries: a 65535-byte MTU, Ethernet header and one 802.1Q tag.
pub const FRAME_LEN_MAX: usize = 65_535 + ETHERNET_HEADER + VLAN_TAG;

/// Bytes of an Ethernet II header: two addresses and the EtherType.
pub const ETHERNET_HEADER: usize = 14;

/// Bytes of one 802.1Q tag.
pub const VLAN_TAG: usize = 4;

/// Most ports on one switch.
pub const PORTS_MAX: usize = 1024;

/// Most bridge domains on one switch; a domain id fits in 12 bits beside a 48-bit MAC address.
pub const DOMAINS_MAX: usize = 4094;

/// Most VRFs, the default one included.
pub const VRFS_MAX: usize = 64;

/// Most different next hops of all routes, groups of them included. Number 0 is "no route"; a leaf of the forwarding
/// information base holds one in 24 bits.
pub const NEXT_HOPS_MAX: usize = 65_536;

/// Most next hops that traffic of one route is spread over.
pub const GROUP_MEMBERS_MAX: usize = 64;

/// Slots of a group: a next hop of weight 1 among others of weight 1 gets its share of them.
pub const GROUP_SLOTS: usize = 256;

/// Most groups of next hops.
pub const GROUPS_MAX: usize = 1_024;

/// Neighbours (ARP and ND entries) of all interfaces together.
pub const NEIGHBOURS_MAX: usize = 65_536;

/// Pool frames waiting for the switch as a host, for each kind of reason; fewer of a small pool.
pub const PUNTS_MAX: usize = 512;

/// Frames that the switch as a host may have on their way to a worker.
pub const INJECTED_MAX: usize = 4_096;

/// Most workers (cores) of one switch.
pub const WORKERS_MAX: usize = 16;

/// Most rx queues of one port.
pub const QUEUES_MAX: usize = WORKERS_MAX;

/// Pool size when the configuration names none.
pub const FRAMES_DEFAULT: u32 = 16_384;

/// Smallest and largest pool.
pub const FRAMES_MIN: u32 = 1_024;
/// See [`FRAMES_MIN`].
pub const FRAMES_MAX: u32 = 1 << 21;

/// Entries of each receive and transmit ring.
pub const RING_SIZE: u32 = 2_048;

/// Deepest and shallowest fill ring of a port. 128 frames lost 295 of 1685 segments of one 2 MB TCP
/// burst, so the deep end is used while the pool allows it; the shallow end bounds 256 ports.
pub const FILL_MAX: u32 = 2_048;
/// See [`FILL_MAX`].
pub const FILL_MIN: u32 = 64;
/// Depth of a fill ring that has not run low for long: 6 % more frames a second than [`FILL_MAX`], measured with
/// small frames.
pub const FILL_CALM: u32 = 1_024;

/// Frames moved at once between a worker's free list and the shared one.
pub const FREE_BATCH: usize = 32;

/// Frames a worker keeps before it gives some back; fewer of a small pool (one frame in 64).
pub const FREE_LOCAL_MAX: usize = 16 * FREE_BATCH;

/// Frames waiting between one worker and another; a full queue drops with `handoff_full`. One broadcast
/// takes an entry for each port of the other worker: 16 of them to 256 ports fit.
pub const HANDOFF: usize = 4_096;

/// Learned addresses when the configuration sets no limit, and the most it may set.
pub const FDB_ENTRIES_DEFAULT: u32 = 65_536;
/// See [`FDB_ENTRIES_DEFAULT`].
pub const FDB_ENTRIES_MAX: u32 = 1_048_576;

/// Static, sticky and local entries that a table for any number of learned ones has room for.
pub const FIXED_ENTRIES_MIN: u32 = 8_192;

/// Static, sticky and local entries that stand beside `entries` learned ones: an eighth of their number, at
/// least [`FIXED_ENTRIES_MIN`].
pub const fn fixed_entries_max(entries: u32) -> u32 {
    let share = entries / 8;
    if share > FIXED_ENTRIES_MIN { share } else { FIXED_ENTRIES_MIN }
}

/// Ageing time when the configuration sets none, and its range (IEEE 802.1D-2004 table 7-5).
pub const AGEING_SECONDS_DEFAULT: u32 = 300;
/// See [`AGEING_SECONDS_DEFAULT`].
pub const AGEING_SECONDS_MIN: u32 = 10;
/// See [`AGEING_SECONDS_DEFAULT`].
pub const AGEING_SECONDS_MAX: u32 = 1_000_000;
/// Largest `resume_latency_us`: no idle state takes a second to leave.
pub const RESUME_LATENCY_US_MAX: u32 = 1_000_000;

/// How many bits behind the first octet tell the root slots of a large IPv4 table apart: with 2^10 slots for an octet
/// (4 KiB; 1 MiB for all) the nodes below begin at 18, 24 and 30 bits, and most of them are one cache line.
pub const FIB_WIDE_BITS_IPV4: usize = 10;

/// The same of an IPv6 table: 2^18 slots for an octet (1 MiB), of which the registries' blocks use a tenth at most.
pub const FIB_WIDE_BITS_IPV6: usize = 18;

/// Routes of one first octet from which on an IPv4 table's root is wide there.
pub const FIB_WIDE_ROUTES_IPV4: usize = 64;

/// The same of an IPv6 table.
pub const FIB_WIDE_ROUTES_IPV6: usize = 4_096;

/// Bytes from which on parts of routing tables are put on huge pages.
pub const FIB_HUGE_BYTES: usize = 4 << 20;

/// FDB buckets looked at by one slice of an ageing sweep, a flush or a dump.
pub const FDB_SLICE_BUCKETS: usize = 4_096;

/// Most addresses of the switch in one bridge.
pub const GATEWAYS_MAX: usize = 16;

/// Most addresses in the range of one DHCP server; its tables grow to that.
pub const DHCP_RANGE_MAX: u64 = 65_536;

/// Length of a DHCP lease when the configuration names none, and its range, in seconds.
pub const LEASE_SECONDS_DEFAULT: u32 = 3_600;
/// See [`LEASE_SECONDS_DEFAULT`]. The least also bounds what a client can ask for.
pub const LEASE_SECONDS_MIN: u32 = 60;
/// See [`LEASE_SECONDS_DEFAULT`]: a year.
pub const LEASE_SECONDS_MAX: u32 = 31_536_000;

/// Most name servers, and most time servers, that hosts are told.
pub const NAME_SERVERS_MAX: usize = 8;

/// Least MTU of a link that carries IPv6 (RFC 8200 section 5): no sender makes packets smaller than this.
pub const IPV6_MTU_MIN: u32 = 1_280;

/// Most prefixes in one router advertisement: those of a bridge's addresses, and some that are taken back.
pub const RA_PREFIXES_MAX: usize = GATEWAYS_MAX + 2;

/// Most names in a search list, and most octets of them together: what fits beside [`RA_PREFIXES_MAX`] prefixes and
/// [`NAME_SERVERS_MAX`] name servers into an advertisement of 1280 octets.
pub const SEARCH_MAX: usize = 8;
/// See [`SEARCH_MAX`].
pub const SEARCH_OCTETS_MAX: usize = 480;

const _: () =
    assert!(40 + 16 + 8 + 8 + 32 * RA_PREFIXES_MAX + 8 + 16 * NAME_SERVERS_MAX + 8 + SEARCH_OCTETS_MAX <= 1280);
const _: () = assert!(FRAME_SIZE.is_power_of_two());
const _: () = assert!(FRAME_ROOM * SEGMENTS_MAX >= FRAME_LEN_MAX);
const _: () = assert!(FRAME_ROOM <= u16::MAX as usize);
const _: () = assert!(PUNTS_MAX >= 2 * SEGMENTS_MAX && PUNTS_MAX + WORKERS_MAX * SEGMENTS_MAX <= u16::MAX as usize);
const _: () = assert!(RING_SIZE.is_power_of_two() && RING_SIZE as usize >= 2 * BURST);
const _: () = assert!(FILL_MAX <= RING_SIZE && FILL_MIN as usize > SEGMENTS_MAX);
const _: () = assert!(FILL_MIN <= FILL_CALM && FILL_CALM <= FILL_MAX);
const _: () = assert!(PORTS_MAX < u16::MAX as usize && DOMAINS_MAX < 1 << 12);
const _: () = assert!(FREE_LOCAL_MAX >= 2 * FREE_BATCH && FREE_BATCH <= BURST);
const _: () = assert!(FRAMES_DEFAULT >= FRAMES_MIN && FRAMES_DEFAULT <= FRAMES_MAX);
const _: () = assert!(
    VRFS_MAX <= 256 && NEXT_HOPS_MAX.is_power_of_two() && NEXT_HOPS_MAX <= 1 << 24 && GROUP_SLOTS.is_power_of_two()
);
const _: () = assert!(NEIGHBOURS_MAX.is_power_of_two() && GROUP_MEMBERS_MAX <= GROUP_SLOTS);
const _: () = assert!(FDB_ENTRIES_DEFAULT <= FDB_ENTRIES_MAX);
