//! The forwarding information base (FIB): which next hop the longest prefix that contains an address has, IPv4 or IPv6.
//!
//! Workers look up, the control thread writes, at once: lookups ([`Fib`]) take no lock and write nothing; changes
//! ([`FibWriter`]) are written aside and published by one store. What they replace is used again when the grace period
//! ([`crate::table::grace`]) is over. A lookup sees each change whole or not at all, but is no snapshot: one during
//! which a short prefix's next hop was changed and then a longer prefix removed may find the short one's old next hop.
//!
//! The structure is a trie whose root goes by the first octet, and by more bits where an octet has many routes
//! (`root`), with nodes for six bits each, of compressed runs of equal next hops: `node` has the layout. Next hops
//! are not copied into deeper nodes: what a node's prefixes say of a child stands in that child, and a lookup keeps
//! the last it met. So a change rewrites one node, however short the prefix. Bits that all routes below have in
//! common are skipped by the key of the node behind them. `build` makes whole tries, `rib` keeps the routes in order.

mod arena;
mod build;
mod lookup;
mod node;
mod prefix;
mod rib;
mod root;
#[cfg(test)]
mod stress_tests;
mod sync;
#[cfg(test)]
mod tests;
mod writer;

pub use lookup::Fib;
pub use prefix::{Address, Prefix};
pub use writer::{Changed, FibWriter};

/// IPv4 routes as readers see them.
pub type Fib4 = Fib<u32>;
/// IPv6 routes as readers see them.
pub type Fib6 = Fib<u128>;
