//! The FDB and the Rust maps it is measured against, behind one trait.
//!
//! The maps are given room for everything beforehand and hashbrown's own hash (foldhash with random seeds), which is
//! quicker than their default. Their values are what the FDB answers.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use dashmap::DashMap;
use hashbrown::{DefaultHashBuilder, HashMap};
use switch::ids::PortId;
use switch::limits::BURST;
use switch::table::fdb::{Fdb, Hit, Kind, Learn, LearnLimits, MacKey};

/// What a burst of lookups found.
pub type Found = [Option<Hit>; BURST];

/// Something that knows which port an address is behind.
pub trait Table: Sized {
    /// Its name in the results.
    const NAME: &'static str;

    /// An empty one with room for `count` addresses.
    fn with_room(count: usize) -> Self;

    /// Learns new addresses, of which the first has this number; [`hit`] says what of each.
    fn learn(&mut self, first: usize, keys: &[MacKey]);

    /// What is known of one address.
    fn find(&self, key: MacKey) -> Option<Hit>;

    /// The same for a burst at once, if that is another way. Answers whether it is.
    fn find_burst(&self, _burst: &[MacKey], _found: &mut Found) -> bool {
        false
    }
}

/// One that threads may write to at once.
pub trait Concurrent: Table + Sync {
    /// As [`Table::learn`].
    fn learn_shared(&self, first: usize, keys: &[MacKey]);
}

/// What is known of the address with this number.
fn hit(number: usize) -> Hit {
    Hit { port: PortId::new(number % 256).expect("below the most ports"), kind: Kind::Dynamic, stamp_s: 1 }
}

impl Table for Fdb {
    const NAME: &'static str = "fdb";

    fn with_room(count: usize) -> Fdb {
        Fdb::new(count as u32, RandomState::new().hash_one(count))
    }

    fn learn(&mut self, first: usize, keys: &[MacKey]) {
        self.learn_shared(first, keys);
    }

    fn find(&self, key: MacKey) -> Option<Hit> {
        self.lookup(key)
    }

    fn find_burst(&self, burst: &[MacKey], found: &mut Found) -> bool {
        burst.iter().for_each(|&key| {
            self.home(key);
        });
        burst.iter().zip(found).for_each(|(&key, found)| *found = self.lookup(key));
        true
    }
}

impl Concurrent for Fdb {
    fn learn_shared(&self, first: usize, keys: &[MacKey]) {
        for (at, &key) in keys.iter().enumerate() {
            let Hit { port, stamp_s, .. } = hit(first + at);
            let answer = Fdb::learn(self, key, port, stamp_s, LearnLimits::NONE);
            // The rest: an address that was drawn twice.
            let there = matches!(answer, Learn::Learned | Learn::Known | Learn::Moved { .. });
            assert!(there, "address {}: {answer:?}", first + at);
        }
    }
}

impl Table for HashMap<MacKey, Hit> {
    const NAME: &'static str = "hashbrown";

    fn with_room(count: usize) -> Self {
        HashMap::with_capacity(count)
    }

    fn learn(&mut self, first: usize, keys: &[MacKey]) {
        for (at, &key) in keys.iter().enumerate() {
            self.insert(key, hit(first + at));
        }
    }

    fn find(&self, key: MacKey) -> Option<Hit> {
        self.get(&key).copied()
    }
}

impl Table for DashMap<MacKey, Hit, DefaultHashBuilder> {
    const NAME: &'static str = "dashmap";

    fn with_room(count: usize) -> Self {
        DashMap::with_capacity_and_hasher(count, DefaultHashBuilder::default())
    }

    fn learn(&mut self, first: usize, keys: &[MacKey]) {
        self.learn_shared(first, keys);
    }

    fn find(&self, key: MacKey) -> Option<Hit> {
        self.get(&key).map(|hit| *hit)
    }
}

impl Concurrent for DashMap<MacKey, Hit, DefaultHashBuilder> {
    fn learn_shared(&self, first: usize, keys: &[MacKey]) {
        for (at, &key) in keys.iter().enumerate() {
            self.insert(key, hit(first + at));
        }
    }
}

impl Table for papaya::HashMap<MacKey, Hit, DefaultHashBuilder> {
    const NAME: &'static str = "papaya";

    fn with_room(count: usize) -> Self {
        papaya::HashMap::with_capacity_and_hasher(count, DefaultHashBuilder::default())
    }

    fn learn(&mut self, first: usize, keys: &[MacKey]) {
        self.learn_shared(first, keys);
    }

    fn find(&self, key: MacKey) -> Option<Hit> {
        self.pin().get(&key).copied()
    }

    fn find_burst(&self, burst: &[MacKey], found: &mut Found) -> bool {
        let pinned = self.pin();
        burst.iter().zip(found).for_each(|(key, found)| *found = pinned.get(key).copied());
        true
    }
}

impl Concurrent for papaya::HashMap<MacKey, Hit, DefaultHashBuilder> {
    fn learn_shared(&self, first: usize, keys: &[MacKey]) {
        for (burst, keys) in keys.chunks(BURST).enumerate() {
            let pinned = self.pin();
            for (at, &key) in keys.iter().enumerate() {
                pinned.insert(key, hit(first + burst * BURST + at));
            }
        }
    }
}
