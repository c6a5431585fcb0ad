//! Many addresses through the packet path: a million learned, listed and aged out; a flood of made-up ones.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::limits::FDB_ENTRIES_MAX;

/// Addresses of the large table.
const MILLION: u64 = 1_000_000;

/// What all of it may take, in the development profile on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// EtherTypes for local experiments (IEEE 802): the crowd's frames, and those that are followed one by one.
const CROWD: [u8; 2] = [0x88, 0xb5];
const FOLLOWED: [u8; 2] = [0x88, 0xb6];

/// Three ports, with room for `entries` learned addresses.
fn three_with(entries: u32) -> Bench {
    let mut bench = Bench::new(&format!("fdb_entries = {entries}\n{THREE}"), 1);
    for (ifindex, name) in [(1, "a"), (2, "b"), (3, "c")] {
        bench.up(ifindex, name);
    }
    bench
}

fn frame(dst: Mac, src: Mac, ethertype: [u8; 2]) -> Vec<u8> {
    let mut frame = [&dst.octets()[..], &src.octets(), &ethertype].concat();
    frame.resize(60, 0x5a);
    frame
}

impl Bench {
    fn wire(&self, port: &str) -> Arc<Wire> {
        Arc::clone(&self.lab().wires[port][0])
    }

    /// Lets the worker take in what waits on the wires; the clock stands still.
    fn forward(&mut self) {
        let now_ns = self.now.duration_since(self.epoch).as_nanos() as u64;
        while self.workers.iter_mut().map(|worker| worker.poll_once(now_ns)).sum::<usize>() > 0 {}
    }

    /// Sends frames into a port; what came out of each of "a", "b" and "c" is shown to `see`.
    fn pass(&mut self, from: &str, frames: impl Iterator<Item = Vec<u8>>, mut see: impl FnMut(usize, &[u8])) {
        let (input, outputs) = (self.wire(from), ["a", "b", "c"].map(|port| self.wire(port)));
        let mut frames = frames.peekable();
        while frames.peek().is_some() {
            frames.by_ref().take(64).for_each(|frame| assert!(input.send(&frame), "the wire takes a burst"));
            self.forward();
            for (index, wire) in outputs.iter().enumerate() {
                while let Some(frame) = wire.receive() {
                    see(index, &frame);
                    wire.recycle(frame);
                }
            }
        }
    }

    /// Lists the table in chunks, as a client gets it: how often each number of [`mac`] below `count` was listed
    /// behind port "a", and how many other entries there were.
    fn listed(&mut self, count: u64) -> (Vec<u8>, usize) {
        let Reply::Stream(mut stream) = self.control.handle(Request::ShowFdb(Default::default())) else {
            panic!("show-fdb is a stream");
        };
        let (mut seen, mut others, mut items) = (vec![0u8; count as usize], 0, Vec::new());
        loop {
            let progress = stream.next_chunk(&mut items, &ChunkContext { now: self.now, items_max: 512 });
            assert!(items.len() <= 1024, "a chunk of {} items", items.len());
            for item in items.drain(..) {
                let Item::Fdb(entry) = item else { panic!("{item:?}") };
                let number = Mac::new(entry.mac.0).bits() & 0xff_ffff_ffff;
                match seen.get_mut(number as usize).filter(|_| entry.port == "a" && entry.bridge == "pods") {
                    Some(times) => *times += 1,
                    None => others += 1,
                }
            }
            match progress {
                Progress::More | Progress::Wait => {}
                Progress::Done(_) => return (seen, others),
                Progress::Failed(error) => panic!("{error}"),
            }
        }
    }
}

#[test]
fn a_million_addresses_are_learned_from_frames_listed_and_aged_out() {
    let started = Instant::now();
    let mut bench = three_with(FDB_ENTRIES_MAX);
    let known = Mac::from_bits(0x0600_0000_0001);
    bench.send("b", Mac::BROADCAST, known);
    let mut delivered = 0;
    bench.pass("a", (0..MILLION).map(|number| frame(known, mac(number), CROWD)), |port, _| {
        assert_eq!(port, 1, "a known address is not flooded");
        delivered += 1;
    });
    assert_eq!(delivered, MILLION);
    assert_eq!((bench.port("a").learned, bench.port("b").learned), (MILLION, 1));
    let (seen, others) = bench.listed(MILLION);
    assert!(seen.iter().all(|times| *times == 1), "each of them is listed once");
    assert_eq!(others, 1);
    let learned = started.elapsed();

    // Silence for longer than the ageing time of 300 s; then every look takes a bounded time.
    bench.now += Duration::from_secs(302);
    let (mut turns, mut longest) = (0, Duration::ZERO);
    while !bench.control.shared.fdb().is_empty() {
        let began = Instant::now();
        bench.control.turn(bench.now);
        longest = longest.max(began.elapsed());
        turns += 1;
        assert!(started.elapsed() < PATIENCE, "{} are left", bench.control.shared.fdb().len());
    }
    assert_eq!(bench.listed(MILLION), (vec![0; MILLION as usize], 0));
    assert_eq!(bench.send("c", mac(7), mac(8)), ["a", "b"], "what is forgotten is flooded");
    println!("learned and listed in {learned:?}, aged out in {turns} turns of at most {longest:?}");
    assert!(turns > 10, "ageing a million addresses is cut into slices");
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    bench.end();
}

#[test]
fn a_flood_of_sources_takes_no_known_station_its_place() {
    const ENTRIES: u32 = 4096;
    const PAIRS: u64 = 10;
    const STEPS: u64 = 1000;
    const EACH: usize = 1000;
    let mut bench = three_with(ENTRIES);
    let mut rng = StdRng::seed_from_u64(4);
    // Stations 0 to 9 are behind b, 100 to 109 behind c, and each talks to its partner once a second.
    let talk = |from: u64, to: u64| (0..PAIRS).map(move |pair| frame(mac(to + pair), mac(from + pair), FOLLOWED));
    for (port, from) in [("b", 0), ("c", 100)] {
        bench.pass(port, (0..PAIRS).map(|pair| frame(Mac::BROADCAST, mac(from + pair), CROWD)), |_, _| {});
    }
    let mut full = 0;
    for second in 0..STEPS {
        // Made-up sources, none of them a station; each sends to somebody known.
        let sources: Vec<u64> = (0..EACH).map(|_| 0x0600_0000_0000 | (rng.random::<u64>() >> 24)).collect();
        let crowd = sources.into_iter().map(|bits| frame(mac(0), Mac::from_bits(bits), CROWD));
        bench.pass("a", crowd, |port, _| assert_eq!(port, 1, "second {second}: a known station is flooded to"));
        let mut got = [0; 3];
        bench.pass("b", talk(0, 100), |port, frame| got[port] += usize::from(frame.get(12..14) == Some(&FOLLOWED)));
        bench.pass("c", talk(100, 0), |port, frame| got[port] += usize::from(frame.get(12..14) == Some(&FOLLOWED)));
        assert_eq!(got, [0, PAIRS as usize, PAIRS as usize], "second {second}: each to its port and nowhere else");
        full += u64::from(bench.control.shared.fdb().dynamic_len() == ENTRIES);
        assert!(bench.control.shared.fdb().dynamic_len() <= ENTRIES);
        // The flood lasts for three ageing times, so its own addresses come and go.
        bench.now += Duration::from_secs(1);
        bench.control.turn(bench.now);
    }
    assert!(full > STEPS / 2, "the table was full in {full} of {STEPS} seconds");
    assert_eq!((bench.port("b").learned, bench.port("c").learned), (PAIRS, PAIRS));
    bench.end();
}
