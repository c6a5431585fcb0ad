//! Extension headers of IPv6 packets to own addresses (RFC 8200 section 4): what stands behind them, or why the packet
//! is not to be looked at further.

use super::icmp6::Error;
use crate::path::route::ipv6::{IPV6_HEADER, is_multicast};
use crate::path::transport::{DESTINATION_OPTIONS, EXTENSION_HEADERS_MAX, HOP_BY_HOP, ROUTING};

/// Where the fixed header says what follows.
const NEXT_HEADER: usize = 6;

/// The one option without a length.
const PAD_1: u8 = 0;

/// What an unknown option says about packets that have it, in its two highest bits (RFC 8200 4.2).
const SKIP: u8 = 0;
const DISCARD: u8 = 1;
const TELL: u8 = 2;

/// The header behind a packet's extension headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Upper {
    /// Where its number stands.
    pub next_at: usize,
    /// Where it starts.
    pub at: usize,
}

/// Why a packet is dropped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Problem {
    /// Without a word.
    Silent,
    /// Its sender is to be told.
    Told(Error),
}

/// Walks over extension headers; a fragment header is none of them.
pub(super) fn upper(packet: &[u8]) -> Result<Upper, Problem> {
    let byte = |at: usize| packet.get(at).copied().ok_or(Problem::Silent);
    let mut found = Upper { next_at: NEXT_HEADER, at: IPV6_HEADER };
    for _ in 0..EXTENSION_HEADERS_MAX {
        let Upper { next_at, at } = found;
        let next = byte(next_at)?;
        if !matches!(next, HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS) {
            return Ok(found);
        }
        let end = at + 8 * (usize::from(byte(at + 1)?) + 1);
        match next {
            HOP_BY_HOP if next_at != NEXT_HEADER => {
                return Err(Problem::Told(Error::UnknownNextHeader(next_at as u32)));
            }
            // No kind of route is followed here (RFC 8200 4.4, RFC 5095).
            ROUTING if byte(at + 3)? != 0 => return Err(Problem::Told(Error::BadField(at as u32 + 2))),
            ROUTING => {}
            _ => options(packet, at + 2, end)?,
        }
        found = Upper { next_at: at, at: end };
    }
    Err(Problem::Silent)
}

/// Looks at options from `at` to `end`: none that is known asks for anything here.
fn options(packet: &[u8], mut at: usize, end: usize) -> Result<(), Problem> {
    let options = packet.get(..end).ok_or(Problem::Silent)?;
    let destination = packet.get(24..).and_then(<[u8]>::first_chunk).map_or(0, |bytes| u128::from_be_bytes(*bytes));
    while let Some(&kind) = options.get(at) {
        if kind == PAD_1 {
            at += 1;
            continue;
        }
        match kind >> 6 {
            SKIP => {}
            TELL => return Err(Problem::Told(Error::UnknownOption(at as u32))),
            action if action != DISCARD && !is_multicast(destination) => {
                return Err(Problem::Told(Error::UnknownOption(at as u32)));
            }
            _ => return Err(Problem::Silent),
        }
        at += 2 + usize::from(*options.get(at + 1).ok_or(Problem::Silent)?);
    }
    if at == end { Ok(()) } else { Err(Problem::Silent) }
}

/// The packet without its extension headers, which end where `upper` says. `None` if it is not all there.
pub(super) fn without(packet: &[u8], upper: Upper) -> Option<Vec<u8>> {
    let end = IPV6_HEADER + usize::from(u16::from_be_bytes(*packet.get(4..)?.first_chunk()?));
    let payload = packet.get(upper.at..end)?;
    let mut plain = packet.get(..IPV6_HEADER)?.to_vec();
    plain.get_mut(4..6)?.copy_from_slice(&(payload.len() as u16).to_be_bytes());
    *plain.get_mut(NEXT_HEADER)? = *packet.get(upper.next_at)?;
    plain.extend_from_slice(payload);
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::path::transport::UDP;
    use proptest::prelude::*;

    /// A UDP packet behind these headers, each with its number and its octets from the second on.
    fn packet(headers: &[(u8, &[u8])]) -> Vec<u8> {
        let (from, to) = ("fd00::2".parse().unwrap(), "fd00::1".parse().unwrap());
        let mut payload = Vec::new();
        for (number, (_, rest)) in headers.iter().enumerate() {
            payload.push(headers.get(number + 1).map_or(UDP, |(kind, _)| *kind));
            payload.extend_from_slice(rest);
        }
        payload.extend([7; 9]);
        let first = headers.first().map_or(UDP, |(kind, _)| *kind);
        let sealed = crate::host::icmp6::envelope(from, to, 64, first, vec![0; payload.len()]);
        [&sealed[..40], &payload].concat()
    }

    const PADDING: [u8; 7] = [0, 1, 4, 0, 0, 0, 0];

    #[test]
    fn known_headers_are_walked_over() {
        assert_eq!(upper(&packet(&[])), Ok(Upper { next_at: 6, at: 40 }));
        let long = [&[1, 1, 11, 0, 0, 0, 0][..], &[0; 8]].concat();
        let done = [0, 0, 0, 0, 0, 0, 0];
        let all = packet(&[(HOP_BY_HOP, &PADDING), (ROUTING, &done), (DESTINATION_OPTIONS, &long)]);
        let found = Upper { next_at: 56, at: 72 };
        assert_eq!(upper(&all), Ok(found));
        let plain = without(&all, found).unwrap();
        assert_eq!((plain[6], &plain[4..6], &plain[40..]), (UDP, &[0, 9][..], &[7; 9][..]));
        assert_eq!((&plain[..4], &plain[7..40]), (&all[..4], &all[7..40]));
    }

    #[test]
    fn what_asks_for_more_is_dropped_and_told_where_that_is_due() {
        let told = |what: Error| Err(Problem::Told(what));
        let option = |kind: u8| packet(&[(DESTINATION_OPTIONS, &[0, 0, kind, 3, 0, 0, 0])]);
        assert_eq!(upper(&option(0x1e)), Ok(Upper { next_at: 40, at: 48 }));
        assert_eq!(upper(&option(0x5e)), Err(Problem::Silent));
        assert_eq!(upper(&option(0x9e)), told(Error::UnknownOption(43)));
        assert_eq!(upper(&option(0xde)), told(Error::UnknownOption(43)));
        let to_many = |kind: u8| {
            let mut packet = option(kind);
            packet[24..26].copy_from_slice(&[0xff, 2]);
            upper(&packet)
        };
        assert_eq!((to_many(0x9e), to_many(0xde)), (told(Error::UnknownOption(43)), Err(Problem::Silent)));
        let route = packet(&[(ROUTING, &[0, 0, 1, 0, 0, 0, 0])]);
        assert_eq!(upper(&route), told(Error::BadField(42)));
        let late = packet(&[(DESTINATION_OPTIONS, &PADDING), (HOP_BY_HOP, &PADDING)]);
        assert_eq!(upper(&late), told(Error::UnknownNextHeader(40)));
        // An option that goes on behind its header, headers that go on behind the packet, and too many of them.
        assert_eq!(upper(&packet(&[(DESTINATION_OPTIONS, &[0, 1, 5, 0, 0, 0, 0])])), Err(Problem::Silent));
        assert_eq!(upper(&packet(&[(DESTINATION_OPTIONS, &[9, 1, 4, 0, 0, 0, 0])])), Err(Problem::Silent));
        assert_eq!(upper(&packet(&[(DESTINATION_OPTIONS, &PADDING[..]); 9])), Err(Problem::Silent));
    }

    proptest! {
        #[test]
        fn any_octets_are_read_without_harm(mut octets in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3) {
            if let Some(next) = octets.get_mut(NEXT_HEADER) {
                *next = [HOP_BY_HOP, ROUTING, DESTINATION_OPTIONS][usize::from(kind)];
            }
            if let Ok(found) = upper(&octets) {
                let _ = without(&octets, found);
            }
        }
    }
}
