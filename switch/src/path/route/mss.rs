//! Lowers the maximum segment size that a TCP connection announces to what fits the way (RFC 9293 3.7.1), so that
//! ends whose path-MTU discovery does not work still talk.

use super::Packet;
use super::ipv4::update;
use crate::path::output::finish_checksum;
use crate::path::transport::{self, TCP, TCP_HEADER};
use crate::path::{Ctx, Meta};
use crate::port::Frame;

const SYN: u8 = 0x02;
const END: u8 = 0;
const NOP: u8 = 1;
const MSS: u8 = 2;

/// Lowers the option in a SYN to what `mtu` leaves room for; other packets stay as they are.
pub fn clamp(ctx: &mut Ctx<'_>, frame: &mut Frame, meta: &Meta, packet: Packet, mtu: u32) {
    let head = ctx.pool.region().head(frame);
    let Some(found) = transport::locate(head, packet.l3_offset, meta.ethertype) else { return };
    let is_syn = found.protocol == TCP && head.get(found.start + 13).is_some_and(|flags| flags & SYN != 0);
    if !is_syn {
        return;
    }
    let headers = found.start - packet.l3_offset + TCP_HEADER;
    let room = (mtu as usize).saturating_sub(headers).min(usize::from(u16::MAX)) as u16;
    // The sum must be whole before it is changed for a field that it covers.
    let from = ctx.ingress;
    finish_checksum(ctx, frame, from, meta, packet.l3_offset);
    lower(ctx.pool.region().head_mut(frame), found.start, room);
}

/// Lowers the option of the TCP header at `start`, and mends the checksum.
fn lower(head: &mut [u8], start: usize, room: u16) -> Option<()> {
    let tcp = head.get_mut(start..)?;
    let end = usize::from(tcp.get(12)? >> 4) * 4;
    let mut at = TCP_HEADER;
    while at < end {
        match *tcp.get(at)? {
            END => return None,
            NOP => at += 1,
            kind => {
                let len = usize::from(*tcp.get(at + 1)?);
                if kind == MSS && len == 4 && at + 4 <= end {
                    let value: &mut [u8; 2] = tcp.get_mut(at + 2..)?.first_chunk_mut()?;
                    let before = u16::from_be_bytes(*value);
                    if before <= room {
                        return None;
                    }
                    *value = room.to_be_bytes();
                    let sum: &mut [u8; 2] = tcp.get_mut(16..)?.first_chunk_mut()?;
                    *sum = change(u16::from_be_bytes(*sum), at, before, room).to_be_bytes();
                    return Some(());
                }
                if len < 2 {
                    return None;
                }
                at += len;
            }
        }
    }
    None
}

/// The checksum after the value behind an option at `at` changed. At an odd offset the value's octets lie in two
/// words: as if swapped, since the sum does not care about the order of octets within it (RFC 1071 section 2).
fn change(sum: u16, at: usize, before: u16, after: u16) -> u16 {
    if at.is_multiple_of(2) { update(sum, before, after) } else { update(sum, before.swap_bytes(), after.swap_bytes()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::checksum;
    use crate::path::transport::ETHERTYPE_IPV4;
    use etherparse::{PacketBuilder, TcpOptionElement};

    fn syn(mss: u16, shift: bool) -> Vec<u8> {
        let mut options = vec![TcpOptionElement::MaximumSegmentSize(mss), TcpOptionElement::WindowScale(7)];
        if shift {
            options.insert(0, TcpOptionElement::Noop);
        }
        let mut frame = Vec::new();
        PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 1, 0, 2], [10, 2, 0, 3], 64)
            .tcp(1000, 80, 7, 1000)
            .syn()
            .options(&options)
            .unwrap()
            .write(&mut frame, &[])
            .unwrap();
        frame
    }

    #[test]
    fn a_segment_size_is_lowered_never_raised_and_the_sum_stays_right() {
        for shift in [false, true] {
            for (mss, room, after) in [(1460, 1360, 1360), (1360, 1360, 1360), (536, 1360, 536), (65_535, 1, 1)] {
                let mut frame = syn(mss, shift);
                lower(&mut frame, 34, room);
                let at = 34 + 20 + 2 + usize::from(shift);
                assert_eq!(u16::from_be_bytes([frame[at], frame[at + 1]]), after, "{mss} {room} {shift}");
                assert_eq!(checksum::verify(&frame, 14, ETHERTYPE_IPV4, std::iter::empty()), Some(true));
            }
        }
    }

    #[test]
    fn options_that_lead_nowhere_are_left_alone() {
        let mut frame = syn(1460, false);
        frame[54] = 77;
        frame[55] = 0;
        let before = frame.clone();
        assert_eq!(lower(&mut frame, 34, 500), None);
        assert_eq!(frame, before);
        assert_eq!(lower(&mut frame[..40], 34, 500), None);
    }
}
