//! Octets against fixtures and etherparse, the schedule of RFC 4861 section 6.2 step by step, solicitations.

use etherparse::Icmpv6Slice;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x42, 0, 0, 1);
const HOST: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9);

fn settings() -> Settings {
    Settings {
        mac: Mac::new([2, 0x42, 0, 0, 0, 1]),
        source: SOURCE,
        prefixes: vec!["fd00:244:1::1/64".parse().unwrap()],
        dns: Vec::new(),
        search: Vec::new(),
        mtu: None,
        lifetime_seconds: 1800,
        interval_seconds: 600,
        managed: false,
        other: false,
    }
}

/// The message but its checksum, which is checked with an independent implementation.
fn without_checksum(mut message: Vec<u8>) -> Vec<u8> {
    let slice = Icmpv6Slice::from_slice(&message).unwrap();
    assert!(slice.is_checksum_valid(SOURCE.octets(), ALL_NODES.octets()));
    message[2..4].fill(0);
    message
}

#[rustfmt::skip]
#[test]
fn an_advertisement_is_these_octets() {
    let expected = [
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 2, 0x42, 0, 0, 0, 1,
        3, 4, 64, 0xc0, 0x00, 0x27, 0x8d, 0x00, 0x00, 0x09, 0x3a, 0x80, 0, 0, 0, 0,
        0xfd, 0, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(without_checksum(settings().advertisement()), expected);
}

#[rustfmt::skip]
#[test]
fn mtu_dns_and_search_list_are_these_octets() {
    let full = Settings {
        prefixes: vec![],
        dns: vec!["fd00::53".parse().unwrap(), "fd00::54".parse().unwrap()],
        search: vec!["pods.test".to_string(), "a.b".to_string()],
        mtu: Some(1450),
        managed: true,
        other: true,
        ..settings()
    };
    let expected = [
        134, 0, 0, 0, 64, 0xc0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 2, 0x42, 0, 0, 0, 1,
        5, 1, 0, 0, 0, 0, 0x05, 0xaa,
        25, 5, 0, 0, 0, 0, 0x07, 0x08,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x53,
        0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x54,
        31, 3, 0, 0, 0, 0, 0x07, 0x08,
        4, b'p', b'o', b'd', b's', 4, b't', b'e', b's', b't', 0, 1, b'a', 1, b'b', 0,
    ];
    assert_eq!(without_checksum(full.advertisement()), expected);
    let odd = Settings { search: vec!["pods.test".to_string()], ..full.clone() }.advertisement();
    assert_eq!(odd[odd.len() - 24..odd.len() - 22], [31, 3]);
    assert_eq!(odd[odd.len() - 6..], [0; 6], "the name's end and padding to eight octets");
    let m = Settings { other: false, ..full.clone() }.advertisement()[5];
    let o = Settings { managed: false, ..full }.advertisement()[5];
    assert_eq!((m, o), (0x80, 0x40));
}

#[test]
fn the_last_advertisement_ends_the_default_router() {
    let last = without_checksum(Advertiser::new(settings(), 1, 0).stop());
    assert_eq!(last[6..8], [0, 0]);
    assert_eq!(last[8..], without_checksum(settings().advertisement())[8..], "and nothing else");
}

/// When the next messages go out, with nobody asking.
fn times(advertiser: &mut Advertiser, count: usize) -> Vec<u64> {
    let mut times = Vec::new();
    for _ in 0..count {
        let due = advertiser.due_ms();
        assert_eq!(advertiser.poll(due - 1), None);
        assert!(advertiser.poll(due).is_some());
        times.push(due);
    }
    times
}

#[test]
fn three_initial_advertisements_come_soon_then_at_random_within_the_interval() {
    let mut seen = Vec::new();
    for seed in 0..200 {
        let times = times(&mut Advertiser::new(settings(), seed, 1_000_000), 20);
        assert!((1_000_000..=1_000_500).contains(&times[0]), "{times:?}");
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..2], [16_000, 16_000]);
        assert!(gaps[2..].iter().all(|gap| (198_000..=600_000).contains(gap)), "{gaps:?}");
        seen.extend_from_slice(&gaps[2..]);
    }
    let (low, high) =
        (seen.iter().filter(|gap| **gap < 250_000).count(), seen.iter().filter(|gap| **gap > 550_000).count());
    assert!(low > 300 && high > 300 && low + high < 1500, "spread over the interval: {low} {high} of {}", seen.len());
}

#[test]
fn short_intervals_are_kept() {
    let mut advertiser = Advertiser::new(Settings { interval_seconds: 4, ..settings() }, 7, 0);
    let times = times(&mut advertiser, 10);
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 4_000), "{times:?}");
    let mut advertiser = Advertiser::new(Settings { interval_seconds: 9, ..settings() }, 7, 0);
    let times = self::times(&mut advertiser, 10);
    assert!(times.windows(2).all(|pair| (3_000..=9_000).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn a_solicitation_is_answered_within_half_a_second() {
    for seed in 0..100 {
        let mut advertiser = Advertiser::new(settings(), seed, 0);
        let last = *times(&mut advertiser, 5).last().unwrap();
        let asked = last + 10_000;
        advertiser.solicited(asked);
        let due = advertiser.due_ms();
        assert!((asked..=asked + 500).contains(&due), "{due} {asked}");
        advertiser.solicited(asked + 1);
        assert!(advertiser.due_ms() <= due, "more who ask do not delay it");
        let due = advertiser.due_ms();
        assert!(advertiser.poll(due).is_some());
        assert_eq!(advertiser.poll(due + 1), None, "one answer for both");
        assert!(advertiser.due_ms() >= due + 198_000, "the timer starts anew with each multicast");
    }
}

#[test]
fn advertisements_are_three_seconds_apart_however_many_ask() {
    let mut advertiser = Advertiser::new(settings(), 3, 0);
    let mut sent = Vec::new();
    for now in 0..60_000 {
        if now % 7 == 0 {
            advertiser.solicited(now);
        }
        if advertiser.poll(now).is_some() {
            sent.push(now);
        }
    }
    assert!(sent.windows(2).all(|pair| (3_000..=3_500).contains(&(pair[1] - pair[0]))), "{sent:?}");
    assert!(sent.len() >= 17, "{sent:?}");
}

#[test]
fn a_solicitation_just_before_the_next_advertisement_changes_nothing() {
    let mut advertiser = Advertiser::new(settings(), 3, 0);
    times(&mut advertiser, 5);
    let due = advertiser.due_ms();
    advertiser.solicited(due);
    assert_eq!(advertiser.due_ms(), due);
}

#[test]
fn new_settings_are_told_at_once_but_three_seconds_after_the_last() {
    let mut advertiser = Advertiser::new(settings(), 3, 0);
    let last = *times(&mut advertiser, 5).last().unwrap();
    let due = advertiser.due_ms();
    advertiser.reconfigure(settings(), last + 1);
    assert_eq!(advertiser.due_ms(), due, "nothing new");
    let new = Settings { mtu: Some(1400), ..settings() };
    advertiser.reconfigure(new.clone(), last + 1_000);
    assert_eq!(advertiser.due_ms(), last + 3_000);
    assert_eq!(advertiser.poll(last + 3_000), Some(new.advertisement()));
    assert_eq!(advertiser.due_ms(), last + 19_000, "as at a start");
    advertiser.reconfigure(settings(), last + 10_000);
    assert_eq!(advertiser.due_ms(), last + 10_000);
}

/// A solicitation with these options and the right checksum.
fn asked(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    message.extend(options);
    let etherparse = etherparse::Icmpv6Type::Unknown { type_u8: 133, code_u8: 0, bytes5to8: [0; 4] };
    let sum = etherparse.calc_checksum(source.octets(), ALL_ROUTERS.octets(), options).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn check(source: Ipv6Addr, hop_limit: u8, message: &[u8]) -> Result<Option<Mac>, Invalid> {
    solicitation(Received { source, destination: ALL_ROUTERS, hop_limit, message })
}

const SLLA: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 9];

#[test]
fn solicitations_that_are_right_are_taken() {
    assert_eq!(check(HOST, 255, &asked(HOST, &SLLA)), Ok(Some(Mac::new([2, 0, 0, 0, 0, 9]))));
    assert_eq!(check(HOST, 255, &asked(HOST, &[])), Ok(None));
    assert_eq!(check(Ipv6Addr::UNSPECIFIED, 255, &asked(Ipv6Addr::UNSPECIFIED, &[])), Ok(None));
    let unknown = [&[77, 2][..], &[0; 14], &SLLA].concat();
    assert!(matches!(check(HOST, 255, &asked(HOST, &unknown)), Ok(Some(_))), "unknown options are ignored");
    assert_eq!(check(HOST, 255, &asked(HOST, &[1, 1, 255, 255, 255, 255, 255, 255])), Ok(None), "no station's address");
}

#[test]
fn solicitations_that_are_wrong_are_dropped() {
    let good = asked(HOST, &SLLA);
    for hop_limit in [0, 64, 254] {
        assert_eq!(check(HOST, hop_limit, &good), Err(Invalid::HopLimit));
    }
    assert_eq!(check(SOURCE, 255, &good), Err(Invalid::Checksum), "another source");
    for bit in 0..8 * good.len() {
        let mut broken = good.clone();
        broken[bit / 8] ^= 1 << (bit % 8);
        assert!(check(HOST, 255, &broken).is_err(), "bit {bit}");
    }
    assert_eq!(check(HOST, 255, &[SOLICITATION, 1, 0, 0, 0, 0, 0, 0]), Err(Invalid::Type), "code");
    assert_eq!(check(HOST, 255, &[ADVERTISEMENT, 0, 0, 0, 0, 0, 0, 0]), Err(Invalid::Type));
    assert_eq!(check(HOST, 255, &[]), Err(Invalid::Type));
    for length in 2..8 {
        assert_eq!(check(HOST, 255, &good[..length]), Err(Invalid::Length), "{length}");
    }
    assert_eq!(check(HOST, 255, &asked(HOST, &[9, 0, 0, 0, 0, 0, 0, 0])), Err(Invalid::Options), "length 0");
    assert_eq!(check(HOST, 255, &asked(HOST, &SLLA[..7])), Err(Invalid::Options), "cut off");
    assert_eq!(check(HOST, 255, &asked(HOST, &[9])), Err(Invalid::Options), "half a header");
    let unspecified = asked(Ipv6Addr::UNSPECIFIED, &SLLA);
    assert_eq!(check(Ipv6Addr::UNSPECIFIED, 255, &unspecified), Err(Invalid::Source));
    assert_eq!(check(ALL_NODES, 255, &asked(ALL_NODES, &[])), Err(Invalid::Source));
}

proptest! {
    #[test]
    fn arbitrary_octets_never_panic(hop_limit in 254u8.., octets in vec(any::<u8>(), 0..100), right in any::<bool>()) {
        let message = if right { asked(HOST, &octets) } else { octets };
        let _ = check(HOST, hop_limit, &message);
    }

    #[test]
    fn any_settings_make_a_well_formed_message(
        prefixes in vec(any::<u128>(), 0..20),
        dns in vec(any::<u128>(), 0..140),
        search in vec("[a-z.]{0,80}", 0..60),
    ) {
        let prefixes = prefixes.into_iter().map(|bits| Ipv6Net::new(bits.into(), 64).unwrap()).collect();
        let dns = dns.into_iter().map(Ipv6Addr::from).collect();
        let message = without_checksum(Settings { prefixes, dns, search, ..settings() }.advertisement());
        let mut options = &message[16..];
        while !options.is_empty() {
            prop_assert!(options[1] > 0 && options.len() >= 8 * usize::from(options[1]));
            options = &options[8 * usize::from(options[1])..];
        }
    }
}
