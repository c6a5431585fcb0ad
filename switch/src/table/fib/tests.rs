//! One thread: tables against a plain list of prefixes that is searched from end to end, and what they take.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::*;
use crate::ids::NextHopId;
use crate::table::grace::Grace;

fn hop(index: usize) -> NextHopId {
    NextHopId::new(index).unwrap()
}

fn writer<A: Address>() -> FibWriter<A> {
    FibWriter::new(Arc::new(Grace::new(1)))
}

/// All routes in a list.
#[derive(Default)]
struct Model<A>(Vec<(Prefix<A>, NextHopId)>);

impl<A: Address> Model<A> {
    fn get(&self, prefix: Prefix<A>) -> Option<NextHopId> {
        self.0.iter().find(|(other, _)| *other == prefix).map(|&(_, hop)| hop)
    }

    fn set(&mut self, prefix: Prefix<A>, hop: NextHopId) -> NextHopId {
        let was = self.get(prefix).unwrap_or(NextHopId::NONE);
        self.0.retain(|(other, _)| *other != prefix);
        if !hop.is_none() {
            self.0.push((prefix, hop));
        }
        was
    }

    fn longest(&self, address: A) -> Option<(Prefix<A>, NextHopId)> {
        let matching = self.0.iter().filter(|(prefix, _)| prefix.contains(address));
        matching.max_by_key(|(prefix, _)| prefix.length()).copied()
    }

    fn lookup(&self, address: A) -> NextHopId {
        self.longest(address).map_or(NextHopId::NONE, |(_, hop)| hop)
    }

    fn sorted(&self) -> Vec<(Prefix<A>, NextHopId)> {
        let mut all = self.0.clone();
        all.sort_by_key(|&(prefix, _)| prefix);
        all
    }
}

/// A table, its model, and what readers were given last.
struct Bed<A: Address> {
    writer: FibWriter<A>,
    reader: Arc<Fib<A>>,
    model: Model<A>,
}

impl<A: Address> Bed<A> {
    fn new() -> Bed<A> {
        let writer = writer::<A>();
        Bed { reader: writer.table().clone(), writer, model: Model(Vec::new()) }
    }

    fn set(&mut self, prefix: Prefix<A>, hop: NextHopId) {
        let changed = if hop.is_none() { self.writer.remove(prefix) } else { self.writer.insert(prefix, hop) };
        assert_eq!(changed.was, self.model.set(prefix, hop), "{prefix}");
        if let Some(replaced) = changed.replaced {
            self.reader = replaced;
        }
    }

    fn load(&mut self, routes: &[(Prefix<A>, NextHopId)]) {
        self.reader = self.writer.load(routes.iter().copied());
        self.model = Model(Vec::new());
        for &(prefix, hop) in routes {
            self.model.set(prefix, hop);
        }
    }

    /// Compares the answers for the first and last address of each prefix, and for those beside them.
    fn check(&self, also: &[A]) {
        let edges = self.model.0.iter().flat_map(|&(prefix, _)| edges(prefix));
        let addresses: Vec<A> = edges.chain(also.iter().copied()).collect();
        let mut found = vec![hop(77); addresses.len()];
        self.reader.lookup_batch(&addresses, &mut found);
        for (&address, &found) in addresses.iter().zip(&found) {
            let expected = self.model.lookup(address);
            assert_eq!(self.reader.lookup(address), expected, "{address:x?} of {:?}", self.model.0);
            assert_eq!(found, expected, "{address:x?} in a batch of {:?}", self.model.0);
        }
        assert_eq!(self.writer.len(), self.model.0.len());
    }

    /// Compares the questions of the control thread.
    fn check_control(&self, also: &[A]) {
        for &address in also {
            assert_eq!(self.writer.longest(address), self.model.longest(address), "{address:x?}");
        }
        let sorted = self.model.sorted();
        assert!(self.writer.routes(None).eq(sorted.iter().copied()));
        for &(prefix, hop) in sorted.iter().take(8) {
            assert_eq!(self.writer.get(prefix), Some(hop));
            let behind = sorted.iter().copied().filter(|(other, _)| *other > prefix);
            assert!(self.writer.routes(Some(prefix)).eq(behind), "behind {prefix}");
        }
    }

    /// The trie that changes made must be the one that would have been built: nothing is left of what went.
    fn check_shape(&self) {
        let routes: Vec<_> = self.writer.routes(None).map(|(prefix, hop)| (prefix, hop.bits())).collect();
        let (_, built) = build::build(&routes);
        let (_, packed) = build::copy(&self.reader);
        if self.reader.root.len() == 256 && routes.len() < A::WIDE_ROUTES {
            assert_eq!(self.writer.lines_used(), built, "{routes:?}");
        }
        assert_eq!(self.writer.lines_used(), packed);
    }
}

/// The first and last address of a prefix, and those before and behind.
fn edges<A: Address>(prefix: Prefix<A>) -> impl Iterator<Item = A> {
    let (first, last) = (prefix.address().to_words(), prefix.last().to_words());
    [moved::<A>(first, false), prefix.address(), prefix.last(), moved::<A>(last, true)].into_iter()
}

/// The next address, or the one before.
fn moved<A: Address>(words: [u32; 4], up: bool) -> A {
    let all = words.iter().fold(0u128, |all, &word| all << 32 | u128::from(word));
    let one = 1u128 << (128 - A::OCTETS * 8);
    address(if up { all.wrapping_add(one) } else { all.wrapping_sub(one) })
}

/// The address of the first bits.
fn address<A: Address>(bits: u128) -> A {
    A::from_words(bits.to_words())
}

/// Bits crowded together, so that prefixes nest, share nodes and part at every depth.
fn crowded() -> impl Strategy<Value = u128> {
    let octet = prop_oneof![Just(0u8), Just(1), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    prop::collection::vec(octet, 16)
        .prop_map(|octets| octets.into_iter().fold(0, |all, one| all << 8 | u128::from(one)))
}

fn prefix_of<A: Address>(bits: u128, length: usize) -> Prefix<A> {
    Prefix::of(address::<A>(bits), length % (A::OCTETS * 8 + 1)).unwrap()
}

/// What a step of a random run does: sets routes of a pool (hop 0 removes), or loads all anew.
#[derive(Debug, Clone)]
enum Step {
    Set(usize, usize),
    Load(Vec<(usize, usize)>),
    Reclaim,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let set = || (any::<prop::sample::Index>(), 0usize..4).prop_map(|(at, hop)| (at.index(POOL), hop));
    let step = prop_oneof![
        40 => set().prop_map(|(at, hop)| Step::Set(at, hop)),
        1 => prop::collection::vec(set(), 0..20).prop_map(Step::Load),
        4 => Just(Step::Reclaim),
    ];
    prop::collection::vec(step, 1..80)
}

const POOL: usize = 24;

fn pool() -> impl Strategy<Value = Vec<(u128, usize)>> {
    prop::collection::vec((crowded(), 0usize..=128), POOL)
}

/// Addresses asked for beside those at the edges of prefixes.
fn also() -> impl Strategy<Value = Vec<u128>> {
    prop::collection::vec(crowded(), 8)
}

fn run<A: Address>(pool: &[(u128, usize)], steps: &[Step], also: &[u128]) {
    let mut bed = Bed::<A>::new();
    let prefixes: Vec<_> = pool.iter().map(|&(bits, length)| prefix_of::<A>(bits, length)).collect();
    let also: Vec<A> = also.iter().map(|&bits| address(bits)).collect();
    for step in steps {
        match step {
            Step::Set(at, index) => bed.set(prefixes[*at], hop(*index)),
            Step::Load(routes) => {
                let routes: Vec<_> = routes.iter().map(|&(at, index)| (prefixes[at], hop(index))).collect();
                bed.load(&routes);
            }
            Step::Reclaim => assert_eq!(bed.writer.reclaim(), 0, "a worker that never ran holds nothing"),
        }
        bed.check(&also);
        bed.check_shape();
    }
    bed.check_control(&also);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn ipv4_tables_answer_as_a_list_does(pool in pool(), steps in steps(), also in also()) {
        run::<u32>(&pool, &steps, &also);
    }

    #[test]
    fn ipv6_tables_answer_as_a_list_does(pool in pool(), steps in steps(), also in also()) {
        run::<u128>(&pool, &steps, &also);
    }
}

/// Random routes, most of them of a few lengths, below a few short prefixes.
fn routes<A: Address>(random: &mut StdRng, count: usize) -> Vec<(Prefix<A>, NextHopId)> {
    let bits = A::OCTETS * 8;
    let bases: Vec<u128> = (0..20).map(|_| random.random()).collect();
    let route = |_| {
        let common = random.random_range(4..20);
        let base = bases[random.random_range(0..bases.len())].keep(common);
        let length = match random.random_range(0..10) {
            0 => random.random_range(0..=bits),
            1 => bits,
            2..4 => bits * 3 / 8,
            4..6 => bits / 2,
            _ => bits * 3 / 4,
        };
        let address = address(base | random.random::<u128>() >> common);
        (Prefix::of(address, length).unwrap(), hop(random.random_range(1..200)))
    };
    (0..count).map(route).collect()
}

/// A map from prefixes, asked for every length: quick enough for large tables.
fn by_length<A: Address>(map: &BTreeMap<Prefix<A>, NextHopId>, address: A) -> NextHopId {
    let lengths = (0..=A::OCTETS * 8).rev();
    lengths.filter_map(|length| map.get(&Prefix::of(address, length)?)).next().copied().unwrap_or(NextHopId::NONE)
}

/// Loads half a large table, inserts the rest, removes it again in another order; compares all the way.
fn large<A: Address>(seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    let all = routes::<A>(&mut random, 12_000);
    let mut map: BTreeMap<_, _> = all[..6_000].iter().copied().collect();
    let mut writer = writer::<A>();
    let mut reader = writer.load(all[..6_000].iter().copied());
    let mut check = |reader: &Fib<A>, map: &BTreeMap<_, _>, prefix: Prefix<A>| {
        let inside = address::<A>(random.random());
        let inside = inside.common(prefix.address());
        for at in edges(prefix).chain([prefix.address().fill(inside.max(prefix.length()))]) {
            assert_eq!(reader.lookup(at), by_length(map, at), "{at:x?} at the edge of {prefix}");
        }
    };
    for (number, &(prefix, hop)) in all[6_000..].iter().enumerate() {
        let changed = writer.insert(prefix, hop);
        reader = changed.replaced.unwrap_or(reader);
        assert_eq!(changed.was, map.insert(prefix, hop).unwrap_or_default());
        check(&reader, &map, prefix);
        check(&reader, &map, all[number].0);
    }
    for number in 0..all.len() {
        let (prefix, _) = all[number * 7_001 % all.len()];
        let changed = writer.remove(prefix);
        reader = changed.replaced.unwrap_or(reader);
        assert_eq!(changed.was, map.remove(&prefix).unwrap_or_default());
        check(&reader, &map, prefix);
        check(&reader, &map, all[number].0);
    }
    assert!(writer.is_empty() && writer.lines_used() == 1, "{} lines of nothing", writer.lines_used());
}

#[test]
fn a_large_ipv4_table_fills_and_empties() {
    large::<u32>(1);
}

#[test]
fn a_large_ipv6_table_fills_and_empties() {
    large::<u128>(2);
}

#[test]
fn a_table_grows_from_nothing_route_by_route_and_widens_its_root() {
    let mut random = StdRng::seed_from_u64(3);
    let (mut bed, mut replaced) = (Bed::<u32>::new(), 0);
    for (prefix, hop) in routes(&mut random, 4_000) {
        let before = Arc::as_ptr(bed.writer.table());
        bed.set(prefix, hop);
        replaced += usize::from(before != Arc::as_ptr(bed.writer.table()));
    }
    let widths = bed.reader.octets.iter().map(root::Octet::width);
    let wide = widths.clone().filter(|&width| width == u32::WIDE_BITS).count();
    assert!(wide > 0 && widths.filter(|&width| width == 0).count() == 256 - wide, "{wide} octets");
    assert!((5..50).contains(&replaced), "replaced {replaced} times");
    bed.check(&[]);
    bed.check_shape();
    bed.check_control(&[0, u32::MAX]);
}

#[test]
fn empty_and_small_tables_take_little_memory() {
    let mut v4 = writer::<u32>();
    let mut v6 = writer::<u128>();
    assert!(v4.bytes() <= 3_200 && v6.bytes() <= 3_200, "{} and {} bytes of nothing", v4.bytes(), v6.bytes());
    for host in 0..20u8 {
        let _ = v4.insert(Prefix::host(u32::from_be_bytes([10, 244, 3, host])), hop(1 + host as usize));
        let _ = v6.insert(Prefix::host(0xfd00_u128 << 112 | u128::from(host) << 64 | 1), hop(1 + host as usize));
    }
    assert!(v4.bytes() <= 10_000 && v6.bytes() <= 12_000, "{} and {} bytes of 20 routes", v4.bytes(), v6.bytes());
}

#[test]
fn large_tables_take_what_they_are_said_to() {
    let mut random = StdRng::seed_from_u64(4);
    // Routes at random, so that hardly two share a node of the last level: worse than any table in use.
    let route =
        |random: &mut StdRng| (Prefix::of(random.random::<u32>(), 24).unwrap(), hop(random.random_range(1..200)));
    let mut v4 = writer::<u32>();
    let _ = v4.load((0..200_000).map(|_| route(&mut random)));
    let each = v4.bytes() / v4.len();
    assert!((20..100).contains(&each), "{each} bytes for each /24");
    let route =
        |random: &mut StdRng| (Prefix::of(random.random::<u128>(), 48).unwrap(), hop(random.random_range(1..200)));
    let mut v6 = writer::<u128>();
    let _ = v6.load((0..50_000).map(|_| route(&mut random)));
    let each = v6.bytes() / v6.len();
    assert!((100..260).contains(&each), "{each} bytes for each /48");
}

#[test]
fn memory_stays_what_it_is_over_a_million_changes() {
    let mut random = StdRng::seed_from_u64(5);
    let grace = Arc::new(Grace::new(1));
    let mut writer = FibWriter::<u32>::new(grace.clone());
    let pool = routes::<u32>(&mut random, 4_000);
    let _ = writer.load(pool.iter().copied().step_by(2));
    grace.wake(0);
    let (mut replaced, mut most) = (0, 0);
    for round in 0..1_000_000 {
        let (prefix, hop) = pool[random.random_range(0..pool.len())];
        let changed = if random.random() { writer.insert(prefix, hop) } else { writer.remove(prefix) };
        replaced += usize::from(changed.replaced.is_some());
        if round % 64 == 0 {
            grace.pass(0);
        }
        most = most.max(writer.bytes());
    }
    let packed = {
        let mut packed = FibWriter::<u32>::new(Arc::new(Grace::new(0)));
        let _ = packed.load(writer.routes(None));
        packed.bytes()
    };
    assert!(most < packed * 2, "{most} bytes at most, {packed} when built anew");
    assert!(replaced < 100, "replaced {replaced} times");
    grace.pass(0);
    assert_eq!(writer.reclaim(), 0, "the worker has passed");
}

#[test]
fn what_a_worker_may_hold_is_not_used_again() {
    let grace = Arc::new(Grace::new(1));
    let mut writer = FibWriter::<u32>::new(grace.clone());
    let host = |last: u32| Prefix::host(0x0a00_0000 | last);
    let _ = writer.insert(host(1), hop(1));
    grace.wake(0);
    let _ = writer.insert(host(9), hop(2));
    assert_eq!(writer.reclaim(), 1, "the node as it was waits");
    grace.pass(0);
    assert_eq!(writer.reclaim(), 0);
    let _ = writer.remove(host(9));
    grace.sleep(0);
    assert_eq!(writer.reclaim(), 0, "a sleeping worker holds nothing");
}
