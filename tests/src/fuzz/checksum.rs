//! Target `checksum`: recognising, finishing and verifying checksums in any bytes, cut into any segments.
//!
//! Input: a byte of shape, where layer 3 starts, bytes that say where to cut, the frame.

use switch::path::checksum::{self, Finish, Partial};
use switch::path::transport;

use super::oracle::slow_sum;
use super::{Input, pick};

/// See the module text.
pub fn run(data: &[u8]) {
    let mut input = Input(data);
    // Enough bytes for a shape, or there is nothing to do.
    let _ = try_run(&mut input);
}

fn try_run(input: &mut Input<'_>) -> Option<()> {
    let shape = input.byte()?;
    let ethertype = pick(&[transport::ETHERTYPE_IPV4, transport::ETHERTYPE_IPV6, 0x0806, 0x8100], shape);
    let l3_offset = pick(&[14, 18, 0, usize::from(input.byte()?)], shape >> 2);
    let cuts = input.take(usize::from(shape >> 5));
    let head_len = input.word()?;
    let mut frame = input.0.to_vec();
    if shape & 0x10 != 0 {
        make_partial(&mut frame, l3_offset, ethertype);
    }
    check_sum(&frame, cuts);
    let head_len = usize::from(head_len).min(frame.len());
    let whole = check_finish(&frame, frame.len(), l3_offset, ethertype, &[]);
    let split = check_finish(&frame, head_len, l3_offset, ethertype, cuts);
    // A head that ends inside the headers may show less than the whole frame; else both must agree.
    if Partial::find(&frame, l3_offset, ethertype) == Partial::find(&frame[..head_len], l3_offset, ethertype) {
        assert_eq!(whole, split, "the same frame in one piece and in segments");
    }
    Some(())
}

/// Puts the pseudo-header's sum into the checksum field, as a container's kernel does, so that mutations get past
/// the comparison. In the inner packet of a tunnel, if there is one.
fn make_partial(frame: &mut [u8], l3_offset: usize, ethertype: u16) {
    let Some(outer) = transport::locate(frame, l3_offset, ethertype) else { return };
    let packet = transport::locate_tunnelled(frame, &outer).unwrap_or(outer);
    let Some(field) = packet.checksum_field(frame) else { return };
    if let Some(bytes) = frame.get_mut(field..field + 2) {
        bytes.copy_from_slice(&packet.pseudo_header_sum().to_be_bytes());
    }
}

/// The fast sum against the slow one, whole and put together from pieces.
fn check_sum(bytes: &[u8], cuts: &[u8]) {
    assert_eq!(checksum::sum(bytes), slow_sum(bytes));
    let (mut total, mut done) = (0, 0);
    for piece in pieces(bytes, cuts) {
        total = checksum::combine(total, done, checksum::sum(piece));
        done += piece.len();
    }
    assert_eq!(total, slow_sum(bytes), "cut at {cuts:?}");
}

/// `bytes` cut into lengths that `cuts` give, zero too, and the rest.
fn pieces<'a>(bytes: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut rest = Input(bytes);
    let mut pieces: Vec<_> = cuts.iter().map(|&cut| rest.take(usize::from(cut))).collect();
    pieces.push(rest.0);
    pieces
}

/// Finishes `frame` with the first `head_len` bytes as its head and returns what became of it, after checking that
/// two bytes changed at most, and to the right value.
fn check_finish(frame: &[u8], head_len: usize, l3_offset: usize, ethertype: u16, cuts: &[u8]) -> Vec<u8> {
    let mut result = frame.to_vec();
    let (head, tail) = result.split_at_mut(head_len);
    let partial = Partial::find(head, l3_offset, ethertype);
    let done = checksum::finish_partial(head, l3_offset, ethertype, pieces(tail, cuts).into_iter());
    let whole = partial.filter(|partial| partial.start + partial.len <= frame.len());
    assert_eq!(done == Finish::Finished, whole.is_some(), "{partial:?} in {} bytes", frame.len());
    let Some(partial) = whole else {
        assert_eq!(result, frame, "not finished, so not touched");
        check_verify(&result, head_len, l3_offset, ethertype, cuts);
        return result;
    };
    let value = match !slow_sum(&frame[partial.start..partial.start + partial.len]) {
        0 => 0xffff,
        value => value,
    };
    let mut expected = frame.to_vec();
    expected[partial.field..partial.field + 2].copy_from_slice(&value.to_be_bytes());
    assert_eq!(result, expected);
    let verified = check_verify(&result, head_len, l3_offset, ethertype, cuts);
    let outer = transport::locate(&result[..head_len], l3_offset, ethertype);
    if outer.is_some_and(|outer| outer.checksum_field(&result[..head_len]) == Some(partial.field)) {
        assert_eq!(verified, Some(true), "a finished checksum is a right one");
    }
    result
}

/// What `verify` says, after comparing it with the slow sum.
fn check_verify(frame: &[u8], head_len: usize, l3_offset: usize, ethertype: u16, cuts: &[u8]) -> Option<bool> {
    let (head, tail) = frame.split_at(head_len);
    let verified = checksum::verify(head, l3_offset, ethertype, pieces(tail, cuts).into_iter());
    if let (Some(right), Some(packet)) = (verified, transport::locate(head, l3_offset, ethertype)) {
        let field = packet.checksum_field(head).expect("something was verified");
        let absent = packet.protocol == 17 && frame[field..field + 2] == [0, 0];
        let payload = &frame[packet.start..packet.start + packet.len];
        let sum = checksum::fold(u64::from(packet.pseudo_header_sum()) + u64::from(slow_sum(payload)));
        assert_eq!(right, sum == 0xffff && !absent);
    }
    verified
}
