//! The frame that is sent: one UDP flow between the benchmark addresses (RFC 2544 C.2.2), its payload laid out as the
//! kernel's pktgen does it (magic, sequence, seconds, microseconds; big-endian; net/core/pktgen.c `pktgen_hdr`).

use crate::rig::{A_IP, B_IP};
use etherparse::PacketBuilder;

/// Source address of generated frames: no interface has it, so the sink counts exactly these.
pub const SOURCE_MAC: [u8; 6] = [0x02, 0x53, 0x57, 0x42, 0x00, 0x01];
/// The UDP "discard" port.
const PORT: u16 = 9;
/// `PKTGEN_MAGIC` of the kernel.
const MAGIC: u32 = 0xbe9b_e955;
/// Ethernet, IPv4 and UDP headers.
const HEADERS: usize = 14 + 20 + 8;
/// Shortest frame: the Ethernet minimum without FCS. It also holds the 16-byte payload header.
pub const MIN_LEN: usize = 60;
/// Longest frame: MTU 1500 plus the Ethernet header.
pub const MAX_LEN: usize = 1514;

/// Builds the frame of `len` bytes (Ethernet header included, FCS not) to `destination`; `len` is clamped to
/// [`MIN_LEN`]..=[`MAX_LEN`].
pub fn build(destination: [u8; 6], len: usize) -> Vec<u8> {
    let mut payload = vec![0u8; len.clamp(MIN_LEN, MAX_LEN) - HEADERS];
    for (byte, magic) in payload.iter_mut().zip(MAGIC.to_be_bytes()) {
        *byte = magic;
    }
    let builder =
        PacketBuilder::ethernet2(SOURCE_MAC, destination).ipv4(A_IP.octets(), B_IP.octets(), 64).udp(PORT, PORT);
    let mut frame = Vec::with_capacity(builder.size(payload.len()));
    // Writing to a Vec cannot fail, and the length was clamped above.
    let _ = builder.write(&mut frame, &payload);
    frame
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
}
