//! The frame that is sent: one UDP flow between the benchmark addresses (RFC 2544 C.2.2), its payload laid out as the
//! kernel's pktgen does it (net/core/pktgen.c `pktgen_hdr`; big-endian):
//!
//! ```text
//!   42 magic   46 sequence number   50 seconds   54 rest of the second, see Clock
//! ```
//!
//! Every frame has its own sequence number and time, and a UDP checksum that is right.

use crate::rig::{A_IP, B_IP};
use etherparse::PacketBuilder;

/// Source address of generated frames: no interface has it, so the sink counts exactly these.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0x53, 0x57, 0x42, 0x00, 0x01];
/// The UDP "discard" port.
const PORT: u16 = 9;
/// `PKTGEN_MAGIC` of the kernel.
pub const MAGIC: u32 = 0xbe9b_e955;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// Where the UDP checksum lies.
pub const CHECKSUM_AT: usize = 40;
/// Where the magic lies.
pub const MAGIC_AT: usize = HEADERS;
/// Where the sequence number lies.
pub const SEQUENCE_AT: usize = HEADERS + 4;
/// Where the seconds lie.
pub const SECONDS_AT: usize = HEADERS + 8;
/// Where the rest of the second lies.
pub const SUBSECONDS_AT: usize = HEADERS + 12;
/// Where the payload header ends.
pub const STAMP_END: usize = HEADERS + 16;
/// Shortest frame: the Ethernet minimum without FCS. It also holds the 16-byte payload header.
pub const MIN_LEN: usize = 60;
/// Longest frame: MTU 1500 plus the Ethernet header.
pub const MAX_LEN: usize = 1514;
/// Nanoseconds in a second.
pub const SECOND_NS: u64 = 1_000_000_000;

/// What the time in a frame means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// CLOCK_MONOTONIC, the rest of the second in nanoseconds: the loads of this rig.
    MonotonicNs,
    /// CLOCK_REALTIME, the rest of the second in microseconds: the kernel's pktgen.
    RealtimeUs,
}

/// Builds the frame of `len` bytes (Ethernet header included, FCS not) to `destination`, its sequence number and time
/// zero; `len` is clamped to [`MIN_LEN`]..=[`MAX_LEN`].
pub fn build(destination: [u8; 6], len: usize) -> Vec<u8> {
    between(SOURCE_MAC, destination, len)
}

/// The same from another source than [`SOURCE_MAC`].
pub fn between(source: [u8; 6], destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut payload = vec![0u8; len.clamp(MIN_LEN, MAX_LEN) - HEADERS];
    for (byte, magic) in payload.iter_mut().zip(MAGIC.to_be_bytes()) {
        *byte = magic;
    }
    let builder = PacketBuilder::ethernet2(source, destination).ipv4(A_IP.octets(), B_IP.octets(), 64).udp(PORT, PORT);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Writing to a Vec cannot fail, and the length was clamped above.
    let _ = builder.write(&mut frame, &payload);
    frame
}

/// The one's complement sum behind the UDP checksum of a frame as [`build`] makes it, in memory order: what a stamp
/// adds to. One's complement sums do not mind the byte order (RFC 1071), so words are added as they lie in memory.
pub fn checksum_base(frame: &[u8]) -> u32 {
    u32::from(!u16::from_ne_bytes(field(frame, CHECKSUM_AT)))
}

/// Writes sequence number and time into a frame, and the checksum that belongs to them. `base` is
/// [`checksum_base`] of the frame before its first stamp. Frames shorter than [`STAMP_END`] are left alone.
#[inline]
pub fn stamp(frame: &mut [u8], base: u32, sequence: u32, now_ns: u64) {
    let Some(frame) = frame.get_mut(..STAMP_END) else { return };
    let words = [sequence, (now_ns / SECOND_NS) as u32, (now_ns % SECOND_NS) as u32]
        .map(|word| u32::from_ne_bytes(word.to_be_bytes()));
    let mut sum = u64::from(base);
    for (word, at) in words.iter().zip([SEQUENCE_AT, SECONDS_AT, SUBSECONDS_AT]) {
        frame[at..at + 4].copy_from_slice(&word.to_ne_bytes());
        sum += u64::from(*word);
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // A checksum of zero would mean "none" (RFC 768).
    let checksum = if sum == 0xffff { 0xffff } else { !(sum as u16) };
    frame[CHECKSUM_AT..CHECKSUM_AT + 2].copy_from_slice(&checksum.to_ne_bytes());
}

fn field<const N: usize>(frame: &[u8], at: usize) -> [u8; N] {
    frame.get(at..at + N).and_then(|bytes| bytes.try_into().ok()).unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{SlicedPacket, TransportSlice};

    #[test]
    fn the_frame_is_well_formed_at_every_length() {
        for (asked, got) in [(0, MIN_LEN), (60, 60), (512, 512), (1514, 1514), (9000, MAX_LEN)] {
            let frame = build([2, 0, 0, 0, 0, 7], asked);
            assert_eq!(frame.len(), got);
            assert_eq!(frame[..6], [2, 0, 0, 0, 0, 7]);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP in {packet:?}") };
            assert_eq!(udp.payload()[..4], MAGIC.to_be_bytes());
            assert_ne!(udp.checksum(), 0);
        }
    }

    #[test]
    fn a_stamped_frame_carries_pktgens_header_and_a_right_checksum() {
        let mut frame = build([2, 0, 0, 0, 0, 7], 61);
        let base = checksum_base(&frame);
        let mut sequence = 0x0102_0304u32;
        for _ in 0..100_000 {
            let now_ns = 7 * SECOND_NS + u64::from(sequence % 1_000_000_000);
            stamp(&mut frame, base, sequence, now_ns);
            assert_eq!(u32::from_be_bytes(field(&frame, MAGIC_AT)), MAGIC);
            assert_eq!(u32::from_be_bytes(field(&frame, SEQUENCE_AT)), sequence);
            assert_eq!(u32::from_be_bytes(field(&frame, SECONDS_AT)), 7);
            assert_eq!(u32::from_be_bytes(field(&frame, SUBSECONDS_AT)), sequence % 1_000_000_000);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("no UDP in {packet:?}") };
            let right = udp.to_header().calc_checksum_ipv4_raw(A_IP.octets(), B_IP.octets(), udp.payload()).unwrap();
            assert_eq!(udp.checksum(), right, "sequence {sequence}");
            sequence = sequence.wrapping_mul(2_654_435_761).wrapping_add(1);
        }
    }
}
