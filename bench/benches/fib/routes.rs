//! The routes and addresses that every table is given: drawn from a fixed seed. The C programs of `bench/yardstick`
//! read them from a file written here.

use std::collections::HashSet;
use std::io::{BufWriter, Write};
use std::path::Path;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use switch::ids::NextHopId;
use switch::table::fib::{Address, Prefix};

/// Addresses asked for of each kind.
pub const ASKED: usize = 1 << 20;

/// Routes in a hundred that lie inside another one.
const NESTED_PERCENT: u32 = 58;

/// Next hops of the routes; drawn so that the n-th is taken 1/n as often as the first.
const HOPS: usize = 200;

/// An address family of the bench.
pub trait Family: Address {
    /// Its name.
    const NAME: &'static str;
    /// What a table of this family has entries of.
    const ROUTES: &'static str;
    /// How many prefixes of each length there are, in any unit. Shorter lengths first.
    const LENGTHS: &'static [(usize, u32)];

    /// The address of these bits.
    fn of_bits(bits: u128) -> Self;
    /// A random address where prefixes may lie.
    fn anywhere(random: &mut StdRng) -> Self;
}

impl Family for u32 {
    const NAME: &'static str = "ipv4";
    const ROUTES: &'static str = "ipv4 routes";
    /// Of a router's table, as DPDK's test of its LPM tables has it; but for /16, of which that has more than can be
    /// different: here as many as public tables have.
    const LENGTHS: &'static [(usize, u32)] = &[
        (8, 210),
        (9, 37),
        (10, 55),
        (11, 97),
        (12, 381),
        (13, 775),
        (14, 2_104),
        (15, 3_712),
        (16, 13_319),
        (17, 12_983),
        (18, 23_667),
        (19, 69_068),
        (20, 62_354),
        (21, 48_531),
        (22, 72_355),
        (23, 85_427),
        (24, 583_898),
        (25, 2_654),
        (26, 5_650),
        (27, 6_467),
        (28, 7_127),
        (29, 12_936),
        (30, 5_999),
        (31, 13),
        (32, 982),
    ];

    fn of_bits(bits: u128) -> u32 {
        bits as u32
    }

    /// Of the classes A to C.
    fn anywhere(random: &mut StdRng) -> u32 {
        random.random_range(0x0100_0000..0xe000_0000)
    }
}

impl Family for u128 {
    const NAME: &'static str = "ipv6";
    const ROUTES: &'static str = "ipv6 routes";
    /// In per cent: the mix of a public table, with a mean of 42.8 bits.
    const LENGTHS: &'static [(usize, u32)] = &[
        (29, 2),
        (32, 12),
        (33, 2),
        (34, 2),
        (35, 2),
        (36, 5),
        (40, 10),
        (42, 2),
        (44, 11),
        (45, 2),
        (46, 2),
        (47, 2),
        (48, 46),
    ];

    fn of_bits(bits: u128) -> u128 {
        bits
    }

    /// In what the registries give out.
    fn anywhere(random: &mut StdRng) -> u128 {
        const BLOCKS: [(u128, u32); 6] =
            [(0x2001, 16), (0x2400, 12), (0x2600, 12), (0x2800, 12), (0x2a00, 12), (0x2c00, 12)];
        let (top, length) = BLOCKS[random.random_range(0..BLOCKS.len())];
        top << 112 | random.random::<u128>() >> length
    }
}

/// What is measured with.
pub struct Routes<A> {
    /// In random order.
    pub routes: Vec<(Prefix<A>, NextHopId)>,
    /// Addresses, each in a route drawn at random.
    pub inside: Vec<A>,
    /// Addresses anywhere.
    pub anywhere: Vec<A>,
    /// One address in a route, again and again.
    pub one: Vec<A>,
}

impl<A: Family> Routes<A> {
    /// `count` different routes and the addresses to ask for.
    pub fn draw(count: usize) -> Routes<A> {
        let mut random = StdRng::seed_from_u64(count as u64);
        let mut routes = Vec::with_capacity(count);
        let mut known = HashSet::with_capacity(count);
        let unit = f64::from(A::LENGTHS.iter().map(|(_, share)| share).sum::<u32>());
        let mut share_before = 0;
        for &(length, share) in A::LENGTHS {
            let parents = routes.len();
            share_before += share;
            let end = (f64::from(share_before) / unit * count as f64).round() as usize;
            while routes.len() < end {
                let nested = parents > 0 && random.random_range(0..100) < NESTED_PERCENT;
                let address = if nested {
                    let (parent, _): (Prefix<A>, NextHopId) = routes[random.random_range(0..parents)];
                    within(&mut random, parent)
                } else {
                    A::anywhere(&mut random)
                };
                let prefix = Prefix::of(address, length).expect("a length of the family");
                if known.insert(prefix) {
                    routes.push((prefix, hop(&mut random)));
                }
            }
        }
        routes.shuffle(&mut random);
        let mut drawn = || {
            let (route, _) = routes[random.random_range(0..count)];
            within(&mut random, route)
        };
        let inside: Vec<A> = (0..ASKED).map(|_| drawn()).collect();
        let anywhere = (0..ASKED).map(|_| A::anywhere(&mut random)).collect();
        let one = vec![inside[0]; ASKED];
        Routes { routes, inside, anywhere, one }
    }

    /// Writes all of it for another program: numbers of routes and addresses, then the routes (address, length, next
    /// hop), then the addresses of each kind. Numbers are of 32 bits in this machine's order; addresses of 16 octets in
    /// wire order, the first four of which are those of IPv4.
    pub fn write(&self, path: &Path) -> std::io::Result<()> {
        let mut file = BufWriter::new(std::fs::File::create(path)?);
        let number = |file: &mut BufWriter<_>, number: usize| file.write_all(&(number as u32).to_ne_bytes());
        let octets = |file: &mut BufWriter<_>, address: A| {
            address.to_words().iter().try_for_each(|word| file.write_all(&word.to_be_bytes()))
        };
        number(&mut file, self.routes.len())?;
        number(&mut file, ASKED)?;
        for &(prefix, hop) in &self.routes {
            octets(&mut file, prefix.address())?;
            number(&mut file, prefix.length())?;
            number(&mut file, hop.index())?;
        }
        for address in [&self.inside, &self.anywhere, &self.one].into_iter().flatten() {
            octets(&mut file, *address)?;
        }
        file.flush()
    }
}

/// A random address of a prefix.
fn within<A: Family>(random: &mut StdRng, prefix: Prefix<A>) -> A {
    let anything = A::of_bits(random.random());
    let mut address = prefix.address();
    // All bits behind the prefix are zero there.
    for at in prefix.length() / 8..A::OCTETS {
        let kept = 0xff_usize >> prefix.length().saturating_sub(at * 8).min(8);
        address = address.with_octet(at, anything.octet(at) & kept);
    }
    address
}

fn hop(random: &mut StdRng) -> NextHopId {
    let harmonic: f64 = (1..=HOPS).map(|n| 1.0 / n as f64).sum();
    let mut rest = random.random::<f64>() * harmonic;
    let hop = (1..HOPS).find(|&n| {
        rest -= 1.0 / n as f64;
        rest < 0.0
    });
    NextHopId::new(hop.unwrap_or(HOPS)).expect("below the most next hops")
}
