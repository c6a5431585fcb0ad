//! The FIB and the Rust tables it is measured against, behind one trait.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::sync::Arc;

use ip_network::{Ipv4Network, Ipv6Network};
use ip_network_table::IpNetworkTable;
use prefix_trie::PrefixMap;
use switch::ids::NextHopId;
use switch::limits::{BURST, FIB_HUGE_BYTES};
use switch::port::afxdp::prefer_huge;
use switch::table::fib::{Fib, FibWriter, Prefix};
use switch::table::grace::Grace;

use crate::routes::Family;

/// Something that knows the longest prefix that contains an address.
pub trait Table<A: Family> {
    /// One with these routes.
    fn load(routes: &[(Prefix<A>, NextHopId)]) -> Self;

    /// Adds a route.
    fn insert(&mut self, prefix: Prefix<A>, hop: NextHopId);

    /// Removes a route.
    fn remove(&mut self, prefix: Prefix<A>);

    /// The next hop for one address.
    fn find(&self, address: A) -> NextHopId;

    /// The same for a burst at once, if that is another way. Answers whether it is.
    fn find_burst(&self, _burst: &[A], _found: &mut [NextHopId; BURST]) -> bool {
        false
    }

    /// Bytes in use by its own account.
    fn bytes(&self) -> Option<usize> {
        None
    }
}

/// The FIB with both its halves.
pub struct Ours<A: Family> {
    writer: FibWriter<A>,
    reader: Arc<Fib<A>>,
}

impl<A: Family> Table<A> for Ours<A> {
    fn load(routes: &[(Prefix<A>, NextHopId)]) -> Self {
        let mut writer = FibWriter::new(Arc::new(Grace::new(1)));
        let reader = writer.load(routes.iter().copied());
        on_huge_pages(&reader);
        Ours { writer, reader }
    }

    fn insert(&mut self, prefix: Prefix<A>, hop: NextHopId) {
        if let Some(replaced) = self.writer.insert(prefix, hop).replaced {
            on_huge_pages(&replaced);
            self.reader = replaced;
        }
    }

    fn remove(&mut self, prefix: Prefix<A>) {
        if let Some(replaced) = self.writer.remove(prefix).replaced {
            on_huge_pages(&replaced);
            self.reader = replaced;
        }
    }

    fn find(&self, address: A) -> NextHopId {
        self.reader.lookup(address)
    }

    fn find_burst(&self, burst: &[A], found: &mut [NextHopId; BURST]) -> bool {
        self.reader.lookup_batch(burst, found);
        true
    }

    fn bytes(&self) -> Option<usize> {
        Some(self.writer.bytes())
    }
}

/// What the switch does to large tables before workers have them.
fn on_huge_pages<A>(fib: &Fib<A>) {
    let large = |memory: &Range<*const u8>| memory.end.addr() - memory.start.addr() >= FIB_HUGE_BYTES;
    fib.memory().into_iter().filter(large).for_each(|memory| {
        prefer_huge(memory);
    });
}

impl<A: Family> Table<A> for PrefixMap<(A, u8), NextHopId>
where
    (A, u8): prefix_trie::Prefix,
{
    fn load(routes: &[(Prefix<A>, NextHopId)]) -> Self {
        routes.iter().map(|&(prefix, hop)| (pair(prefix), hop)).collect()
    }

    fn insert(&mut self, prefix: Prefix<A>, hop: NextHopId) {
        PrefixMap::insert(self, pair(prefix), hop);
    }

    fn remove(&mut self, prefix: Prefix<A>) {
        PrefixMap::remove(self, &pair(prefix));
    }

    fn find(&self, address: A) -> NextHopId {
        self.get_lpm(&pair(Prefix::host(address))).map_or(NextHopId::NONE, |(_, hop)| *hop)
    }
}

fn pair<A: Family>(prefix: Prefix<A>) -> (A, u8) {
    (prefix.address(), prefix.length() as u8)
}

/// The table of the crate ip_network_table, which is a tree bitmap.
pub struct TreeBitmap(IpNetworkTable<NextHopId>);

impl Table<u32> for TreeBitmap {
    fn load(routes: &[(Prefix<u32>, NextHopId)]) -> Self {
        let mut table = TreeBitmap(IpNetworkTable::with_capacity(routes.len(), 0));
        routes.iter().for_each(|&(prefix, hop)| table.insert(prefix, hop));
        table
    }

    fn insert(&mut self, prefix: Prefix<u32>, hop: NextHopId) {
        self.0.insert(network4(prefix), hop);
    }

    fn remove(&mut self, prefix: Prefix<u32>) {
        self.0.remove(network4(prefix));
    }

    fn find(&self, address: u32) -> NextHopId {
        self.0.longest_match_ipv4(Ipv4Addr::from_bits(address)).map_or(NextHopId::NONE, |(_, hop)| *hop)
    }
}

impl Table<u128> for TreeBitmap {
    fn load(routes: &[(Prefix<u128>, NextHopId)]) -> Self {
        let mut table = TreeBitmap(IpNetworkTable::with_capacity(0, routes.len()));
        routes.iter().for_each(|&(prefix, hop)| table.insert(prefix, hop));
        table
    }

    fn insert(&mut self, prefix: Prefix<u128>, hop: NextHopId) {
        self.0.insert(network6(prefix), hop);
    }

    fn remove(&mut self, prefix: Prefix<u128>) {
        self.0.remove(network6(prefix));
    }

    fn find(&self, address: u128) -> NextHopId {
        self.0.longest_match_ipv6(Ipv6Addr::from_bits(address)).map_or(NextHopId::NONE, |(_, hop)| *hop)
    }
}

fn network4(prefix: Prefix<u32>) -> Ipv4Network {
    let address = Ipv4Addr::from_bits(prefix.address());
    Ipv4Network::new(address, prefix.length() as u8).expect("a prefix is a network")
}

fn network6(prefix: Prefix<u128>) -> Ipv6Network {
    let address = Ipv6Addr::from_bits(prefix.address());
    Ipv6Network::new(address, prefix.length() as u8).expect("a prefix is a network")
}
