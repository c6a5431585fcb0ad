//! Octets against fixtures and etherparse, the schedule of RFC 4861 section 6.2 step by step.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const SOURCE: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x42, 0, 0, 1);

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

#[rustfmt::skip]
#[test]
fn an_advertisement_is_these_octets() {
    let expected = [
        134, 0, 0, 0, 64, 0, 0x07, 0x08, 0, 0, 0, 0, 0, 0, 0, 0,
        1, 1, 2, 0x42, 0, 0, 0, 1,
        3, 4, 64, 0xc0, 0x00, 0x27, 0x8d, 0x00, 0x00, 0x09, 0x3a, 0x80, 0, 0, 0, 0,
        0xfd, 0, 2, 0x44, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];
    assert_eq!(settings().advertisement(), expected);
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
    assert_eq!(full.advertisement(), expected);
    let odd = Settings { search: vec!["pods.test".to_string()], ..full.clone() }.advertisement();
    assert_eq!(odd[odd.len() - 24..odd.len() - 22], [31, 3]);
    assert_eq!(odd[odd.len() - 6..], [0; 6], "the name's end and padding to eight octets");
    let m = Settings { other: false, ..full.clone() }.advertisement()[5];
    let o = Settings { managed: false, ..full }.advertisement()[5];
    assert_eq!((m, o), (0x80, 0x40));
}

/// Third octets and lifetimes, valid and preferred, of the prefixes in a message.
fn prefixes(message: &[u8]) -> Vec<(u8, [u32; 2])> {
    let (mut found, mut options) = (Vec::new(), &message[16..]);
    while let [kind, len, ..] = *options {
        let (option, rest) = options.split_at(8 * usize::from(len));
        if kind == OPTION_PREFIX {
            assert_eq!(option[2..4], [64, 0xc0], "for SLAAC, and on the link");
            let word = |at: usize| u32::from_be_bytes(*option[at..].first_chunk().unwrap());
            found.push((option[16 + 5], [word(4), word(8)]));
        }
        options = rest;
    }
    found
}

#[test]
fn the_last_advertisement_ends_the_default_router_and_its_prefixes() {
    let mut advertiser = Advertiser::new(settings(), 1, 0);
    let last = advertiser.stop();
    assert_eq!(last[6..8], [0, 0]);
    assert_eq!(prefixes(&last), [(1, [0, 0])]);
    assert_eq!((&last[8..24], last.len()), (&settings().advertisement()[8..24], settings().advertisement().len()));
    advertiser.reconfigure(with_prefixes(&[2]), 0);
    assert_eq!(prefixes(&advertiser.stop()), [(2, [0, 0]), (1, [0, 0])]);
}

/// Settings with prefixes of these third octets.
fn with_prefixes(numbers: &[u8]) -> Settings {
    let prefix = |number| format!("fd00:244:{number:x}::/64").parse().unwrap();
    Settings { prefixes: numbers.iter().map(prefix).collect(), ..settings() }
}

#[test]
fn prefixes_that_go_are_taken_back_three_times() {
    let mut advertiser = Advertiser::new(with_prefixes(&[1, 2]), 3, 0);
    let next = |advertiser: &mut Advertiser| prefixes(&advertiser.poll(advertiser.due_ms()).unwrap());
    let usual = [2_592_000, 604_800];
    assert_eq!(next(&mut advertiser), [(1, usual), (2, usual)]);
    advertiser.reconfigure(with_prefixes(&[2, 3]), 1_000);
    assert_eq!(next(&mut advertiser), [(2, usual), (3, usual), (1, [0, 0])]);
    // Host bits are no other prefix: settings() has the address of one.
    advertiser.reconfigure(settings(), 10_000);
    assert_eq!(next(&mut advertiser), [(1, usual), (2, [0, 0]), (3, [0, 0])], "the first one is back");
    for _ in 0..2 {
        assert_eq!(next(&mut advertiser), [(1, usual), (2, [0, 0]), (3, [0, 0])]);
    }
    assert_eq!(next(&mut advertiser), [(1, usual)]);
    for number in 0..100 {
        advertiser.reconfigure(with_prefixes(&[number]), 100_000);
    }
    let expected = |first| -> Vec<(u8, [u32; 2])> {
        std::iter::once((99, usual)).chain((first..99).take(17).map(|number| (number, [0, 0]))).collect()
    };
    for first in [35, 35, 35, 52, 52, 52, 69, 69, 69, 86, 86, 86, 99] {
        assert_eq!(next(&mut advertiser), expected(first), "64 at most, as many at a time as there is room for");
    }
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

proptest! {
    #[test]
    fn any_settings_make_a_well_formed_message(
        prefixes in vec(any::<u128>(), 0..20),
        dns in vec(any::<u128>(), 0..140),
        search in vec("[a-z.]{0,80}", 0..60),
    ) {
        let prefixes = prefixes.into_iter().map(|bits| Ipv6Net::new(bits.into(), 64).unwrap()).collect();
        let dns = dns.into_iter().map(Ipv6Addr::from).collect();
        let message = Settings { prefixes, dns, search, ..settings() }.advertisement();
        let mut options = &message[16..];
        while !options.is_empty() {
            prop_assert!(options[1] > 0 && options.len() >= 8 * usize::from(options[1]));
            options = &options[8 * usize::from(options[1])..];
        }
    }
}
