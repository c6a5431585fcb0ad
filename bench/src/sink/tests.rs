//! The sink's program in the kernel, over frames made here (no interface involved), and the sums made of its tallies.

use super::*;
use crate::latency::bucket;
use crate::load::{Load, frame};

/// The program, when this process may load one.
fn core() -> Option<Core> {
    core_for(Marks::Source)
}

fn core_for(marks: Marks) -> Option<Core> {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: bench: the sink's program: needs root");
        return None;
    }
    Some(Core::load(marks).expect("the kernel takes the sink's program"))
}

fn stamped(sequence: u32, time_ns: u64) -> Vec<u8> {
    let mut bytes = frame::build([2, 0, 0, 0, 0, 9], 60);
    let base = frame::checksum_base(&bytes);
    frame::stamp(&mut bytes, base, sequence, time_ns);
    bytes
}

fn feed(core: &Core, sequences: impl IntoIterator<Item = u32>) -> Tally {
    feed_from(core, 0, sequences)
}

fn feed_from(core: &Core, first: u32, sequences: impl IntoIterator<Item = u32>) -> Tally {
    core.clear(Clock::MonotonicNs, first).unwrap();
    for sequence in sequences {
        let verdict = core.program.run(&mut stamped(sequence, now_ns(ClockId::Monotonic))).unwrap();
        assert_eq!(verdict, program::DROP as u32);
    }
    core.read().unwrap()
}

#[test]
fn loss_reordering_and_duplicates_are_told_apart() {
    let Some(core) = core() else { return };
    let counts = |t: Tally| (t.received, t.gaps, t.reordered, t.duplicates, t.next);
    assert_eq!(counts(feed(&core, 0..100)), (100, 0, 0, 0, 100));
    assert_eq!(counts(feed(&core, [0, 1, 4, 5, 9])), (5, 2, 0, 0, 10));
    assert_eq!(counts(feed(&core, [0, 2, 1, 3])), (4, 1, 1, 0, 4));
    assert_eq!(counts(feed(&core, [0, 1, 1, 2, 0])), (5, 0, 0, 2, 3));
    // A whole window later the words of the bitmap are used again.
    assert_eq!(counts(feed(&core, [5, 5 + 65536, 5 + 65536, 6 + 65536])), (4, 2, 0, 1, 65543));
    // Sequence numbers are 32 bits wide and go round.
    let round = [0x7fff_ffff, 0xffff_fff0, 0xffff_ffff, 0, 1];
    assert_eq!(counts(feed(&core, round)), (5, 3, 0, 0, 2));
    // The kernel's generator begins with 1: its first number leaves no hole, and a hundred of them are a hundred.
    let first = Load::Pktgen.first_sequence();
    assert_eq!(counts(feed_from(&core, first, 1..=100)), (100, 0, 0, 0, 100));
    assert_eq!(counts(feed_from(&core, first, 2..=100)), (99, 1, 0, 0, 100));
}

#[test]
fn latency_falls_into_the_bucket_that_reading_expects() {
    let Some(core) = core() else { return };
    for expected_ns in [2_000_000, 50_000_000, 1_000_000_000, 20_000_000_000, 65_000_000_000u64] {
        // The middle of a bucket, so that the time between stamp and program does not matter.
        let middle = expected_ns + expected_ns / 64;
        for clock in [Clock::MonotonicNs, Clock::RealtimeUs] {
            core.clear(clock, 0).unwrap();
            let mut bytes = stamped(0, now_ns(ClockId::Monotonic).saturating_sub(middle));
            if clock == Clock::RealtimeUs {
                let time_ns = now_ns(ClockId::Realtime) - middle;
                let (seconds, us) = ((time_ns / SECOND_NS) as u32, (time_ns % SECOND_NS / 1000) as u32);
                bytes[frame::SECONDS_AT..][..4].copy_from_slice(&seconds.to_be_bytes());
                bytes[frame::SUBSECONDS_AT..][..4].copy_from_slice(&us.to_be_bytes());
            }
            core.program.run(&mut bytes).unwrap();
            let latency = core.read().unwrap().latency;
            let at = latency.counts.iter().position(|count| *count == 1).unwrap();
            assert_eq!(latency.counts.iter().sum::<u64>(), 1);
            let off = latency.max_ns.abs_diff(middle);
            assert!(off < 1_000_000 && at == bucket(latency.max_ns), "{clock:?} {middle}: {} in {at}", latency.max_ns);
            assert_eq!(latency.sum_ns, latency.max_ns);
        }
    }
}

#[test]
fn small_and_negative_latencies_do_not_leave_the_histogram() {
    let Some(core) = core() else { return };
    core.clear(Clock::MonotonicNs, 0).unwrap();
    core.program.run(&mut stamped(0, now_ns(ClockId::Monotonic) + 10 * SECOND_NS)).unwrap();
    core.program.run(&mut stamped(1, 0)).unwrap();
    let latency = core.read().unwrap().latency;
    // One from the future counts as nothing, one from the time of boot as too long to tell.
    assert_eq!(latency.counts[0], 1);
    assert_eq!(latency.counts[bucket(latency.max_ns)], 1);
}

#[test]
fn other_frames_pass_and_unstamped_ones_are_named() {
    let Some(core) = core() else { return };
    core.clear(Clock::MonotonicNs, 0).unwrap();
    let mut other = stamped(0, 0);
    other[6] ^= 0x10;
    assert_eq!(core.program.run(&mut other).unwrap(), program::PASS as u32);
    assert_eq!(core.program.run(&mut other[..42]).unwrap(), program::PASS as u32);
    let mut unstamped = stamped(0, 0);
    unstamped[frame::MAGIC_AT] ^= 1;
    assert_eq!(core.program.run(&mut unstamped).unwrap(), program::DROP as u32);
    let tally = core.read().unwrap();
    assert_eq!((tally.received, tally.bytes, tally.others, tally.unstamped), (1, 60, 2, 1));
}

#[test]
fn by_their_magic_frames_are_known_whatever_their_addresses() {
    let Some(core) = core_for(Marks::Magic) else { return };
    let mut bytes = stamped(0, 0);
    bytes[..12].copy_from_slice(&[0xff; 12]);
    assert_eq!(core.program.run(&mut bytes).unwrap(), program::DROP as u32);
    let mut other = stamped(1, 0);
    other[frame::MAGIC_AT] ^= 1;
    assert_eq!(core.program.run(&mut other).unwrap(), program::PASS as u32);
    let tally = core.read().unwrap();
    assert_eq!((tally.received, tally.others, tally.unstamped), (1, 1, 0));
}

fn reading(interface: u64, tally: Tally) -> Reading {
    Reading { tally, interface }
}

#[test]
fn counters_that_agree_are_no_fault() {
    let tally = Tally { received: 91, others: 3, duplicates: 1, next: 95, gaps: 2, ..Tally::default() };
    // One other frame came between clearing and the first reading.
    let before = Tally { others: 1, ..Tally::default() };
    let (sequence, faults) = Sequence::check(100, &reading(1000, before), &reading(1093, tally));
    assert_eq!(faults, Vec::<String>::new());
    let expected = Sequence {
        unique: 90,
        duplicates: 1,
        gaps: 2,
        lost_within: 5,
        lost_at_end: 5,
        lost_by_interface: 9,
        reordered: 0,
    };
    assert_eq!((sequence, sequence.lost()), (expected, 10));
}

#[test]
fn counters_that_disagree_are_a_fault() {
    let fault = |sent, interface, tally| {
        let (_, faults) = Sequence::check(sent, &reading(0, Tally::default()), &reading(interface, tally));
        faults.join("; ")
    };
    let full = Tally { received: 10, next: 10, ..Tally::default() };
    assert_eq!(fault(10, 10, full.clone()), "");
    assert_eq!(fault(10, 9, full.clone()), "b0 counted 9 generated frames, the sink 10");
    assert_eq!(fault(8, 10, full.clone()), "sequence number 9 arrived, 8 frames were sent");
    assert_eq!(fault(10, 10, Tally { unstamped: 2, ..full.clone() }), "2 frames arrived without their stamp");
    assert_eq!(fault(10, 10, Tally { next: 9, ..full }), "10 sequence numbers arrived of 9");
}

#[test]
fn a_sequence_that_went_round_is_understood() {
    let sent = (1u64 << 32) + 50;
    let tally = Tally { received: 1 << 32, next: 40, ..Tally::default() };
    let (sequence, faults) = Sequence::check(sent, &reading(0, Tally::default()), &reading(1 << 32, tally));
    assert_eq!((faults.len(), sequence.lost_at_end, sequence.lost_within, sequence.lost_by_interface), (0, 10, 40, 50));
}

#[test]
fn interface_counters_are_read() {
    let text = "Inter-|   Receive  |  Transmit\n face |bytes packets|bytes\n    lo:  10   1 0 0\n    b0: 600  10 0 0\n";
    assert_eq!(parse_net_dev(text, "b0").unwrap(), 10);
    assert!(parse_net_dev(text, "b").is_err());
}
