//! What a frame must look like where it comes out, worked out the slow and obvious way.

use switch::ids::DomainId;
use switch::limits::FRAME_ROOM;
use switch::path::checksum::Partial;
use switch::table::snapshot::PortSetup;

/// One's-complement sum of 16-bit words (RFC 1071), a word at a time; an odd last byte is a high half.
pub(super) fn slow_sum(bytes: &[u8]) -> u16 {
    bytes.chunks(2).fold(0, |total, word| {
        let word = u32::from(word[0]) << 8 | word.get(1).map_or(0, |&low| u32::from(low));
        let total = u32::from(total) + word;
        (total + (total >> 16)) as u16
    })
}

/// The frame's tag (if it is tagged 0x8100), its EtherType and where what follows that starts. `None` if too short.
fn header(frame: &[u8]) -> Option<(Option<u16>, u16, usize)> {
    let word = |at: usize| Some(u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]));
    match word(12)? {
        0x8100 => Some((Some(word(14)?), word(16)?, 18)),
        ethertype => Some((None, ethertype, 14)),
    }
}

/// `frame` with the checksum finished that a receiver would verify. Where it stands is the switch's own finding,
/// what it is worked out here.
pub(super) fn finished(mut frame: Vec<u8>) -> Vec<u8> {
    let Some((_, ethertype, l3_offset)) = header(&frame) else { return frame };
    let head = &frame[..frame.len().min(FRAME_ROOM)];
    let Some(partial) = Partial::find(head, l3_offset, ethertype) else { return frame };
    let Some(covered) = frame.get(partial.start..partial.start + partial.len) else { return frame };
    let value = match !slow_sum(covered) {
        0 => 0xffff,
        value => value,
    };
    frame[partial.field..partial.field + 2].copy_from_slice(&value.to_be_bytes());
    frame
}

/// Domain of a frame with this tag from `port`.
fn domain(port: &PortSetup, tci: Option<u16>) -> Option<DomainId> {
    match tci.map(|tci| tci & 0xfff) {
        None | Some(0) => port.native,
        Some(vlan) => port.trunk.iter().find(|(id, _)| *id == vlan).map(|(_, domain)| *domain),
    }
}

/// How `frame` (checksum [`finished`]), received on `from`, looks when it leaves through `to`; `None` if it must
/// not leave there whatever the forwarding database says.
pub(super) fn form(from: &PortSetup, to: &PortSetup, frame: &[u8]) -> Option<Vec<u8>> {
    let (tci, _, l3_offset) = header(frame)?;
    let destination: &[u8; 6] = frame.first_chunk()?;
    let isolated = from.flags.isolated && to.flags.isolated;
    let link_local = destination[..5] == [1, 0x80, 0xc2, 0, 0] && destination[5] < 16;
    let from_group = frame[6] & 1 == 1;
    if from.id == to.id || !from.forwarding || !to.forwarding || isolated || link_local || from_group {
        return None;
    }
    let flooded = match destination {
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] => to.flags.flood_broadcast,
        [first, ..] if first & 1 == 1 => to.flags.flood_multicast,
        // Whether the station is known is the forwarding database's business.
        _ => true,
    };
    let untagged_len = frame.len() - (l3_offset - 14);
    if !flooded || untagged_len > to.mtu as usize + 14 {
        return None;
    }
    let domain = domain(from, tci)?;
    let mut out = frame[..12].to_vec();
    if to.native != Some(domain) {
        let (vlan, _) = to.trunk.iter().find(|(_, other)| *other == domain)?;
        out.extend_from_slice(&[0x81, 0]);
        out.extend_from_slice(&(tci.unwrap_or(0) & 0xf000 | vlan).to_be_bytes());
    }
    out.extend_from_slice(&frame[l3_offset - 2..]);
    Some(out)
}
